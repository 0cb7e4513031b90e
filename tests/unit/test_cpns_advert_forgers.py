"""Forgers who send ten adverts in a second while the PN GW shows an object: what share of the boards still has it."""

import random

import pytest
from advert_world import KEY, PN, adverts, forged, of_version, run

from cpns import advert, tuning
from cpns.errors import MalformedMessage

SIGNED = of_version(7)
ROWS = 6
BURST = 19  # ceil(2 k + 2.5 sqrt k)
EVENT_MS, FORGED_MS = 27, 100
LOSS = 0.3
GENUINE = adverts(SIGNED, range(256))


def sent_until_decoded(chance, loss, forge=None, limit=256):
    """Return how many genuine adverts were sent until one board has the object; None if it has not after `limit`.

    `forge(sent)` makes an advert of the forger, after so many genuine ones.
    """
    receiver = advert.Reassembly()
    next_forged = chance.random() * FORGED_MS
    losses = random.Random(chance.random())  # those of the genuine adverts are the same with and without a forger
    for sent in range(limit):
        heard = []
        while next_forged < sent * EVENT_MS:
            if forge and chance.random() >= loss:
                heard.append(forge(sent))
            next_forged += FORGED_MS
        if losses.random() >= loss:
            heard.append(GENUINE[sent % 256])
        for octets in heard:
            opened = advert.opened(KEY, octets)
            whole = receiver.take(opened[1], sent * EVENT_MS) if opened and opened[0] == advert.ROW else None
            if whole:
                try:
                    signed = run(receiver.finish(whole, PN))
                except MalformedMessage:
                    continue
                if signed:
                    return sent + 1 if signed == SIGNED else None
    return None


@pytest.mark.req("SEC-10")
def test_an_outsider_costs_no_board_a_single_advert():
    """It sends octets of no meaning, adverts that it has heard with changes in them, and those of older objects."""
    chance = random.Random(10)
    old = adverts(of_version(6), range(12))

    def forge(sent):
        changed = bytearray(GENUINE[sent])
        changed[chance.randrange(24)] ^= 1 << chance.randrange(8)
        return chance.choice([chance.randbytes(24), bytes(changed), chance.choice(old)])

    alone = [sent_until_decoded(random.Random(board), LOSS) for board in range(300)]
    beside = [sent_until_decoded(random.Random(board), LOSS, forge) for board in range(300)]
    assert beside == alone
    assert sorted(alone)[int(0.95 * len(alone))] <= 2 * ROWS


@pytest.mark.req("SEC-10")
@pytest.mark.parametrize("indexes", [range(ROWS, 256), range(BURST)], ids=["any repair row", "rows of this burst"])
def test_with_a_member_who_forges_most_boards_still_have_the_object_from_one_burst(indexes):
    chance = random.Random(11)

    def forge(sent):
        return forged(SIGNED, chance.choice(indexes), chance.randbytes(advert.ROW_SIZE))

    boards = [sent_until_decoded(random.Random(board), LOSS, forge, BURST) for board in range(600)]
    assert sum(sent is not None for sent in boards) / len(boards) >= 0.85


@pytest.mark.req("SEC-10")
def test_without_the_tries_few_would(monkeypatch):
    monkeypatch.setattr(tuning, "ADVERT_TRIES_MAX", 1)
    chance = random.Random(12)

    def forge(sent):
        return forged(SIGNED, chance.randrange(ROWS, 256), chance.randbytes(advert.ROW_SIZE))

    boards = [sent_until_decoded(random.Random(board), LOSS, forge, BURST) for board in range(300)]
    assert sum(sent is not None for sent in boards) / len(boards) < 0.6


@pytest.mark.req("SEC-10")
def test_a_member_who_begins_objects_costs_no_board_a_single_advert():
    chance = random.Random(13)

    def forge(sent):
        return forged(of_version(chance.randrange(10**6)), chance.randrange(256))

    alone = [sent_until_decoded(random.Random(board), LOSS) for board in range(200)]
    assert [sent_until_decoded(random.Random(board), LOSS, forge) for board in range(200)] == alone
