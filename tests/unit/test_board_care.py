"""The care for a running agent: when the watchdog is started, which state is told, which starts count as failed."""

import asyncio
import sys
import time
import traceback
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from cpns.errors import MalformedMessage
from tests.unit.board_module import board_module, board_modules
from tools import PROJECT

MINUTE = 60000


class Chip:
    """The parts of an ESP32 that the care uses, and a clock that a sleep moves on."""

    def __init__(self) -> None:
        self.now = 0
        self.dogs: list[int] = []  # when each was started
        self.fed: list[int] = []
        self.cause = 1
        self.machine = SimpleNamespace(
            WDT=self._dog, reset_cause=lambda: self.cause, PWRON_RESET=1, HARD_RESET=2, WDT_RESET=3, SOFT_RESET=5
        )

    def _dog(self, timeout: int) -> SimpleNamespace:
        assert timeout == 30000
        self.dogs.append(self.now)
        return SimpleNamespace(feed=lambda: self.fed.append(self.now))


class Stopped(Exception):
    """The time of the test is over."""


@pytest.fixture
def chip() -> Iterator[Chip]:
    made = Chip()
    with board_modules(machine=made.machine, esp32=SimpleNamespace()) as patch:
        patch.setattr(
            sys, "print_exception", lambda error, out: traceback.print_exception(error, file=out), raising=False
        )
        patch.setattr(time, "ticks_ms", lambda: made.now, raising=False)
        patch.setattr(time, "ticks_diff", lambda a, b: a - b, raising=False)
        yield made


class Flash(dict):
    """A storage; after `left` operations the power goes, in the way of `how`."""

    left = 1 << 30
    how = ""

    def get(self, name):
        return super().get(name)

    def set(self, name, octets):
        self._operation(name, bytes(octets))

    def delete(self, name):
        self._operation(name, None)

    def commit(self):
        pass

    def _operation(self, name, octets):
        self.left -= 1
        if not self.left and self.how == "before":
            raise Stopped
        if not self.left and self.how == "torn" and octets is not None:
            octets = octets[: len(octets) // 2]
        if octets is None:
            self.pop(name, None)
        else:
            self[name] = octets
        if not self.left:
            raise Stopped


def care(
    chip: Chip,
    patch: pytest.MonkeyPatch,
    node,
    station=None,
    until=3 * MINUTE,
    each=lambda now: None,
    flash=None,
    trial=False,
):
    """Run the care for `node` from now on; returns it."""
    station = station or SimpleNamespace(connected=lambda: True, named=True, trouble="")
    watch = board_module("watch").Watch(Flash() if flash is None else flash, station, None, lambda *event: None)
    watch.trial = trial

    async def sleep_ms(ms):
        chip.now += ms
        each(chip.now)
        if chip.now >= until:
            raise Stopped

    patch.setattr(asyncio, "sleep_ms", sleep_ms, raising=False)
    with pytest.raises(Stopped):
        asyncio.run(watch.run(node))
    return watch


def a_node(**values):
    return SimpleNamespace(**({"reached": False, "gateway_id": "gateway", "pairing": False} | values))


def test_the_watchdog_waits_for_the_first_session_or_a_minute_and_is_fed_then(chip, monkeypatch):
    care(chip, monkeypatch, a_node())
    assert chip.dogs == [MINUTE]
    assert chip.fed == list(range(MINUTE + 1000, 3 * MINUTE, 1000))


def test_the_watchdog_starts_with_the_first_session_and_once_only(chip, monkeypatch):
    node = a_node()

    def each(now):
        node.reached = now in (7000, 9000)

    care(chip, monkeypatch, node, each=each)
    assert chip.dogs == [7000]


@pytest.mark.req("SEC-30")
@pytest.mark.parametrize("confirmed", [False, True])
def test_a_trial_has_a_watchdog_from_the_start_and_fifteen_minutes_to_be_confirmed(chip, monkeypatch, confirmed):
    record = SimpleNamespace(trial=0 if confirmed else 2)
    updates = SimpleNamespace(UpdatesOnDemand=lambda storage: SimpleNamespace(state=lambda: record))
    monkeypatch.setitem(sys.modules, "updates", updates)
    resets = []

    def reset():
        resets.append(chip.now)
        raise Stopped

    chip.machine.reset = reset
    care(chip, monkeypatch, a_node(), until=20 * MINUTE, trial=True)
    assert chip.dogs == [0] and resets == ([] if confirmed else [15 * MINUTE])


def told(capsys) -> list[str]:
    return [line.split()[1] for line in capsys.readouterr().out.splitlines()]


def test_each_state_is_told_once_when_it_changes(chip, monkeypatch, capsys):
    node = a_node()
    station = SimpleNamespace(connected=lambda: station.here, here=False, named=True, trouble="")

    def each(now):
        if now == 5000:
            station.trouble = "no-access-point"
        elif now == 8000:
            station.trouble = "wrong-password"
        elif now == 10000:
            station.here, station.trouble = True, ""
        elif now == 20000:
            node.reached = True
        elif now == 30000:
            station.here, node.reached = False, False

    care(chip, monkeypatch, node, station, 40000, each)
    assert told(capsys) == ["connecting", "no-access-point", "wrong-password", "connecting", "running", "connecting"]


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ({"node": {"gateway_id": ""}}, "unpaired"),
        ({"station": {"named": False, "here": False}}, "no-wifi-name"),
        ({"station": {"here": False}}, "connecting"),
        ({"station": {"here": False}, "radio": "ble"}, "connecting"),
        ({"station": {"here": False, "trouble": "wrong-password"}, "radio": "ble"}, "wrong-password"),
        ({"station": {"here": False}, "radio": "ble", "node": {"reached": True}}, "running"),
        ({"station": {"named": False, "here": False}, "radio": False}, "no-bluetooth"),
        ({"station": None, "radio": "ble"}, "connecting"),
        ({"station": None, "radio": "ble", "failed": False}, "no-gateway"),
        ({"station": None, "radio": "ble", "node": {"reached": True}}, "running"),
        ({"station": None, "radio": "ble", "node": {"gateway_id": ""}}, "unpaired"),
        ({"failed": False}, "no-gateway"),
        ({"failed": True}, "refused"),
        ({"failed": True, "node": {"reached": True}}, "running"),
        ({"node": {"pairing": True}}, "pairing"),
        ({"low": True, "failed": True}, "low-memory"),
        ({"low": True, "node": {"reached": True}}, "low-memory"),
    ],
    ids=str,
)
def test_what_is_wrong_decides_which_state_is_told(chip, monkeypatch, capsys, how, code):
    station = None
    if how.get("station", {}) is not None:
        link = {"here": True, "named": True, "trouble": ""} | how.get("station", {})
        station = SimpleNamespace(connected=lambda: link["here"], **link)
    watch = board_module("watch").Watch(Flash(), station, how.get("radio"), lambda *event: None)
    memory = board_module("radio_memory").memory
    memory.low, memory.lowest = how.get("low", False), 1600
    if "failed" in how:
        watch.on_event("failed", {"what": "gateway", "reason": "", "refused": how["failed"]})
    watch.on_event("failed", {"what": "store", "reason": ""})

    async def sleep_ms(ms):
        raise Stopped

    monkeypatch.setattr(asyncio, "sleep_ms", sleep_ms, raising=False)
    with pytest.raises(Stopped):
        asyncio.run(watch.run(a_node(**how.get("node", {}))))
    line = capsys.readouterr().out
    assert line.startswith(f"keycast: {code} ") and line.count("\n") == 1
    assert ("1600 octets" in line) == (code == "low-memory")


def test_an_event_of_the_node_is_passed_on(chip):
    seen = []
    watch = board_module("watch").Watch(Flash(), None, None, lambda *event: seen.append(event))
    watch.on_event("key", {"group": "kitchen"})
    watch.on_event("failed", {"what": "gateway", "reason": "", "refused": False})
    assert [name for name, _ in seen] == ["key", "failed"]


# Starts that count


def starts(chip: Chip, flash: Flash, cause: int) -> str | None:
    chip.cause = cause
    return board_module("strikes").begin(flash)


HARD, WATCHDOG, SOFT, POWER = 2, 3, 5, 1


def test_three_starts_in_a_row_that_end_within_a_minute_are_followed_by_safe_mode(chip):
    flash = Flash()
    assert [starts(chip, flash, cause) for cause in (POWER, HARD, HARD)] == [None] * 3
    board_module("strikes").note(flash, MalformedMessage("what it was"))
    for _ in range(3):
        assert starts(chip, flash, HARD).endswith("MalformedMessage: what it was")


@pytest.mark.parametrize("cause", [POWER, SOFT, 0, 4], ids=["power", "Ctrl-D", "unknown", "deep sleep"])
def test_another_kind_of_start_begins_a_new_row_also_in_safe_mode(chip, cause):
    flash = Flash()
    for _ in range(3):
        starts(chip, flash, HARD)
    assert starts(chip, flash, HARD) == ""
    assert [starts(chip, flash, each) for each in (cause, HARD, HARD)] == [None] * 3
    assert starts(chip, flash, HARD) == ""


def test_a_start_that_lasts_a_minute_ends_the_row(chip, monkeypatch):
    module = board_module("watch")
    flash = Flash()
    for _ in range(3):
        starts(chip, flash, HARD)
    watch = module.Watch(flash, None, None, None)
    watch.over(flash)
    assert not watch.counted
    assert [starts(chip, flash, HARD) for _ in range(4)] == [None, None, None, ""]


@pytest.mark.parametrize("error", [OSError(5), MemoryError()], ids=["flash", "heap"])
def test_what_hinders_the_count_of_starts_does_not_end_the_agent(chip, monkeypatch, error):
    class Failing(Flash):
        def set(self, name, octets):
            self.left -= 1
            raise error

    flash = Failing()
    care(chip, monkeypatch, a_node(), until=2 * MINUTE, flash=flash)
    tried = (1 << 30) - flash.left
    assert tried == (1 if isinstance(error, OSError) else 60)  # a heap may have room a second later


@pytest.mark.parametrize(("lasted", "count"), [(MINUTE - 1000, 3), (MINUTE + 2000, 0)], ids=["shorter", "longer"])
def test_the_care_ends_the_row_after_a_minute_and_not_before(chip, monkeypatch, lasted, count):
    flash = Flash()
    for _ in range(3):
        starts(chip, flash, HARD)
    care(chip, monkeypatch, a_node(), until=lasted, flash=flash)
    assert board_module("strikes")._load(board_module("device_agent.key_store").KeyStore(flash))[0] == count


def test_the_watchdogs_reset_counts_and_is_named(chip):
    flash = Flash()
    assert [starts(chip, flash, cause) for cause in (POWER, HARD, WATCHDOG)] == [None] * 3
    assert starts(chip, flash, WATCHDOG) == "the watchdog reset the board"


def test_a_start_is_written_once_at_its_begin_and_once_after_a_minute(chip):
    flash = Flash()
    strikes = board_module("strikes")
    for _ in range(5):
        before = flash.left
        starts(chip, flash, POWER)
        strikes.over(flash)
        assert before - flash.left == 4  # two copies each
    before = flash.left
    strikes.over(flash)
    strikes.note(flash, ValueError())
    strikes.note(flash, ValueError())
    assert before - flash.left == 2  # what is there already is not written again


@pytest.mark.parametrize("how", ["before", "torn", "after"])
@pytest.mark.parametrize("cut", range(1, 9))
def test_the_power_goes_at_any_write_and_the_count_is_the_old_or_the_new_one(chip, cut, how):
    """The row is 1, 2, 0, 1 with an error of its own after each; whichever write is the last."""
    strikes = board_module("strikes")
    flash = Flash()
    steps = [
        lambda: starts(chip, flash, POWER),
        lambda: starts(chip, flash, HARD),
        lambda: strikes.over(flash),
        lambda: strikes.note(flash, ValueError()),
    ]
    states = [(0, ""), (1, ""), (2, ""), (0, ""), (0, "ValueError")]
    flash.left, flash.how = cut, how
    done = 0
    with pytest.raises(Stopped):
        for step in steps:
            step()
            done += 1
    flash.left = 1 << 30
    found = strikes._load(board_module("device_agent.key_store").KeyStore(flash))
    assert found in (states[done], states[done + 1])
    assert starts(chip, flash, POWER) is None  # and after a power cut a new row begins


def test_an_error_is_kept_without_what_it_may_tell_of_a_secret(chip):
    strikes = board_module("strikes")
    secret = "correct horse battery staple"

    def fails(error):
        try:
            raise error
        except Exception as caught:  # noqa: BLE001
            return strikes.described(caught)

    for error in (KeyError(secret), ValueError(secret), TypeError(secret), RuntimeError(secret)):
        assert secret not in fails(error) and fails(error).endswith(type(error).__name__)
        assert "test_board_care.py" in fails(error)
    assert fails(OSError(28, "no space")).endswith("OSError: [Errno 28] no space")
    assert len(fails(MalformedMessage("x" * 5000))) <= strikes.TEXT_MAX


@pytest.mark.parametrize(
    "octets", [b"", b"\x83", b"\x83\x01\x02", b"\x83\x02\x03\x60", b"\x01", b"\xf6"], ids=bytes.hex
)
def test_a_record_that_is_damaged_or_of_another_form_counts_as_none(chip, octets):
    flash = Flash()
    board_module("device_agent.key_store").KeyStore(flash).save("last", octets)
    assert [starts(chip, flash, HARD) for _ in range(4)] == [None, None, None, ""]


def test_the_page_of_the_start_has_each_state(chip):
    page = (PROJECT / "docs" / "board_start.md").read_text()
    lines = board_module("status_lines").LINES
    rows = [f"| `{code}` | {longs} | {shorts} | {text} |" for code, (longs, shorts, text) in lines.items()]
    assert [row for row in rows if row not in page] == []
    blinks = [each[:2] for each in lines.values()]
    assert len(set(blinks)) == len(blinks)


@pytest.mark.parametrize(
    ("level", "opened"),
    [
        (lambda now: True, []),
        (lambda now: now < 60000, []),
        (lambda now: 10000 <= now < 12000 or now >= 20000, [23000]),
        (lambda now: 10000 <= now < 14000 or 20000 <= now < 30000, [13000, 23000]),
    ],
    ids=["stuck", "stuck for a minute", "too short, then held", "held twice"],
)
def test_a_held_button_opens_the_pairing_window_once_and_a_stuck_one_never(chip, monkeypatch, level, opened):
    now, seen = [0], []

    async def sleep_ms(ms):
        now[0] += ms
        if now[0] > 5 * MINUTE:
            raise Stopped

    async def pair(show):
        seen.append(now[0])

    monkeypatch.setattr(asyncio, "sleep_ms", sleep_ms, raising=False)
    node = SimpleNamespace(paired=True, pair=pair, id="lamp", gateway_id="gw", credentials=(b"its own", b""))
    with pytest.raises(Stopped):
        asyncio.run(board_module("pairing_window").serve(node, lambda: level(now[0])))
    assert [round(when, -3) for when in seen] == opened
