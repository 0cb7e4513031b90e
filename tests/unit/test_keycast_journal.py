"""The log in the journal: a line is one datagram of fields, and no text of a peer becomes a field or another line."""

import array
import json
import logging
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway_agent.observe.log_lines import code_of
from keycast.terminal.journal import JournalHandler, encode, fields_of, is_journal
from keycast.terminal.log_forms import JsonForm, PriorityForm, TextForm
from tests.waiting import PATIENCE_S

AREA = "gateway_agent.event_log"
HOSTILE = [
    "lamp\nKEYCAST_CODE=KC9999\nPRIORITY=0",
    "lamp\n2026-01-01T00:00:00 INFO all is well",
    "\x1b[2J\x1b[1;1H",
    "\u202egnola\u2066",
    "KC9999 lamp",
    "\ud800",
    '"}\n{"code": "KC9999"',
]


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "journal"))
        listening.settimeout(PATIENCE_S)
        yield listening


def record_of(text: str, *arguments: object, level: int = logging.WARNING, area: str = AREA, **about: str):
    record = logging.LogRecord(area, level, "/src/file.py", 12, text, arguments, None, "function")
    vars(record).update(about)
    return record


def decoded(octets: bytes) -> list[tuple[str, str]]:
    """The fields of a datagram, as journald reads it."""
    found = []
    while octets:
        line, _, rest = octets.partition(b"\n")
        name, is_short, value = line.partition(b"=")
        if is_short:
            octets = rest
        else:
            (length,) = struct.unpack_from("<Q", rest)
            value, octets = rest[8 : 8 + length], rest[8 + length + 1 :]
        found.append((name.decode(), value.decode()))
    return found


def received(listening: socket.socket) -> dict[str, str]:
    octets, ancillary, *_ = listening.recvmsg(1 << 20, socket.CMSG_SPACE(4))
    for _, _, passed in ancillary:
        (descriptor,) = array.array("i", passed[:4])
        with open(descriptor, "rb") as file:
            octets = os.pread(file.fileno(), 1 << 24, 0)
            with pytest.raises(PermissionError):  # sealed
                os.pwrite(file.fileno(), b"x", 0)
    return dict(decoded(octets))


def test_a_line_has_its_priority_code_place_and_what_it_is_about(journald: socket.socket) -> None:
    handler = JournalHandler(Path(journald.getsockname()))
    handler.handle(record_of("KC1203 %s is off", "mDNS", sg_id="home/lights", pne_id="lamp"))
    handler.close()
    assert received(journald) == {
        "MESSAGE": f"{AREA}: KC1203 mDNS is off",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "keycast",
        "CODE_FILE": "/src/file.py",
        "CODE_LINE": "12",
        "CODE_FUNC": "function",
        "KEYCAST_AREA": AREA,
        "KEYCAST_CODE": "KC1203",
        "KEYCAST_SG": "home/lights",
        "KEYCAST_PNE": "lamp",
    }


def test_a_line_that_no_datagram_holds_goes_in_a_sealed_file(journald: socket.socket) -> None:
    handler = JournalHandler(Path(journald.getsockname()))
    handler.handle(record_of("KC1203 %s", "x" * (1 << 22)))
    handler.close()
    assert len(received(journald)["MESSAGE"]) > 1 << 22


def test_a_line_that_journald_has_no_room_for_is_counted_and_nothing_waits(journald: socket.socket) -> None:
    handler = JournalHandler(Path(journald.getsockname()))
    for number in range(3000):  # more than any queue of datagrams holds
        handler.handle(record_of("line %d", number))
    journald.setblocking(False)
    kept = 0
    try:
        while True:
            received(journald)
            kept += 1
    except BlockingIOError:
        pass
    handler.handle(record_of("the next line"))
    handler.close()
    told = received(journald)
    assert 0 < kept < 3000 and told["KEYCAST_CODE"] == "KC5001" and str(3000 - kept) in told["MESSAGE"]
    assert received(journald)["MESSAGE"].endswith("the next line")


def test_without_journald_a_line_goes_to_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    handler = JournalHandler(tmp_path / "nobody")
    handler.handle(record_of("KC1203 %s is off", "mDNS"))
    handler.close()
    assert capsys.readouterr().err == f"<4>{AREA}: KC1203 mDNS is off\n"


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_a_peer_chose_becomes_no_field_no_code_and_no_line(name: str) -> None:
    record = record_of("KC1021 %s is retired", name, sg_id=name, pne_id=name)
    fields = decoded(encode(fields_of(record)))
    assert len(dict(fields)) == len(fields) and dict(fields)["KEYCAST_CODE"] == "KC1021"
    assert dict(fields)["PRIORITY"] == "4"
    assert all(line.isprintable() for line in dict(fields)["MESSAGE"].split("\n"))
    shown = JsonForm().format(record)
    assert shown.isascii() and "\n" not in shown and json.loads(shown)["code"] == "KC1021"
    for form in (TextForm(), TextForm(is_coloured=True), PriorityForm()):
        first, *others = form.format(record).replace("\x1b[33m", "").replace("\x1b[0m", "").split("\n")
        assert first.isprintable() and all(each.isprintable() for each in others)
        assert all(each.removeprefix("<4>").startswith("  ") for each in others)


def test_what_is_filled_in_or_said_by_a_library_is_no_code() -> None:
    assert code_of(record_of("%s", "KC1021 x")) == ""
    assert code_of(record_of("KC1021 x", area="aiohttp.access")) == ""
    assert code_of(record_of("KC1021 x")) == "KC1021"


def test_a_traceback_prints_and_stays_one_object(journald: socket.socket) -> None:
    try:
        raise ValueError("lamp\x1b[2J\n<0>forged")
    except ValueError as fault:
        record = logging.LogRecord(AREA, logging.ERROR, "f", 1, "KC1411 command", (), (ValueError, fault, None))
    assert json.loads(JsonForm().format(record))["text"].startswith("command\n")
    shown = PriorityForm().format(record).split("\n")
    assert all(line.startswith("<3>") and line.isprintable() for line in shown)
    assert decoded(encode(fields_of(record)))[0][1].endswith("<0>forged")


def test_the_level_has_a_colour_on_a_terminal_only() -> None:
    record = record_of("KC1203 off")
    assert "\x1b[33mWARNING\x1b[0m" in TextForm(is_coloured=True).format(record)
    assert "\x1b" not in TextForm().format(record)


def test_the_journal_is_where_systemd_says_and_nowhere_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        found = os.fstat(file.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        assert is_journal(file)
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino + 1}")
        assert not is_journal(file)
        monkeypatch.setenv("JOURNAL_STREAM", "rubbish")
        assert not is_journal(file)
