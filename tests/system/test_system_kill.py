"""Gateway and boards are killed at any moment, boards lose their power in the middle of writes to their flash."""

import asyncio
import random
import time

import pytest

from keycast.virtual_board import board as virtual_board
from keycast.virtual_board.board import Network
from keycast.virtual_board.fleet import Fleet
from keycast.virtual_board.loopback import free_numbers
from keycast.virtual_board.thief import Sniffer
from tests.system.keycast_process import GatewayProcess
from tests.system.watching import objects
from tests.system.wire import NonceWatch, Wire

SG = "home/lights"
BOARDS = 4


class House:
    """A gateway process and boards that can each be killed, with a watch on everything they say to each other."""

    def __init__(self, chance):
        self.chance = chance
        self.gateway_kills = self.board_kills = self.power_cuts = 0

    async def kill_gateway(self):
        await asyncio.sleep(self.chance.uniform(0, 1.0))
        await self.gateway.kill()
        self.gateway_kills += 1
        await self.gateway.start()

    async def kill_board(self):
        board = self.chance.choice(self.boards)
        await asyncio.sleep(self.chance.uniform(0, 1.0))
        await board.kill()
        self.board_kills += 1
        await board.start()

    async def cut_power(self):
        """At one of the next writes to the flash, which may not come before this test's end: then at its end."""
        board = self.chance.choice(self.boards)
        await board.kill()
        how = self.chance.choice(("before", "torn", "after"))
        await board.start(power_cut=f"{self.chance.randint(1, 5)}:{how}", up=False)
        try:
            if await board.ended(timeout_s=self.chance.uniform(2, 4)) == virtual_board.POWER_CUT_CODE:
                self.power_cuts += 1
        except TimeoutError:
            await board.kill()
        await board.start()

    async def everybody_is_keyed(self, timeout_s=180):
        """Wait until all boards hold the newest key, and gateway and Server know that they do."""
        async with asyncio.timeout(timeout_s):
            while True:
                view = await self.gateway.ask("group.show", sg_id=SG)
                versions = [member["confirmed"] for member in view["members"] if member["state"] == "member"]
                for board in self.boards:
                    versions.append((await board.command("status"))["groups"].get(SG, 0))
                if set(versions) == {view["version"]} and len(versions) == 2 * BOARDS and not view["update_pending"]:
                    return view["version"]
                await asyncio.sleep(0.2)


@pytest.mark.req("SEC-22", "SEC-29", "SEC-23")
@pytest.mark.parametrize(
    ("seed", "method"),
    [(1, "broadcast"), (2, "unicast"), pytest.param(3, "broadcast", marks=pytest.mark.long)],
)
async def test_whoever_is_killed_whenever_nothing_is_lost_and_no_number_is_used_twice(tmp_path, seed, method):
    chance = random.Random(seed)
    house, sniffer, wires = House(chance), Sniffer(), []
    house.gateway = GatewayProcess(tmp_path, method=method)
    await house.gateway.start()
    sniffer.pn_alias = (await house.gateway.ask("status"))["pn_alias"]
    try:
        records = []
        for n in range(BOARDS):
            wires.append(await Wire.open((house.gateway.address, house.gateway.port)))
            records.append(await house.gateway.new_board(f"lamp.{n}", wires[-1].address))
        await house.gateway.ask("group.create", sg_id=SG, open_to=["home"])
        first = free_numbers(BOARDS)
        networks = [Network.loopback(number) for number in range(first, first + BOARDS)]
        async with Fleet(tmp_path / "boards", records, first=first, networks=networks) as fleet:
            house.boards = fleet.boards
            await asyncio.gather(*(board.command("join", group=SG, timeout_s=180) for board in house.boards))
            version = await house.everybody_is_keyed()
            deeds = [house.kill_gateway, house.kill_board, house.cut_power] * 2
            chance.shuffle(deeds)
            for deed in deeds:
                told = await house.gateway.ask("group.update", sg_id=SG)
                assert told > version  # a version is never given out twice
                version = told
                await deed()
            begun = time.monotonic()
            assert await house.everybody_is_keyed() >= version
            print(f"seed {seed}: keyed after {time.monotonic() - begun:.1f} s, {house.power_cuts} power cuts")
            status = await house.gateway.ask("status")
            assert status["stopped"] is None and len(status["devices"]) == BOARDS
    finally:
        await house.gateway.stop()
        for wire in wires:
            wire.close()
    assert house.gateway_kills == 2 and house.board_kills == 2

    commits = {}
    for received in objects(sniffer.frames()):
        names = received.pn_alias, received.sg_alias, received.generation, received.version
        commits.setdefault(names, set()).add(received.commit)
    assert bool(commits) == (method == "broadcast")
    assert all(len(different) == 1 for different in commits.values())  # no version was signed with two keys
    sniffer.close()
    for wire in wires:
        assert wire.watch.reused == []
        assert wire.watch.protected > 7  # it has seen more than the join; how many rounds a key takes varies


def test_the_watch_does_see_a_number_that_is_used_twice():
    watch = NonceWatch()
    request = bytes.fromhex("4102000107") + bytes([0x95, 0x09, 0x05, 1, 2, 3, 0xFF])
    watch.see(request + b"ciphertext", True)
    watch.see(request + b"ciphertext", True)  # a retransmission is none
    assert watch.reused == [] and watch.protected == 2
    watch.see(request + b"ciphertext of something else", True)
    assert len(watch.reused) == 1
