"""BLE as a medium: bursts of adverts, stopped in time, shared fairly, and a sender that fails in every way."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from math import ceil

import pytest

from cpns import advert, beacon, broadcast_object_build, tuning
from cpns.broadcast_encryption.cover import cover
from cpns.broadcast_encryption.keys import TreeKeys
from gateway_agent.radios.air import AllMedia
from gateway_agent.radios.ble_medium import BleMedium
from gateway_agent.radios.ble_reception import DEAF_S
from gateway_agent.radios.ble_schedule import burst
from gateway_agent.radios.medium import Airing, Step
from tests.unit.scripted_medium import ScriptedHome, ScriptedMedium
from tests.unit.scripted_sender import BleRadio, Ear, ScriptedSender

TREE = TreeKeys(bytes(32), 6)
HOME = ScriptedHome({1: b"first generation", 2: b"2nd generation.."})


def key_object(entries: int = 1, generation: int = 2, version: int = 65537, pn_alias: int = HOME.pn_alias) -> bytes:
    """A signed object with so many entries."""
    subsets = cover(6, 2, range(0, 4 * entries, 4))
    (draft,) = broadcast_object_build.build(
        pn_id="pn", sg_id="light", pn_alias=pn_alias, sg_alias=7, generation=generation, version=version,
        activation=0, reason=1, group_key=bytes(16), height=6, subsets=subsets, key_of=TREE.subset_key,
    )  # fmt: skip
    return bytes(draft.finish(bytes(range(64))))


def signed_delete() -> bytes:
    draft = broadcast_object_build.build_delete(
        pn_id="pn", sg_id="light", pn_alias=HOME.pn_alias, sg_alias=7, version=65537
    )
    return bytes(draft.finish(bytes(64)))


BEACON = beacon.build(bytes(16), "light", HOME.pn_alias, 7, 2, 65537)

Opened = Callable[..., AllMedia]


@pytest.fixture
async def opened() -> AsyncIterator[Opened]:
    airs: list[AllMedia] = []

    def make(radio: BleRadio, *others: ScriptedMedium) -> AllMedia:
        airs.append(AllMedia([radio.medium, *others], radio.counters))
        airs[-1].open(lambda frame: None, HOME)
        return airs[-1]

    yield make
    for air in airs:
        await air.close()


def rows_of(radio: BleRadio, key: bytes) -> list[int]:
    """The indexes of the rows that were sent under a frame key, in their order."""
    found = [advert.opened(key, payload[4:]) for _, payload in radio.sender.sent]
    return [row[1][3] for row in found if row is not None]


async def ended(airing: Airing) -> bool:
    await asyncio.wait([airing.ended])
    return airing.ended.result()


@pytest.mark.req("SEC-10", "CPNS-GKM-71")
async def test_an_object_is_a_burst_of_adverts_that_a_board_puts_together(opened: Opened) -> None:
    radio, heard = BleRadio(), []
    ear = Ear(lambda: [HOME.generations[2]], HOME.pn_alias, heard.append)
    radio.sender.on_air = ear.take
    opened(radio)
    for entries, frames in ((1, 19), (2, 21), (6, 31)):
        radio.sender.sent.clear()
        datagram = key_object(entries)
        assert await ended(radio.medium.air(datagram))
        assert len(radio.sender.sent) == frames and heard.pop() == datagram and not heard
        assert all(len(payload) == 28 and payload[:4] == b"\x1b\xff\xad\x0b" for _, payload in radio.sender.sent)
    assert radio.counters["broadcast_sent"] == 3 and radio.counters["ble_adverts_sent"] == 71


async def test_an_airing_of_the_same_octets_goes_on_with_the_next_rows_and_begins_again_after_all(
    opened: Opened,
) -> None:
    radio = BleRadio()
    opened(radio)
    for _ in range(14):
        await ended(radio.medium.air(key_object()))
    sent = rows_of(radio, HOME.generations[2])
    assert sent == [index % 256 for index in range(14 * burst(6))]
    await ended(radio.medium.air(key_object(version=65538)))
    assert rows_of(radio, HOME.generations[2])[len(sent) :] == list(range(burst(6)))


async def test_a_key_goes_out_under_its_generation_deletes_and_beacons_under_all(opened: Opened) -> None:
    radio = BleRadio()
    opened(radio)
    for datagram, keys in (
        (key_object(generation=1), [1]),
        (key_object(generation=2), [2]),
        (signed_delete(), [1, 2]),
        (BEACON, [1, 2]),
    ):
        heard: dict[int, list[bytes]] = {1: [], 2: []}
        ears = [Ear(lambda n=n: [HOME.generations[n]], HOME.pn_alias, heard[n].append) for n in heard]  # type: ignore[misc]
        radio.sender.on_air = lambda octets, ears=ears: [ear.take(octets) for ear in ears]  # type: ignore[misc]
        radio.sender.sent.clear()
        assert await ended(radio.medium.air(datagram))
        assert all(set(heard[n]) == ({datagram} if n in keys else set()) for n in heard)
        if datagram == signed_delete():
            assert len(radio.sender.sent) == 2 * burst(4)


@pytest.mark.req("CPNS-GKM-13")
@pytest.mark.parametrize(("frame_s", "seconds"), [(0.027, 19.6), (0.040, 29.0), (0.2, 145.0)])
def test_the_time_on_the_air_is_that_of_the_sender(frame_s: float, seconds: float) -> None:
    medium = BleRadio(ScriptedSender(frame_s)).medium
    for entries in (1, 2, 6, 15):
        datagram = key_object(entries)
        assert len(datagram) - 17 in range(92 + 18 * entries, 92 + 18 * entries + 4)
        assert medium.airtime_s(len(datagram)) == pytest.approx(frame_s * burst(ceil((92 + 18 * entries) / 19)))
    sizes = [92 + 18 * each + 17 for each in (70, 70, 70, 70, 20)]  # 300 entries: 312 frames are needed, 725 sent
    assert sum(map(medium.airtime_s, sizes)) == pytest.approx(seconds, abs=0.05)
    assert medium.airtime_s(len(BEACON)) == pytest.approx(frame_s * 5)


@pytest.mark.req("SEC-38")
@pytest.mark.parametrize("after_s", [0.0, 0.03, 0.3, 0.46, 0.53])
async def test_nothing_of_an_object_is_on_the_air_after_its_stop(opened: Opened, after_s: float) -> None:
    """Also after its last advert was handed over, and while another object is on the air."""
    radio, other = BleRadio(), key_object(generation=1)
    opened(radio)
    airing = radio.medium.air(key_object())
    await asyncio.sleep(after_s)
    sent = len(radio.sender.sent)
    airing.stop()
    assert airing.ended.cancelled() and not radio.sender.places and radio.sender.withdrawn == bool(sent)
    assert await ended(radio.medium.air(other))
    assert not [row for _, row in radio.sender.sent[sent:] if advert.opened(HOME.generations[2], row[4:])]
    assert len(radio.sender.sent) == sent + burst(6)


@pytest.mark.req("SEC-38")
async def test_an_airing_that_has_ended_is_on_the_air_no_more(opened: Opened) -> None:
    radio = BleRadio(ScriptedSender(frame_s=0.2))
    opened(radio)
    airing = radio.medium.air(key_object())
    assert await ended(airing)
    assert not radio.sender.places
    airing.stop()
    assert not radio.sender.withdrawn


@pytest.mark.req("SEC-38")
async def test_a_stop_leaves_what_others_have_on_the_air(opened: Opened) -> None:
    radio = BleRadio(ScriptedSender(frame_s=1.0, instances=1))
    opened(radio)
    first, second = radio.medium.air(key_object()), radio.medium.air(key_object(generation=1))
    await asyncio.sleep(1.5)
    assert advert.opened(HOME.generations[1], radio.sender.places[0][4:])
    first.stop()
    assert radio.sender.places and not radio.sender.withdrawn
    assert await ended(second) and len(radio.sender.sent) == 1 + burst(6)


@pytest.mark.req("SEC-38")
async def test_an_adapter_with_more_places_than_there_were_at_the_start_is_watched_in_all_of_them(
    opened: Opened,
) -> None:
    radio = BleRadio(ScriptedSender(frame_s=0.1, instances=1))
    opened(radio)
    radio.sender.instances = 3
    first, second = radio.medium.air(key_object()), radio.medium.air(key_object(generation=1))
    await asyncio.sleep(0.15)
    assert len(radio.sender.places) == 2 and advert.opened(HOME.generations[1], radio.sender.places[-1][4:])
    first.stop()
    assert radio.sender.withdrawn and not radio.sender.places
    second.stop()


async def test_airings_share_the_radio_and_a_short_one_ends_first(opened: Opened) -> None:
    radio = BleRadio()
    opened(radio)
    began, ends = asyncio.get_running_loop().time(), Counter[int]()
    entries = (15, 1, 6)
    airings = [radio.medium.air(key_object(each, version=65537 + each)) for each in entries]
    for each, airing in zip(entries, airings, strict=True):
        airing.ended.add_done_callback(
            lambda _, each=each: ends.update({each: round(asyncio.get_running_loop().time() - began, 3)})  # type: ignore[misc]
        )
    await asyncio.wait([airing.ended for airing in airings])
    assert list(ends) == [1, 6, 15] and ends[1] == pytest.approx(2 * 19 * 0.025, abs=0.11)
    assert len(radio.sender.sent) == burst(6) + burst(11) + burst(20)


@pytest.mark.req("SEC-10")
async def test_a_board_gets_each_of_forty_keys_that_are_aired_at_once(opened: Opened) -> None:
    """It collects four objects at a time, and cannot know of which groups they are."""
    radio, heard = BleRadio(), []
    ear = Ear(lambda: [HOME.generations[2]], HOME.pn_alias, heard.append)
    radio.sender.on_air = ear.take
    opened(radio)
    keys = [key_object(version=65537 + number) for number in range(40)]
    airings = [radio.medium.air(key) for key in keys]
    await asyncio.wait([airing.ended for airing in airings])
    assert heard == keys


async def test_many_airings_at_once_are_slow_and_no_failure(opened: Opened) -> None:
    radio = BleRadio(ScriptedSender(frame_s=0.2, instances=1))
    air, done = opened(radio), []
    for version in range(40):
        air.air([key_object(version=65537 + version)], 1, lambda: done.append(True))
    await asyncio.sleep(40 * 19 * 0.2 + 1)
    assert len(done) == 40 and not radio.counters["media_failed"] and air.told() == {"ble": ""}


@pytest.mark.parametrize(
    ("datagram", "reason"),
    [
        (b"", "0 octets"),
        (bytes(24), "24 octets"),
        (key_object(pn_alias=5), "123 octets"),
        (key_object()[:-1], "octets"),
        (key_object(generation=3), "no board has the keys"),
        (bytes(tuning.BROADCAST_OBJECT_MAX + 1), "1401 octets"),
    ],
)
async def test_what_no_advert_can_carry_is_not_sent_and_health_says_why(
    opened: Opened, datagram: bytes, reason: str
) -> None:
    radio = BleRadio()
    opened(radio)
    assert not await ended(radio.medium.air(datagram))
    (health,) = radio.medium.health()
    assert reason in health.problem and health.failed == 1 and not radio.sender.sent
    assert await ended(radio.medium.air(key_object()))
    (health,) = radio.medium.health()
    assert (health.interface, health.broadcast, health.problem, health.sent) == ("hci7", "BLE", "", 1)


async def test_an_adapter_that_is_pulled_out_and_put_back_goes_on_with_the_next_rows(opened: Opened) -> None:
    radio, wifi, done = BleRadio(), ScriptedMedium(airtime=5.0), []
    air = opened(radio, wifi)
    air.air([key_object()], 1, lambda: done.append(True))
    await asyncio.sleep(0.2)
    sent = len(radio.sender.sent)
    radio.sender.up = False
    assert not radio.medium.networks() and "pulled out" in radio.medium.health()[0].problem
    await asyncio.sleep(1)
    assert len(radio.sender.sent) == sent
    radio.sender.up = True
    await asyncio.sleep(5)
    assert done and len(wifi.left) == 1 and rows_of(radio, HOME.generations[2]) == list(range(sent + burst(6)))


async def test_a_sender_that_cannot_start_is_started_again_until_it_can(opened: Opened) -> None:
    radio, wifi, done = BleRadio(), ScriptedMedium(), []
    radio.sender.start_fault = OSError("no such device")
    radio.sender.steps = (Step("reset the adapter", lambda: None),)
    air = opened(radio, wifi)
    assert not radio.medium.up and "no such device" in radio.medium.health()[0].problem
    await asyncio.sleep(10)
    assert air.told()["ble"] == (
        "Nothing goes out by ble: hci7: no such device. "
        "It was tried in vain to start the sender of adverts, reset the adapter."
    )
    air.air([key_object()], 1, lambda: done.append(True))
    await asyncio.sleep(1)
    assert done and len(wifi.left) == 1 and not radio.sender.sent
    radio.sender.start_fault = None
    await asyncio.sleep(600)
    assert radio.medium.up and air.told() == {"ble": "", "scripted": ""}
    air.air([key_object()], 1, lambda: None)
    await asyncio.sleep(1)
    assert len(radio.sender.sent) == burst(6)


async def test_a_sender_that_takes_nothing_is_a_failure_and_the_others_go_on(opened: Opened) -> None:
    radio, wifi, steps = BleRadio(), ScriptedMedium(), []
    radio.sender.deaf = True
    radio.sender.steps = (Step("register again", lambda: steps.append("register")),)
    air = opened(radio, wifi)
    airing = air.air([key_object()], 1, lambda: steps.append("ended"))
    await asyncio.sleep(20)
    assert len(wifi.left) == 1 and airing.has_gone_out and radio.counters["media_failed"] == 1
    assert steps[0] == "ended" and "register" in steps and not radio.medium._under_way


@pytest.mark.req("SEC-38")
async def test_a_sender_that_raises_in_withdraw_is_asked_again_and_gets_no_more_of_the_object(opened: Opened) -> None:
    radio, wifi = BleRadio(), ScriptedMedium(airtime=3.0)
    radio.sender.withdraw_fault = OSError("the bus is busy")
    air = opened(radio, wifi)
    airing = air.air([key_object()], 1, lambda: None)
    await asyncio.sleep(0.2)
    sent = len(radio.sender.sent)
    airing.stop()
    assert radio.counters["media_failed"] == 1 and wifi.taken_back
    await asyncio.sleep(5)
    assert radio.sender.withdrawn == 2 and len(radio.sender.sent) == sent
    radio.sender.withdraw_fault = None
    air.air([key_object(generation=1)], 1, lambda: None)
    await asyncio.sleep(1)
    assert len(radio.sender.sent) == sent + burst(6)


@pytest.mark.req("SEC-38")
async def test_what_a_sender_cannot_begin_is_not_sent_later(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    radio = BleRadio()
    opened(radio)
    await asyncio.sleep(1)
    with monkeypatch.context() as patch:
        patch.setattr(radio.sender, "wake", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            radio.medium.air(key_object())
    assert await ended(radio.medium.air(key_object(generation=1)))
    assert len(radio.sender.sent) == burst(6) and not rows_of(radio, HOME.generations[2])


async def test_without_a_sender_the_reasons_are_told_and_one_that_appears_is_used(opened: Opened) -> None:
    radio, wifi = BleRadio(missing=True), ScriptedMedium()
    radio.reasons = {"mgmt": "It may not open the socket.", "bluez": "The package bleak is not installed."}
    air = opened(radio, wifi)
    await asyncio.sleep(10)
    assert "mgmt: It may not open the socket.; bluez: The package bleak is not installed." in air.told()["ble"]
    assert air.networks() == ["scripted"]
    assert radio.medium.airtime_s(127) == pytest.approx(19 * 0.2) and not await ended(radio.medium.air(key_object()))
    radio.missing = False
    await asyncio.sleep(600)
    assert air.networks() == ["hci7 BLE", "scripted"] and not air.told()["ble"]


async def test_a_scanner_that_fails_leaves_the_sending_alone(opened: Opened) -> None:
    radio = BleRadio()
    radio.scanner.fault = OSError("scanning is refused")
    opened(radio)
    assert await ended(radio.medium.air(key_object()))
    assert not radio.medium.health()[0].deaf, "it may be about to start"
    await asyncio.sleep(DEAF_S)
    assert radio.medium.health()[0].deaf == "scanning is refused" and not radio.counters["media_failed"]
    radio.scanner.fault, radio.scanner.problem = None, "bluetoothd does not scan"
    radio.sender.up = False
    radio.sender.up = True
    assert radio.scanner.heard is not None
    (health,) = radio.medium.health()
    assert (health.problem, health.deaf) == ("", "bluetoothd does not scan")
    radio.scanner.problem = ""
    assert not radio.medium.health()[0].deaf
    radio.scanner.problem = "the scan begins anew"
    await asyncio.sleep(DEAF_S / 2)
    assert not radio.medium.health()[0].deaf


async def test_a_closed_medium_has_released_its_radio() -> None:
    radio = BleRadio()
    assert isinstance(radio.medium, BleMedium)
    radio.medium.open(lambda: None, lambda frame: None, HOME)
    airing = radio.medium.air(key_object())
    await radio.medium.close()
    assert radio.sender.is_closed and radio.scanner.heard is None and not airing.ended.result()
    unused = BleRadio()
    await unused.medium.close()
    assert unused.sender.is_closed
