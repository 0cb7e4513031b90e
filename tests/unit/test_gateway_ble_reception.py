"""What a gateway hears by BLE: reports of its boards are passed on, boards are connected to, all else is counted."""

import asyncio

import pytest

from cpns import advert, advert_build, numbers, report
from gateway_agent.radios.ble_reception import REPEATED_S, REPORTS_REMEMBERED_MAX
from tests.unit.scripted_medium import ScriptedHome
from tests.unit.scripted_sender import BleRadio

OLD, NEW = b"first generation", b"2nd generation.."
HOME = ScriptedHome({1: OLD, 2: NEW})


def report_of(slot: int) -> bytes:
    return bytes(report.build(7, 2, 65537, slot, numbers.RESULT_SUCCESS, bytes(8)))


class Listening:
    """A gateway that listens. `heard` are the reports that it passed on."""

    def __init__(self) -> None:
        self.radio = BleRadio()
        self.heard: list[bytes] = []
        self.radio.medium.open(lambda: None, self.heard.append, HOME)
        self.hears = self.radio.scanner.hears
        self.counters = self.radio.counters


@pytest.fixture
async def gateway():
    gateway = Listening()
    yield gateway
    await gateway.radio.medium.close()


@pytest.mark.req("SEC-14")
async def test_reports_under_each_key_that_boards_hold_are_passed_on_once_in_a_while(gateway) -> None:
    for key in (OLD, NEW):
        for _ in range(3):
            gateway.hears(advert.report_advert(key, report_of(3)))
    assert gateway.heard == [report_of(3)] * 2 and gateway.counters["ble_reports_repeated"] == 4
    await asyncio.sleep(REPEATED_S)  # the core may have refused it before, when its store was full
    gateway.hears(advert.report_advert(NEW, report_of(3)))
    assert len(gateway.heard) == 3


@pytest.mark.req("SEC-10", "SEC-14")
async def test_what_is_not_made_under_a_frame_key_is_counted_and_nothing_else(gateway) -> None:
    good = advert.report_advert(NEW, report_of(3))
    strange = [bytes(size) for size in range(32)] + [b"\xff" * 24, advert.report_advert(bytes(16), report_of(3))]
    strange += [good[:place] + bytes((good[place] ^ 0x80,)) + good[place + 1 :] for place in range(24)]
    for octets in strange:
        gateway.hears(octets)
    gateway.hears(None)
    assert not gateway.heard and gateway.counters["ble_adverts_foreign"] == len(strange)
    gateway.hears(advert_build.row_advert(NEW, b"id", [bytes(19)] * 6, 3))
    gateway.hears(advert_build.beacon_advert(OLD, bytes((numbers.FRAME_BEACON,)) + bytes(18)))
    assert not gateway.heard and gateway.counters["ble_adverts_of_gateways"] == 2


async def test_a_board_that_can_be_connected_to_is_told_to_the_link(gateway) -> None:
    gateway.hears(b"\x01", offers=True, wants=True)
    gateway.hears(b"\x00", offers=True)
    gateway.hears(None, offers=True)
    gateway.hears(advert.report_advert(NEW, report_of(3)), offers=True)
    assert gateway.radio.advertised == [("AA:BB:CC:DD:EE:FF", wants) for wants in (True, False, False, False)]
    assert not gateway.heard and not gateway.counters


async def test_a_new_generation_is_known_within_a_second_and_an_ended_one_no_more(gateway) -> None:
    newest = b"3rd generation.."
    gateway.hears(advert.report_advert(OLD, report_of(1)))
    HOME.generations = {2: NEW, 3: newest}
    try:
        await asyncio.sleep(1)
        gateway.hears(advert.report_advert(newest, report_of(2)))
        gateway.hears(advert.report_advert(OLD, report_of(3)))
        assert gateway.heard == [report_of(1), report_of(2)] and gateway.counters["ble_adverts_foreign"] == 1
    finally:
        HOME.generations = {1: OLD, 2: NEW}


@pytest.mark.req("SEC-35")
async def test_a_member_that_makes_up_reports_takes_no_memory(gateway) -> None:
    for slot in range(2 * REPORTS_REMEMBERED_MAX):
        gateway.hears(advert.report_advert(NEW, report_of(slot)))
    assert len(gateway.heard) == 2 * REPORTS_REMEMBERED_MAX
    assert len(gateway.radio.medium._reception._passed_on) == REPORTS_REMEMBERED_MAX
    gateway.hears(advert.report_advert(NEW, report_of(2 * REPORTS_REMEMBERED_MAX - 1)))
    assert gateway.counters["ble_reports_repeated"] == 1


async def test_while_the_store_cannot_be_read_what_is_heard_is_counted_and_heard_again_later(
    gateway, monkeypatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(HOME, "frame_keys", lambda: 1 / 0)
        gateway.hears(advert.report_advert(NEW, report_of(3)))
    assert not gateway.heard and gateway.counters == {"ble_adverts_unread": 1}
    gateway.hears(advert.report_advert(NEW, report_of(3)))
    assert gateway.heard == [report_of(3)]


async def test_nothing_is_passed_on_after_the_medium_is_closed(gateway) -> None:
    reception = gateway.radio.medium._reception
    await gateway.radio.medium.close()
    assert gateway.radio.scanner.heard is None and reception._home is None
