"""The checks at the bench: they are run, their lines are read, and a result never says more than was seen."""

import json
import os
import re
import sys
import tty
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from keycast.board import serial_port
from keycast.board.ports import front_file
from keycast.commands import bench
from keycast.hardware.catalogue import all_boards
from keycast.hardware_bench.checks import CHECKS, PARTS, Check, checks_for, parts_of
from keycast.hardware_bench.walk import Result, walk
from tools import bench_checklist


class _Person:
    """A person who does everything and gives the same answers each time."""

    def __init__(self, yes: bool = True, number: str = "12", ready: bool = True) -> None:
        self.yes, self.number, self.is_ready = yes, number, ready

    def ready(self, check: Check) -> bool:
        return self.is_ready

    def confirms(self, question: str) -> bool:
        return self.yes

    def reads(self, unit: str) -> str:
        return self.number


def _one(check: Check, person: _Person | None = None, lines: Iterable[str] = ()) -> Result:
    return next(walk([check], {"PORT": "/dev/pts/7"}, person or _Person(), lambda seconds: iter(lines)))


def test_the_page_is_that_of_the_table() -> None:
    assert bench_checklist.PAGE.read_text(encoding="utf-8") == bench_checklist.page(), "python -m tools.bench_checklist"


def test_the_table_is_sound() -> None:
    assert len({check.name for check in CHECKS}) == len(CHECKS)
    for check in CHECKS:
        assert check.command or check.expect or check.ask or check.measure, check.name
        assert set(check.needs) <= set(PARTS), check.name
        assert not check.command or check.command[0] in ("keycast", "esptool", "mpremote"), check.name
        for each in check.expect:
            re.compile(each)


def test_a_board_gets_the_checks_that_fit_it() -> None:
    boards = all_boards()
    devkit = {check.name for check in checks_for(parts_of(boards["esp32-devkitc"], image=False))}
    assert "usb comes back" not in devkit and "flash" not in devkit and "light" not in devkit and "window" in devkit
    s3 = {check.name for check in checks_for(parts_of(boards["esp32-s3-devkitc-1"], image=True))}
    assert s3 == {check.name for check in CHECKS}


def test_a_line_that_does_not_come_fails_the_check() -> None:
    check = Check("window", "", 1, "", expect=("^start", "^running"), within_s=9)
    assert _one(check, lines=["start", "x", "running"]).result == "passed"
    late = _one(check, lines=["running", "start"])
    assert (late.result, late.lines) == ("failed", ("running", "start"))
    assert "'^running' came within 9 s" in late.why


def test_a_command_must_end_well_and_print_what_is_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    def code(program: str, *expect: str, within_s: int = 60) -> Result:
        monkeypatch.setattr("keycast.hardware_bench.walk._OURS", ("-c", program))
        return _one(Check("x", "", 1, "", ("keycast", "PORT"), expect, within_s))

    assert sys.executable
    said = code("import sys; print('MAC:', sys.argv[1])", "^MAC: /dev/pts/7$")
    assert (said.result, said.lines) == ("passed", ("MAC: /dev/pts/7",))
    assert code("print('MAC:')", "^MAC: .").result == "failed"
    assert code("raise SystemExit(3)").why == "keycast ended with 3"
    assert code("import time; print('on', flush=True); time.sleep(60)", within_s=1).why.endswith("within 1 s")


def test_what_the_person_says_counts() -> None:
    check = Check("light", "", 1, "", expect=("a",), ask="Is it green?")
    assert _one(check, _Person(yes=False), ["a"]).why == "answered with no: Is it green?"
    assert _one(check, _Person(), ["a"]).result == "passed"
    assert _one(check, _Person(ready=False), ["a"]).result == "skipped"
    measured = Check("current", "", 1, "", measure="mA")
    assert (_one(measured).result, _one(measured).measured) == ("passed", "12")
    assert _one(measured, _Person(number="")).result == "skipped"


def test_the_command_goes_through_the_checks_with_a_person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keycast.board.ports.VIRTUAL_BOARDS", tmp_path / "boards")
    monkeypatch.setattr("keycast.board.ports.LOCKS", tmp_path / "locks")
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    (tmp_path / "boards").mkdir()
    link = tmp_path / "boards" / "porch"
    link.symlink_to(os.ttyname(theirs))
    front_file(link).write_text(str(os.getpid()))

    really = serial_port.opened

    def opened(device: str, timeout_s: float) -> Any:
        port = really(device, timeout_s)
        os.write(ours, b"keycast: start: any key within 2 s for the REPL\r\nABCD-EFGH-IJKL-MNOP\r\n")
        return port

    monkeypatch.setattr("keycast.board.serial_port.opened", opened)
    saved = tmp_path / "results.json"
    words = ["hil", "--board", "esp32-c6-devkitc-1", "--only", "window", "--only", "light", "--save", str(saved)]
    done = CliRunner().invoke(bench.app, words, input="\n\nn\n")
    assert done.exit_code == 1, done.output
    assert "1 passed, 1 failed, 0 skipped" in done.output
    kept = json.loads(saved.read_text())
    assert [(each["name"], each["result"]) for each in kept["results"]] == [("window", "passed"), ("light", "failed")]
    again = CliRunner().invoke(bench.app, words, input="s\ns\n")
    assert again.exit_code == 1 and json.loads(saved.read_text()) == kept, "a file that exists was written over"
    os.close(ours)
    os.close(theirs)


def test_checks_can_be_listed_without_a_board() -> None:
    listed = CliRunner().invoke(bench.app, ["hil", "--board", "esp32-devkitc", "--list"])
    assert listed.exit_code == 0 and "auto-reset" in listed.output and "usb comes back" not in listed.output
    assert "esp32-devkitc" in CliRunner().invoke(bench.app, ["hil", "--board", "toaster", "--list"]).output


def test_the_program_that_hears_the_gateway(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs on a board; here on the modules that it imports there, with three adverts of ours and one of others."""
    ours = b"\x1b\xff\xff\xff"
    adverts = [(0, ours + bytes(24)), (25, ours + bytes(24)), (30, b"\x1b\xff\x4c\x00" + bytes(24))]
    adverts.append((47, b"\x02\x01\x04" + ours + bytes(23) + b"\x01"))
    now = [0]

    class Ble:
        def active(self, on: bool) -> None:
            assert on

        def irq(self, handler: Any) -> None:
            self.handler = handler

        def gap_scan(self, *limits: int) -> None:
            assert limits == (10000, 100000, 100000)
            self.handler(6, ())
            for now[0], data in adverts:
                self.handler(5, (0, b"", 3, -50, memoryview(data)))

    ticks = SimpleNamespace(ticks_ms=lambda: now[0], ticks_diff=lambda a, b: a - b, sleep=lambda seconds: None)
    monkeypatch.setitem(sys.modules, "bluetooth", SimpleNamespace(BLE=Ble))
    monkeypatch.setitem(sys.modules, "time", ticks)
    program = next(check for check in CHECKS if check.name == "advert interval").command[-1]
    exec(program, {})
    assert capsys.readouterr().out == "interval 25 adverts 3 payloads 2\n"
