"""All coded frames of an image, as the signer and the gateway make them."""

import random

import pytest

from suit import frames
from suit import numbers as n
from suit.coded import CodedImage
from suit.erasure import xor


@pytest.mark.req("SEC-10")
def test_pages_list_every_frame() -> None:
    coded = CodedImage(random.Random(1).randbytes(100 * n.BLOCK - 3))
    pages, listed = coded.pages(), coded.page_list()
    assert [len(page) // n.HASH for page in pages] == [64, 64, 22]
    assert all(frames.listed(listed, number, page) for number, page in enumerate(pages))
    for index in range(coded.code.frames):
        page, place = frames.page_of(index)
        assert frames.listed(pages[page], place, coded.frame(index))
    with pytest.raises(IndexError):
        coded.frame(coded.code.frames)


@pytest.mark.parametrize("blocks", [100, 300, 1536])
def test_a_fifth_of_136_percent_may_be_lost(blocks: int) -> None:
    """Nearly all boards have the image when 1.36 times its octets were aired and a fifth of them was lost."""
    coded = CodedImage(random.Random(blocks).randbytes(blocks * n.BLOCK))
    code, aired = coded.code, round(1.36 * blocks)
    chance, missing, boards = random.Random(2), 0, 60
    for _ in range(boards):
        held = {index for index in range(aired) if chance.random() >= 0.2}
        for segment in range(code.segments):
            found = code.solve(segment, held.__contains__)
            if found is None:
                gaps = sum(1 for block in range(segment, blocks, code.segments) if block not in held)
                missing += gaps - sum(1 for index in held if index >= blocks and code.segment(index) == segment) + 3
            else:
                for block, sources in found[:1]:
                    assert xor(coded.frame, sources) == coded.block(block)
    assert missing <= 0.02 * boards * blocks
