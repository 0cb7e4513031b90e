"""Updates on the air: paced by the medium, after every key, stopped at once, going on after a restart."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from cpns.numbers import FRAME_UPDATE
from gateway_agent.core import events
from gateway_agent.radios.air import AllMedia
from gateway_agent.radios.medium import Medium
from gateway_agent.store.errors import StoreFailed
from gateway_agent.store.store import GatewayStore
from gateway_agent.store.update_table import UpdateTable
from gateway_agent.updates import update_file
from gateway_agent.updates.airing import UpdateAiring
from gateway_agent.updates.catalogue import Catalogue, Whom
from gateway_agent.updates.schedule import AiringOrder
from gateway_agent.updates.sealed import SealingKey
from suit import frames, sealing
from suit import numbers as n
from tests.unit.scripted_medium import ScriptedHome, ScriptedMedium
from tests.unit.update_world import KEY, id_of, image, signed

FRAME_KEYS = {3: bytes(16), 4: bytes(range(16))}
SMALL = signed(5)  # 9 blocks: 13 frames, and 4 heads: a page, and a manifest for each of two generations
OF_SMALL, STEPS_OF_SMALL = 13 + 4 * 3, 13 + 4 * 2
LARGE = signed(6, image(100 * 1024))
OF_LARGE = 136 + 4 * (3 + 2)
PACE = 0.31 / 4


def wifi(**how: float) -> ScriptedMedium:
    return ScriptedMedium(name="wifi", airtime=how.get("airtime", 0.0093), gap=0.31, loss=0.1)


@dataclass
class World:
    folder: Path
    media: Sequence[Medium]
    told: list[events.Event] = field(default_factory=list)
    key: SealingKey | str = "there is none"

    def __post_init__(self) -> None:
        self.store = GatewayStore(self.folder / "store")
        if self.store.pn.get() is None:
            with self.store.transaction():
                self.store.pn.create("home", "gw", 1)
        self.air = AllMedia(self.media)
        self.air.open(lambda frame: None, ScriptedHome())
        self.catalogue = Catalogue(self.store, self.folder / "updates", KEY.public)
        self.catalogue.open()
        self.airing = UpdateAiring(
            self.catalogue, self.air, lambda: list(FRAME_KEYS.items()), lambda sg_id: self.key, self.told.append
        )
        self.airing.start()

    async def offer(self, file: bytes, sealed_for: str = "") -> bytes:
        to = Whom(groups=frozenset(filter(None, [sealed_for])), by_broadcast=True, sealed_for=sealed_for)
        return (await self.catalogue.add(file, to, 100)).update_id

    async def close(self) -> None:
        await self.airing.close()
        await self.air.close()
        self.store.close()


Made = Callable[..., World]


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Made]:
    worlds: list[World] = []

    def make(*media: Medium) -> World:
        worlds.append(World(tmp_path, media))
        return worlds[-1]

    yield make
    for world in worlds:
        await world.close()


def sent(medium: ScriptedMedium) -> list[tuple[int, int]]:
    """(kind, index) of each datagram of an update that was begun."""
    found = [frames.parse(each) for each in medium.begun if each[0] == FRAME_UPDATE]
    return [(each.kind, each.index) for each in found]


async def test_all_of_an_update_is_broadcast_in_order_and_told(made: Made) -> None:
    medium = wifi()
    world = made(medium)
    update_id = await world.offer(SMALL)
    await asyncio.sleep(30)
    assert sent(medium) == in_order(SMALL) and len(sent(medium)) == OF_SMALL
    assert world.told == [events.UpdateAired(update_id.hex(), "agent", 5)]
    for datagram in medium.begun:
        frame = frames.parse(datagram)
        if frame.kind == n.ENVELOPE:
            envelope = frames.envelope_of(frame.body, frame.update_id, FRAME_KEYS)
            assert envelope == world.catalogue.update(update_id).envelope


async def test_a_home_without_device_keys_gets_no_manifest_by_broadcast(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.unit.test_updates_airing.FRAME_KEYS", {})
    medium = wifi()
    await made(medium).offer(SMALL)
    await asyncio.sleep(30)
    assert {kind for kind, _ in sent(medium)} == {n.PAGE, n.FRAME} and len(sent(medium)) == 17


async def test_four_datagrams_go_in_the_time_between_two_copies_of_a_key(made: Made) -> None:
    medium = wifi()
    await made(medium).offer(LARGE)
    await asyncio.sleep(60)
    moments = [at for at, datagram in medium.left if frames.parse(datagram).kind == n.FRAME]
    assert len(moments) == 136
    assert min(after - before for before, after in pairwise(moments)) == pytest.approx(PACE)
    assert moments[-1] - moments[0] == pytest.approx((135 + 4) * PACE, abs=0.2)  # the last head is in between


async def test_a_medium_on_which_a_datagram_takes_long_gets_none(made: Made) -> None:
    quick, slow = wifi(), ScriptedMedium(name="ble", airtime=0.2, gap=1.0)
    world = made(slow, quick)
    update_id = await world.offer(SMALL)
    assert world.airing.left_s(update_id) == pytest.approx(STEPS_OF_SMALL * PACE)
    await asyncio.sleep(30)
    assert slow.begun == [] and len(sent(quick)) == OF_SMALL


async def test_without_a_quick_medium_boards_do_not_wait_for_it(made: Made) -> None:
    quick = wifi()
    quick.up = False
    world = made(quick, ScriptedMedium(name="ble", airtime=0.2))
    update_id = await world.offer(SMALL)
    await asyncio.sleep(5)
    assert world.airing.left_s(update_id) == 0.0 and quick.begun == []
    quick.up = True
    assert world.airing.left_s(update_id) > 0
    await asyncio.sleep(30)
    assert len(sent(quick)) == OF_SMALL and world.airing.left_s(update_id) == 0.0


async def test_a_medium_that_refuses_is_tried_again_and_nothing_is_left_out(made: Made) -> None:
    medium = wifi()
    world = made(medium)
    medium.refuses = True
    await world.offer(SMALL)
    await asyncio.sleep(5)
    assert 2 <= len(medium.begun) <= 8
    medium.refuses = False
    medium.begun.clear()
    await asyncio.sleep(30)
    assert len(sent(medium)) == OF_SMALL


async def test_while_a_key_is_on_the_air_updates_stand_still(made: Made) -> None:
    medium = wifi()
    world = made(medium)
    await world.offer(LARGE)
    await asyncio.sleep(6)
    began, ended = asyncio.get_running_loop().time(), asyncio.Event()
    world.air.air([b"\0key"], 100, ended.set)
    await ended.wait()
    between = [datagram for at, datagram in medium.left if at > began]
    copies = [place for place, datagram in enumerate(between) if datagram == b"\0key"]
    assert len(copies) == 2
    # of the update at most the one datagram that was under way when the key came
    assert len(between) - len(copies) <= 1
    await asyncio.sleep(60)
    assert len(sent(medium)) == OF_LARGE


@pytest.mark.parametrize("what", ["delete", "beacon"])
async def test_deletes_and_beacons_come_first_too(made: Made, what: str) -> None:
    medium = wifi(airtime=0.09)
    world = made(medium)
    await world.offer(LARGE)
    await asyncio.sleep(6.01)
    if what == "delete":
        told = asyncio.create_task(world.air.delete(b"\0delete"))
    else:
        world.air.beacon("home/lights", lambda: b"\0beacon")
    await asyncio.sleep(0)
    before = len(sent(medium))
    await asyncio.sleep(0.085)
    assert len(sent(medium)) == before
    if what == "delete":
        await told
        assert len(sent(medium)) == before


async def test_withdrawn_it_stops_at_once(made: Made) -> None:
    medium = wifi(airtime=0.09)
    world = made(medium)
    update_id = await world.offer(LARGE)
    while len(medium.begun) < 20 or len(medium.begun) == len(medium.left):
        await asyncio.sleep(0.01)
    begun = len(medium.begun)
    await world.catalogue.withdraw(update_id)
    world.airing.stop(update_id)
    assert len(medium.taken_back) == 1  # the datagram that was under way
    await asyncio.sleep(60)
    assert len(medium.begun) == begun and world.told == []
    assert world.airing.left_s(update_id) == 0.0


async def test_withdrawn_while_a_datagram_is_on_the_air_it_holds_up_no_other(made: Made) -> None:
    world = made(wifi(airtime=0.05))
    update_id = await world.offer(LARGE)
    while world.airing._under_way is None:
        await asyncio.sleep(0.01)
    await world.catalogue.withdraw(update_id)
    world.airing.stop(update_id)
    other = await world.offer(SMALL)
    await asyncio.sleep(30)
    assert world.told == [events.UpdateAired(other.hex(), "agent", 5)]


async def test_a_gateway_that_is_closed_sends_nothing_more(made: Made) -> None:
    medium = wifi()
    world = made(medium)
    await world.offer(LARGE)
    await asyncio.sleep(2)
    await world.airing.close()
    before = len(medium.begun)
    await asyncio.sleep(10)
    assert len(medium.begun) == before > 5


async def test_one_update_after_another(made: Made) -> None:
    medium = wifi()
    world = made(medium)
    first = await world.offer(SMALL)
    second = await world.offer(signed(2, kind="firmware"))
    assert world.airing.left_s(second) == pytest.approx(2 * world.airing.left_s(first))
    await asyncio.sleep(60)
    ids = [frames.parse(each).update_id for each in medium.begun]
    assert ids == [first] * OF_SMALL + [second] * OF_SMALL


async def test_a_newer_update_takes_the_air_from_an_older_one(made: Made) -> None:
    medium = wifi()
    world = made(medium)
    old = await world.offer(SMALL)
    await asyncio.sleep(0.5)
    new = await world.offer(LARGE)
    world.airing.stop(old)
    at = len(medium.begun)
    await asyncio.sleep(60)
    assert {frames.parse(each).update_id for each in medium.begun[at:]} == {new} != {id_of(SMALL)}


async def test_after_a_restart_it_goes_on_at_its_position(made: Made) -> None:
    medium = wifi()
    world = made(medium)
    await world.offer(LARGE)
    await asyncio.sleep(8)
    await world.close()
    first = sent(medium)
    again = wifi()
    made(again)
    await asyncio.sleep(60)
    assert first + sent(again) == in_order(LARGE)


def in_order(file: bytes) -> list[tuple[int, int]]:
    """All datagrams of an airing: a manifest for each of two generations."""
    update = update_file.read(file, None)
    schedule = AiringOrder(update.coded.code, len(update.pages))
    pieces = [schedule.at(position) for position in range(len(schedule))]
    return [piece for each in pieces for piece in [each] * (2 if each[0] == n.ENVELOPE else 1)]


async def test_killed_in_the_middle_some_datagrams_are_sent_twice_and_none_is_left_out(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    medium = wifi()
    world = made(medium)
    await world.offer(LARGE)
    await asyncio.sleep(12)
    first = sent(medium)
    with monkeypatch.context() as killed:
        killed.setattr(Catalogue, "moved", lambda *_, save: None)  # nothing is written down at the end
        await world.close()
    again = wifi()
    made(again)
    await asyncio.sleep(60)
    twice = [each for each in set(first) & set(sent(again)) if each[0] == n.FRAME]
    assert 0 < len(twice) <= 64 + 4
    assert {index for kind, index in first + sent(again) if kind == n.FRAME} == set(range(136))


async def test_a_disk_that_is_full_stops_no_airing(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise StoreFailed("The disk is full.", "Make room.")

    medium = wifi()
    world = made(medium)
    await world.offer(LARGE)
    monkeypatch.setattr(UpdateTable, "set_position", full)
    await asyncio.sleep(60)
    assert len(sent(medium)) == OF_LARGE


async def test_a_position_of_a_longer_airing_of_an_earlier_release_is_its_end(made: Made) -> None:
    medium = wifi()
    medium.up = False
    world = made(medium)
    update_id = await world.offer(SMALL)
    world.catalogue.moved(update_id, 1000, save=True)
    (offer,) = world.catalogue.offers
    assert world.airing.progress(offer) == (STEPS_OF_SMALL, STEPS_OF_SMALL)
    assert world.airing.problem(offer) == "" and world.airing.left_s(update_id) == 0.0
    medium.up = True
    await asyncio.sleep(30)
    assert sent(medium) == []


async def test_boards_wait_for_no_airing_that_has_ended_or_waits_itself(made: Made) -> None:
    world = made(wifi())
    first = await world.offer(LARGE)
    sealed = await world.offer(signed(2, kind="firmware"), "home/lights")
    assert world.airing.left_s(first) > 1.0 and world.airing.left_s(sealed) == 0.0
    world.key = SealingKey(7, 1, b"g" * 16)
    assert world.airing.left_s(sealed) > world.airing.left_s(first)
    world.catalogue.moved(sealed, 10_000, save=False)
    assert world.airing.left_s(first) > 1.0 and world.airing.left_s(sealed) == 0.0


async def test_a_sealed_update_is_read_by_members_only(made: Made) -> None:
    medium = wifi()
    world = made(medium)
    world.key = SealingKey(7, 0x00010002, b"g" * 16)
    update_id = await world.offer(SMALL, "home/lights")
    await asyncio.sleep(30)
    update = world.catalogue.update(update_id)
    heard = [frames.parse(each) for each in medium.begun]
    assert [each.index for each in heard if each.kind == n.SEALED] == list(range(13))
    assert not any(each.kind == n.FRAME for each in heard)
    assert not any(update.piece(n.FRAME, index) in datagram for index in range(13) for datagram in medium.begun)
    seal = sealing.Seal(b"g" * 16, "home/lights", 0x00010002, update_id)
    for each in heard:
        if each.kind == n.SEALED:
            assert sealing.key_named(each.body) == (7, 0x00010002)
            assert seal.turn(each.index, each.body[sealing.HEAD :]) == update.piece(n.FRAME, each.index)
        elif each.kind == n.PAGE:
            assert each.body == update.piece(n.PAGE, each.index)


async def test_a_sealed_airing_waits_for_a_key_and_others_go_on(made: Made) -> None:
    medium = wifi()
    world = made(medium)
    sealed = await world.offer(SMALL, "home/lights")
    other = await world.offer(signed(2, kind="firmware"))
    await asyncio.sleep(30)
    assert {frames.parse(each).update_id for each in medium.begun} == {other}
    (offer, _) = world.catalogue.offers
    assert world.airing.problem(offer) == "there is none" and world.airing.left_s(sealed) == 0.0
    world.key = SealingKey(7, 1, b"g" * 16)
    assert not world.airing.problem(offer)
    while sent(medium)[-1][0] != n.SEALED or sent(medium)[-1][1] < 3:
        await asyncio.sleep(0.05)
    world.key = SealingKey(7, 2, b"h" * 16)
    await asyncio.sleep(30)
    versions = [sealing.key_named(each.body)[1] for each in map(frames.parse, medium.begun) if each.kind == n.SEALED]
    assert len(versions) == 13 and set(versions) == {1, 2} and sorted(versions) == versions
