"""A PN GW with Wi-Fi and BLE: each key by both at once, one delivery, one confirmation of a board, one report."""

import asyncio
from dataclasses import replace

import pytest

from cpns import advert, messages, numbers, proof, report
from gateway_agent.core.groups.membership import Cause
from gateway_agent.radios.ble_schedule import burst
from gateway_agent.radios.medium import Medium, Step
from tests.unit.gateway_world import FAST, PN, Board, World
from tests.unit.scripted_medium import ScriptedMedium
from tests.unit.scripted_sender import BleRadio, Ear

SLOW = replace(FAST, answer_s=1.0, unicast_retry_s=5.0)
BOTH = {"wifi", "ble"}


class Home(World):
    """A home whose boards have some of the two radios each: `radios_of` maps a PNE ID to their names, at first both.

    A board without Wi-Fi has no session and reports by advert, ten times. `went_out` are all adverts.
    """

    def open(self) -> None:
        self.radios_of: dict[str, set[str]] = getattr(self, "radios_of", {})
        self.ears: dict[str, Ear] = {}
        self.stored: list[tuple[str, int]] = []
        self.went_out: list[bytes] = []
        self.radio = BleRadio()
        self.radio.sender.on_air = self._hear_advert
        super().open()

    def media(self) -> list[Medium]:
        return [self.medium, self.radio.medium]

    async def board(self, pne_id: str, *sg_ids: str, radios: set[str] = BOTH, gkdk: bool = True) -> Board:
        board = await super().board(pne_id, *sg_ids, gkdk=gkdk)
        self.radios_of[pne_id] = radios
        board.reachable = "wifi" in radios
        store = board.store
        board.store = lambda *key: (self.stored.append((pne_id, key[1])), store(*key))  # type: ignore[method-assign]
        if "wifi" not in radios:
            board.confirm = lambda *names: self._report(board, *names)  # type: ignore[method-assign]
        keys = lambda: [record.frame_key() for record in board.records]  # noqa: E731
        self.ears[pne_id] = Ear(keys, board.pn_alias, lambda datagram: self._hear_by("ble", datagram, pne_id))
        return board

    async def _report(self, board: Board, sg_id, version, record) -> None:
        shown = proof.confirmation(
            record.report_key(), record.generation, record.slot, version, numbers.RESULT_SUCCESS, PN, sg_id,
            board.keys[sg_id][version],
        )  # fmt: skip
        names = board.aliases[sg_id], record.generation, version, record.slot, numbers.RESULT_SUCCESS
        for _ in range(10):
            self.radio.scanner.hears(advert.report_advert(record.frame_key(), report.build(*names, shown)))
            await asyncio.sleep(0.1)

    def _hear(self, datagram: bytes) -> None:
        self.air.append(datagram)
        for pne_id in self.boards:
            self._hear_by("wifi", datagram, pne_id)

    def _hear_advert(self, octets: bytes) -> None:
        self.went_out.append(octets)
        for ear in self.ears.values():
            ear.take(octets)

    def _hear_by(self, radio: str, datagram: bytes, pne_id: str) -> None:
        if radio in self.radios_of.get(pne_id, ()) and datagram[0] != numbers.FRAME_BEACON:
            self.boards[pne_id].hear(datagram)


@pytest.fixture
async def home(tmp_path):
    home = await Home(tmp_path / "gw", medium=ScriptedMedium(name="wifi", gap=0.31, loss=0.1), pacing=SLOW).start()
    yield home
    await home.close()


def state(home: Home) -> dict[str, int]:
    return home.gateway.administration.delivery("light")[1]


@pytest.mark.req("CPNS-GKM-71", "CPNS-GKM-12")
async def test_a_key_goes_out_by_wifi_and_ble_at_the_same_time_to_boards_of_each_kind(home):
    for name, radios in (("wifi", {"wifi"}), ("ble", {"ble"}), ("both", BOTH)):
        for n in range(2):
            await home.board(f"{name}{n}", "light", radios=radios)
    version = await home.server.rekey("light")
    await home.delivered("light")
    assert {board.version("light") for board in home.boards.values()} == {version}
    assert sorted(home.stored) == [(name, version) for name in sorted(home.boards)], "each board stores the key once"
    assert not any(board.heard_unicast for board in home.boards.values())
    assert len(home.air) == 1 and len(home.went_out) == 6, "one object, and no advert more once all boards have it"
    (only,) = home.server.reports
    assert only[messages.CONFIRMED] == sorted(home.boards) and state(home) == {"confirmed": 6}
    await asyncio.sleep(60)
    assert len(home.server.reports) == 1 and home.gateway.counters["confirmations"] == 6
    assert home.radio.counters["ble_reports_repeated"] == 18


@pytest.mark.req("CPNS-GKM-71")
async def test_a_board_without_wifi_learns_of_a_delete(home):
    for name, radios in (("ble", {"ble"}), ("both", BOTH)):
        await home.board(name, "light", radios=radios)
    group, heard = home.server.group("light"), []
    home.ears["ble"] = Ear(
        lambda: [home.boards["ble"].records[-1].frame_key()], home.boards["ble"].pn_alias, heard.append
    )
    await home.server.rekey("light")
    await home.delivered("light")
    heard.clear()
    fields = {messages.SG_ID: "light", messages.VERSION: group.version}
    await home.server.tell(PN, numbers.DELETE_SERVICE_GROUP_REQUEST, fields)
    await asyncio.sleep(10)
    deletes = [datagram for datagram in heard if datagram[0] == numbers.FRAME_COSE_SIGN1]
    assert deletes == [home.air[-1]], "it is put together once, though it is aired three times"


@pytest.mark.req("SEC-06", "SEC-38", "CPNS-GKM-71")
@pytest.mark.parametrize("seconds", [0.0, 0.2, 0.5])
async def test_after_a_removal_no_advert_of_the_old_object_leaves_and_the_others_get_another(home, seconds):
    boards = [await home.board(f"b{n}", "light", radios={"ble"}) for n in range(5)]
    for board in boards:
        board.deaf = True
    await home.server.rekey("light")
    await home.until(lambda: home.air)
    await asyncio.sleep(seconds)
    old, sent = home.air[0], len(home.went_out)
    home.gateway.administration.retire_pne("b0", Cause.LOST)
    assert not home.radio.sender.places, "also what was on the air is off it"
    for board in boards[1:]:
        board.deaf = False
    await home.until(lambda: state(home).get("confirmed") == 4)
    key = boards[0].records[-1].frame_key()
    rows = [advert.opened(key, octets) for octets in home.went_out]
    names = {row[1][1:3] for row in rows[sent:] if row is not None}
    assert names and advert.identification(old) not in names
    assert all(boards[0].opens(datagram, "light") is None for datagram in home.air[1:])
    assert boards[0].version("light") == 0


@pytest.mark.req("CPNS-GKM-71")
async def test_a_round_is_never_shorter_than_a_burst_and_each_has_other_rows(home):
    boards = [await home.board(f"b{n}", "light", radios={"ble"}) for n in range(5)]
    for board in boards:
        board.deaf = True
    begins, ends, air = [], [], home.radio.medium.air

    def timed(datagram):
        airing = air(datagram)
        if datagram[0] == numbers.FRAME_COSE_SIGN1:
            begins.append(asyncio.get_running_loop().time())
            airing.ended.add_done_callback(lambda _: ends.append(asyncio.get_running_loop().time()))
        return airing

    home.radio.medium.air = timed
    await home.server.rekey("light")
    await home.until(lambda: state(home) == {"unreachable": 5}, 200)
    assert len(begins) == SLOW.rounds_max
    assert all(end - begin >= burst(7) * 0.025 for begin, end in zip(begins, ends, strict=True))
    assert all(begin - end >= SLOW.answer_s for begin, end in zip(begins[1:], ends[:-1], strict=True))
    rows = [advert.opened(boards[0].records[-1].frame_key(), octets) for octets in home.went_out]
    indexes = [row[1][3] for row in rows if row is not None and row[0] == advert.ROW]
    assert indexes == list(range(SLOW.rounds_max * burst(7))), "five boards are two subsets, an object of 7 rows"


async def test_ble_that_dies_in_the_midst_of_a_delivery_takes_nothing_from_wifi_and_joins_when_it_is_back(home):
    await home.board("wifi", "light", radios={"wifi"})
    for n in range(4):
        await home.board(f"ble{n}", "light", radios={"ble"})
    home.radio.sender.steps = (Step("register again", lambda: None), Step("reset the adapter", lambda: None))
    home.radio.sender.up = False
    version = await home.server.rekey("light")
    await home.until(lambda: state(home) == {"unreachable": 4, "confirmed": 1}, 120)
    assert home.boards["wifi"].version("light") == version and not home.went_out
    assert "reset the adapter" in home.air_of_media.told()["ble"] and not home.air_of_media.told()["wifi"]
    home.radio.sender.up = True
    await home.until(lambda: state(home) == {"confirmed": 5})
    assert {board.version("light") for board in home.boards.values()} == {version}
    assert not home.air_of_media.told()["ble"]


@pytest.mark.req("SEC-14")
async def test_a_board_that_reports_what_it_does_not_hold_is_sent_the_key_another_way(home):
    """And a board that cannot be reached at all is none of those that hold it."""
    honest, liar = [await home.board(name, "light", radios={"ble"}) for name in ("honest", "liar")]
    liar.deaf = True
    await home.server.rekey("light")
    version = home.server.group("light").version
    record = liar.records[-1]
    lie = report.build(
        liar.aliases["light"], record.generation, version, record.slot, numbers.RESULT_SUCCESS, b"8 octets"
    )
    await home.until(lambda: state(home).get("confirmed") == 1)
    home.radio.scanner.hears(advert.report_advert(record.frame_key(), lie))
    await home.delivered("light")
    assert state(home) == {"confirmed": 1, "unreachable": 1} and honest.version("light") == version
    assert home.gateway.counters["reports_unproven"] == 1
