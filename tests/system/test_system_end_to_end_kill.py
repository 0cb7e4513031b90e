"""The gateway is killed at any moment while it carries keys of an end-to-end group; so is the CPNS Server."""

import asyncio
import random

import pytest

from cpns import messages as m
from cpns import numbers as n
from tests.integration.end_to_end_house import SG
from tests.system.end_to_end_home import open_home
from tests.system.wire import NonceWatch, Wire

KILLS = 6


def watch_the_tunnel(board) -> NonceWatch:
    """Look at the datagrams that a board exchanges with the Server, outside of its session with the gateway."""
    watch, session = NonceWatch(), board.agent.session
    ask = session.ask

    def watched(options, octets, *more):
        code, fields = m.decode(octets) if octets else (0, {})
        if code == n.TUNNEL_REQUEST:
            watch.see(fields[m.DATAGRAM], True)
        answer = yield from ask(options, octets, *more)
        if code == n.TUNNEL_REQUEST:
            datagram = m.decode(answer[1])[1].get(m.DATAGRAM)
            if datagram:
                watch.see(datagram, False)
        return answer

    session.ask = watched
    return watch


@pytest.mark.req("SEC-22", "SEC-23", "SEC-25")
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.long)])
async def test_whoever_is_killed_whenever_the_newest_key_arrives_and_nothing_is_used_twice(tmp_path, seed):
    chance = random.Random(seed)
    async with open_home(tmp_path) as home:
        await home.group("create", SG, "--open-to", "home", "--trust", "end-to-end")
        wires, watches = [], []
        for name in ("lamp", "door"):
            wires.append(await Wire.open((home.gateway.address, home.gateway.port)))
            board = await home.board(name, wires[-1].address)
            watches.append(watch_the_tunnel(board))
        await asyncio.gather(*(board.node.join(SG, trust="end-to-end") for board in home.boards.values()))
        versions = [await home.all_hold_the_newest()]
        victims = [home.gateway] * KILLS + [home.server] * (KILLS // 3)
        chance.shuffle(victims)
        for victim in victims:
            versions.append(await home.server.ask("group.update", sg_id=SG))
            await asyncio.sleep(chance.uniform(0, 0.5))
            await victim.kill()
            await victim.start()
        await home.server.ask("group.update", sg_id=SG)
        versions.append(await home.all_hold_the_newest())
        assert versions == sorted(set(versions))  # no version is given out twice
        for board in home.boards.values():
            told = [values["version"] for values in board.told("key")]
            assert told == sorted(set(told))
            assert all(len(keys) == 1 for keys in board.accepted.values())
        lamp, door = home.boards.values()
        assert lamp.key() == door.key()
        for wire in wires:
            assert wire.watch.reused == [] and wire.watch.protected > 7
            wire.close()
        for watch in watches:
            assert watch.reused == [] and watch.protected > 2
