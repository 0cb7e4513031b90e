"""The order in which an update is broadcast, and what it costs."""

import random

import pytest

from gateway_agent.updates.schedule import AiringOrder
from suit import frames
from suit import numbers as n
from suit.erasure import Code

KIB_100 = 100 * 1024
ENVELOPE = 600  # octets


def schedule(size: int) -> tuple[AiringOrder, Code, int]:
    code = Code(size)
    pages = -(-code.frames // n.PAGE_FRAMES)
    return AiringOrder(code, pages), code, pages


@pytest.mark.parametrize("size", [1, 1024, 1025, 5000, KIB_100, 200_000, n.IMAGE_MAX])
def test_every_block_is_sent_once_and_every_page_four_times(size: int) -> None:
    order, code, pages = schedule(size)
    sent = [order.at(position) for position in range(len(order))]
    of_frames = [index for kind, index in sent if kind == n.FRAME]
    assert of_frames == list(range(len(of_frames))) and code.blocks <= len(of_frames) <= code.frames
    head = [(n.ENVELOPE, 0)] + [(n.PAGE, index) for index in range(pages)]
    assert sent[: 3 * len(head)] == head * 3
    assert sorted(each for each in sent if each[0] != n.FRAME) == sorted(head * 4)


def test_the_order_depends_on_the_image_only() -> None:
    one, other = schedule(KIB_100)[0], schedule(KIB_100)[0]
    assert [one.at(each) for each in range(len(one))] == [other.at(each) for each in range(len(other))]


@pytest.mark.parametrize("size", [KIB_100, n.IMAGE_MAX])
def test_an_airing_has_at_most_one_and_a_half_times_the_octets_of_the_image(size: int) -> None:
    order, code, pages = schedule(size)
    octets = {n.ENVELOPE: frames.HEAD + 10 + ENVELOPE, n.FRAME: frames.HEAD + n.BLOCK}
    last_page = (code.frames - (pages - 1) * n.PAGE_FRAMES) * n.HASH

    def length(kind: int, index: int) -> int:
        if kind == n.PAGE:
            return frames.HEAD + (last_page if index == pages - 1 else n.PAGE_FRAMES * n.HASH)
        return octets[kind]

    assert sum(length(*order.at(position)) for position in range(len(order))) <= 1.5 * size


def test_at_twenty_percent_loss_boards_pull_a_few_pieces_only() -> None:
    """A board that lacks manifest or page when it hears a frame pulls that one at once, as boards do."""
    order, code, _ = schedule(KIB_100)
    chance, pulled, boards = random.Random(7), 0, 100
    for _ in range(boards):
        have: set[tuple[int, int]] = set()
        for position in range(len(order)):
            piece = order.at(position)
            if chance.random() < 0.2:
                continue
            if piece[0] == n.FRAME:
                needs = {(n.ENVELOPE, 0), (n.PAGE, frames.page_of(piece[1])[0])} - have
                pulled += len(needs)
                have |= needs
            have.add(piece)
        block = 0
        while any(
            code.solve(segment, lambda index, held=have: (n.FRAME, index) in held) is None
            for segment in range(code.segments)
        ):
            if (n.FRAME, block) not in have:
                have.add((n.FRAME, block))
                pulled += 1
            block += 1
    assert pulled <= 0.02 * boards * code.blocks
