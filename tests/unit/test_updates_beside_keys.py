"""Group Keys keep their latency while an update is broadcast on the same radio channel."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from cpns.numbers import FRAME_UPDATE
from gateway_agent.core.delivering.delivery import Pacing
from gateway_agent.radios.medium import Airing
from gateway_agent.updates.airing import UpdateAiring
from gateway_agent.updates.catalogue import Catalogue, Whom
from tests.unit.gateway_world import World
from tests.unit.scripted_medium import ScriptedMedium
from tests.unit.update_world import KEY, image, signed

SG = "home/lights"
REKEYS = 20


class Channel(ScriptedMedium):
    """Wi-Fi at its lowest rate: one datagram after another, of which one in five reaches no board."""

    def __init__(self) -> None:
        super().__init__(name="wifi", gap=0.31, loss=0.1)
        self._free_at = 0.0
        self._chance = random.Random(5)

    def airtime_s(self, octets: int) -> float:
        return 1e-3 + octets * 8e-6

    def air(self, datagram: bytes) -> Airing:
        loop = asyncio.get_running_loop()
        self.begun.append(datagram)
        self._free_at = max(self._free_at, loop.time()) + self.airtime_s(len(datagram))
        leaving = loop.call_at(self._free_at, lambda: self._left(datagram, airing))
        airing = Airing(leaving.cancel)
        return airing

    def _left(self, datagram: bytes, airing: Airing) -> None:
        airing.end(True)
        self.left.append((asyncio.get_running_loop().time(), datagram))
        if datagram[0] != FRAME_UPDATE and self._chance.random() >= 0.2:
            self.on_air(datagram)


async def rekeys(folder: Path, beside: Callable[[World], Catalogue | None]) -> tuple[list[float], World]:
    """How long each re-key of a group of eight took until every board had the key, in seconds."""
    world = World(folder, medium=Channel(), pacing=Pacing(confirmation_cost_s=0.02))
    await world.start()
    for at in range(8):
        await world.board(f"lamp{at}", SG)
    await world.server.rekey(SG)
    await world.delivered(SG)
    catalogue = beside(world)
    if catalogue is not None:
        await catalogue.add(signed(5, image(1_000_000, kind="firmware"), kind="firmware"), Whom(by_broadcast=True), 100)
    chance, took = random.Random(11), []
    for _ in range(REKEYS):
        await asyncio.sleep(5 + chance.random())
        began = asyncio.get_running_loop().time()
        version = await world.server.rekey(SG)
        await world.until(lambda: all(version in board.keys.get(SG, {}) for board in world.boards.values()))  # noqa: B023
        took.append(asyncio.get_running_loop().time() - began)
        await world.delivered(SG)
    return took, world


async def test_a_key_takes_at_most_twice_as_long_while_an_update_is_broadcast(tmp_path: Path) -> None:
    alone, world = await rekeys(tmp_path / "alone", lambda world: None)
    await world.close()
    airings = []

    def aired(world: World) -> Catalogue:
        catalogue = Catalogue(world.store, tmp_path / "updates", KEY.public)
        airing = UpdateAiring(
            catalogue, world.air_of_media, lambda: [(1, bytes(16))], lambda sg_id: "none", lambda event: None
        )
        airing.start()
        airings.append(airing)
        return catalogue

    beside, world = await rekeys(tmp_path / "beside", aired)
    of_updates = [each for each in world.medium.begun if each[0] == FRAME_UPDATE]
    await airings[0].close()
    await world.close()
    assert len(of_updates) > 500  # the airing went on between the keys
    assert sum(beside) <= 2 * sum(alone)
    assert max(beside) <= 2 * max(alone)
    print(f"{sum(alone) / REKEYS:.3f} s alone, {sum(beside) / REKEYS:.3f} s beside an update")


@pytest.mark.parametrize("moment", [0.0, 0.001, 0.04])
async def test_the_first_copy_of_a_key_waits_for_one_datagram_at_most(tmp_path: Path, moment: float) -> None:
    world = World(tmp_path / "gateway", medium=Channel())
    await world.start()
    catalogue = Catalogue(world.store, tmp_path / "updates", KEY.public)
    airing = UpdateAiring(
        catalogue, world.air_of_media, lambda: [(1, bytes(16))], lambda sg_id: "none", lambda event: None
    )
    airing.start()
    await catalogue.add(signed(5, image(100_000)), Whom(by_broadcast=True), 100)
    await asyncio.sleep(10 + moment)
    began, key = asyncio.get_running_loop().time(), b"\0" * 130
    world.air_of_media.air([key], 1, lambda: None)
    await asyncio.sleep(1)
    left = next(at for at, datagram in world.medium.left if datagram == key)
    assert left - began <= world.medium.airtime_s(1036) + world.medium.airtime_s(130) + 1e-6
    await airing.close()
    await world.close()
