"""A PN GW that does anything at all with what it carries, by chance: nothing false is believed, and it all recovers."""

import asyncio
import contextlib
import random
import secrets

import pytest

from cpns import messages
from cpns import messages as m
from cpns import numbers as n
from cpns.errors import CpnsError
from message_plane.errors import PlaneError
from tests.integration.end_to_end_attacker import FROM_BOARD, TO_BOARD, TO_SERVER, HostileGateway, hands_on
from tests.integration.end_to_end_house import HOUR, SERVER_ID, SG, open_house, until

LEAVING = {
    (TO_BOARD, False): [n.S_GROUP_KEY_DELIVERY_REQUEST],
    (TO_SERVER, False): [n.S_GROUP_KEY_DELIVERY_RESPONSE, n.TUNNEL_REQUEST],
    (FROM_BOARD, True): [n.TUNNEL_RESPONSE, n.JOIN_RESPONSE, n.KEY_PULL_RESPONSE],
}
"""What it does not leave as it is. What it believes itself it lets alone: it is to work again in the end."""
NUMBERS = {m.VERSION: (0, 1, 2, 5, 0xFFFF, 0x10000, 0xFFFF_FFFF), m.TRUST: (1, 2), m.PROTECTION: (1, 2)}
TEXTS = {m.RETURN: ("1", "2", "3"), m.PNE_ID: ("lamp", "door", "spy"), m.SGID: (SG, "home/door"), m.PNID: ("home", "x")}


class Chance:
    """Judges what is seen, by a seed."""

    def __init__(self, seed: int, house) -> None:
        self._chance = random.Random(seed)
        self._house = house
        self.deeds = 0

    def judge(self, seen):
        if seen.code not in LEAVING.get((seen.way, seen.answer), ()) or self._chance.random() < 0.5:
            return seen.octets
        self.deeds += 1
        deed = self._chance.choice((self._withhold, self._repeat, self._change, self._spoil, self._repeat_elsewhere))
        return deed(seen)

    async def say(self):
        """Send something seen before to anybody."""
        old = self._chance.choice([seen for seen in self._house.hostile.seen if seen.octets])
        to = self._chance.choice((SERVER_ID, "lamp", "door"))
        with contextlib.suppress(PlaneError, CpnsError):
            await self._house.hostile.repeat(to, old.octets, timeout_s=3)

    def _withhold(self, seen):
        return b"" if seen.answer else None

    def _repeat(self, seen):
        like = [old for old in self._house.hostile.seen if (old.code, old.peer) == (seen.code, seen.peer)]
        return self._chance.choice(like).octets

    def _repeat_elsewhere(self, seen):
        return self._chance.choice([old for old in self._house.hostile.seen if old.code == seen.code]).octets

    def _change(self, seen):
        fields = dict(seen.fields)
        for label in fields:
            if label in NUMBERS and self._chance.random() < 0.5:
                fields[label] = self._chance.choice(NUMBERS[label])
            if label in TEXTS and self._chance.random() < 0.5:
                fields[label] = self._chance.choice(TEXTS[label])
        return messages.encode(seen.code, fields)

    def _spoil(self, seen):
        fields = dict(seen.fields)
        for label in (m.MAC, m.EUK_ID, m.DATAGRAM):
            if label in fields and self._chance.random() < 0.7:
                octets = bytearray(fields[label])
                octets[self._chance.randrange(len(octets))] ^= 1 << self._chance.randrange(8)
                fields[label] = bytes(octets)
        if m.GROUP_KEY_INFO in fields and self._chance.random() < 0.7:
            fields[m.GROUP_KEY_INFO] = fields[m.GROUP_KEY_INFO][0], secrets.token_bytes(24)
        return messages.encode(seen.code, fields)


@pytest.mark.req("SEC-25", "SEC-26")
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in (1, 2))])
async def test_whatever_it_does_by_chance_no_false_key_is_accepted_and_the_newest_arrives_in_the_end(tmp_path, seed):
    async with open_house(tmp_path) as house:
        await house.gateway("home", HostileGateway)
        house.create()
        for name in ("lamp", "door"):
            await house.member(name)
        await until(lambda: house.holds_newest())
        chance = Chance(seed, house)
        house.hostile.judge = chance.judge
        draw = random.Random(seed)
        for _ in range(25):
            house.server.app.update_key(SG)
            await chance.say()
            await asyncio.sleep(draw.choice((0.5, 5, 60, 300)))
            if draw.random() < 0.2:
                await draw.choice(list(house.boards.values())).restart()
        assert chance.deeds > 50
        house.check()
        house.hostile.judge = hands_on
        for board in house.boards.values():
            assert board.group() is None or board.group().ring.end_to_end
            if board.group() is None:
                await house.member(board.id)
        await until(lambda: house.holds_newest(), 2 * HOUR)
        house.check()
