"""The monitor of a serial line: lines and what they mean, ports that come and go, secrets that stay out of files."""

import os
import tty
from collections.abc import Callable, Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from keycast.board import monitor, serial_port
from keycast.board.monitor import Away, Here, watch, without_secrets
from keycast.board.ports import front_file
from keycast.board.serial_lines import LINE_MAX, Line, Lines, remark
from keycast.commands.board.monitor import command


def _all(octets: bytes) -> list[Line]:
    lines = Lines()
    return [*lines.take(octets), *lines.end()]


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        ("rst:0x1 (POWERON_RESET),boot:0x13 (SPI_FAST_FLASH_BOOT)", "power on"),
        ("rst:0x8 (TG1WDT_SYS_RESET),boot:0x13 (SPI_FAST_FLASH_BOOT)", "watchdog"),
        ("rst:0xc (RTC_SW_CPU_RST),boot:0xe (SPI_FAST_FLASH_BOOT)", "restarted"),
        ("rst:0xf (RTCWDT_BROWN_OUT_RESET),boot:0x13", "supply"),
        ("rst:0x15 (USB_UART_CHIP_RESET),boot:0x8", "over USB"),
        ("rst:0x3f,boot:0x8", "0x3f"),
        ("Brownout detector was triggered", "supply"),
        ("invalid header: 0xffffffff", "keycast board flash"),
        ("invalid header: 0x12345678", "no firmware"),
        ("E (10213) task_wdt: Task watchdog got triggered.", "stood still"),
        ("MemoryError: memory allocation failed, allocating 1500 bytes", "heap is full"),
        ("keycast: update collecting 1796035282 0", "collects"),
        ("keycast: update waiting 1796035282 0", "restarts"),
        ("keycast: update trial 1796035282 2", "on trial"),
        ("keycast: update confirmed 1796035282 0", "keeps"),
        ("keycast: update fell-back 1796035282 1", "before runs again"),
        ("keycast: update refused 1796035282 18", "does not take"),
        ("keycast: update withdrawn 1796035282 0", ""),
        ("keycast: running keyed", ""),
        ("first:0x1 of rows", ""),
    ],
)
def test_a_line_that_needs_it_has_a_remark(line: str, meaning: str) -> None:
    assert meaning in remark(line)
    assert bool(meaning) == bool(remark(line))


def test_lines_end_where_the_board_ends_them() -> None:
    lines = Lines()
    assert [each.text for each in lines.take(b"one\r\ntw")] == ["one"]
    assert [each.text for each in lines.take(b"o\r\n\xc3")] == ["two"]
    assert [each.text for each in lines.take(b"\xa9t\xe9 \xff\n>>> ")] == ["ét\\xe9 \\xff"]
    assert [each.text for each in lines.end()] == [">>>"]
    assert not list(lines.end())


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert _all(b"\x1b[31mred\x1b[0m\x07 \x9b2J\r\n")[0].text == "red \\x9b2J"


@given(st.binary(max_size=4 * LINE_MAX), st.integers(1, 5000))
def test_any_octets_are_cut_into_bounded_lines_and_none_is_lost(octets: bytes, piece: int) -> None:
    lines = Lines()
    told = [line for start in range(0, len(octets), piece) for line in lines.take(octets[start : start + piece])]
    told += lines.end()
    assert all(len(each.text) <= 4 * LINE_MAX for each in told)
    assert sum(each.text.count("A") for each in told) == octets.count(b"A")


class _Port:
    """A port that yields `pieces`, and then goes away."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces
        self.closed = False

    def read(self, size: int) -> bytes:
        if not self.pieces:
            raise OSError(5, "Input/output error")
        return self.pieces.pop(0)

    def close(self) -> None:
        self.closed = True


def test_a_port_that_goes_away_is_found_again_under_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "POLL_S", 0)
    names: Iterator[str | None] = iter([None, None, "/dev/ttyACM0", None, "/dev/ttyACM1"])
    ports = {"/dev/ttyACM0": _Port([b"one\n", b"", b"tw"]), "/dev/ttyACM1": _Port([b"three\n"])}
    opened: Callable[[str], _Port] = ports.__getitem__
    seen = [each for each in takewhile(lambda each: each != Away("the end"), _until_end(names, opened)) if each]
    assert seen == [
        Away(),
        Here("/dev/ttyACM0"),
        Line("one"),
        Line("tw"),
        Away("Input/output error"),
        Here("/dev/ttyACM1"),
        Line("three"),
        Away("Input/output error"),
    ]
    assert all(port.closed for port in ports.values())


def _until_end(names: Iterator[str | None], opened: Callable[[str], _Port]) -> Iterator[monitor.Seen | None]:
    def find() -> str | None:
        return next(names)

    try:
        yield from watch(find, opened)
    except RuntimeError:  # StopIteration within the generator: no more names
        return


def test_a_port_that_cannot_be_opened_says_why_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "POLL_S", 0)

    def refused(device: str) -> _Port:
        raise PermissionError(13, "Permission denied")

    names: Iterator[str | None] = iter(["/dev/ttyUSB0"] * 3)
    assert [each for each in _until_end(names, refused) if each] == [Away("Permission denied")]


@pytest.mark.parametrize("secret", ["ABCDEFGHIJKLMNOP", "ABCD-EFGH-IJKL-MNOP", "ABCD 2345 IJKL 7654"])
def test_a_pairing_secret_does_not_reach_a_file(secret: str) -> None:
    assert secret not in without_secrets(f"keycast: unpaired, its secret is {secret}.")
    assert without_secrets("keycast: running porch") == "keycast: running porch"


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A pseudo-terminal with the name of a virtual board, `porch`: the descriptor of the board's end."""
    monkeypatch.setattr("keycast.board.ports.VIRTUAL_BOARDS", tmp_path / "boards")
    monkeypatch.setattr("keycast.board.ports.LOCKS", tmp_path / "locks")
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    (tmp_path / "boards").mkdir()
    link = tmp_path / "boards" / "porch"
    link.symlink_to(os.ttyname(theirs))
    front_file(link).write_text(str(os.getpid()))
    yield ours
    os.close(ours)
    os.close(theirs)


def test_the_command_shows_and_saves_what_the_board_writes(
    board: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(device: str, timeout_s: float) -> Any:
        port = serial_port.opened(device, timeout_s)  # which discards what came before
        os.write(board, b"rst:0x8 (TG1WDT_SYS_RESET)\r\nkeycast: secret ABCD-EFGH-IJKL-MNOP\r\n")
        return port

    monkeypatch.setattr("keycast.commands.board.monitor.opened", opened)
    log = tmp_path / "porch.log"
    command(port="porch", save=log, seconds=0.5)
    shown = capsys.readouterr().out
    assert "<- a watchdog reset the board" in shown and "ABCD-EFGH-IJKL-MNOP" in shown
    saved = log.read_text()
    assert "rst:0x8" in saved and "****-****-****-****" in saved and "ABCD" not in saved
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_file_that_exists_is_not_written_over(board: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "porch.log"
    log.write_text("kept")
    with pytest.raises(typer.Exit):
        command(port="porch", save=log, seconds=0)
    assert "File exists" in capsys.readouterr().err and log.read_text() == "kept"
