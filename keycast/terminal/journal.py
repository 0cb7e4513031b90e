"""The log in systemd's journal, by its own protocol: a line has fields, which `journalctl KEYCAST_SG=lights` finds.

A line is one datagram of fields. A field is `NAME=value` and a newline or, for a value of several lines, the name, a
newline, the length of the value as 64 bits little-endian, the value and a newline, so that no value can pretend to be a
field. A line that is too large for a datagram goes in a sealed memory file (systemd's JOURNAL_NATIVE_PROTOCOL).
"""

import array
import errno
import fcntl
import logging
import os
import socket
import struct
import sys
from pathlib import Path
from typing import TextIO

from gateway_agent.observe.log_lines import about, code_of, text_of
from keycast.terminal.log_forms import PriorityForm, lines_of, priority_of

SOCKET = Path("/run/systemd/journal/socket")
IDENTIFIER = "keycast"

_LENGTH = struct.Struct("<Q")
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
_TOO_LARGE = (errno.EMSGSIZE, errno.ENOBUFS)


def fields_of(record: logging.LogRecord) -> dict[str, str]:
    """Return the fields of a record. Those of journald's own that it fills in itself are not among them."""
    sg_id, pne_id = about(record)
    code = code_of(record)
    fields = {
        "MESSAGE": f"{record.name}: {f'{code} ' if code else ''}{lines_of(text_of(record))}",
        "PRIORITY": str(priority_of(record)),
        "SYSLOG_IDENTIFIER": IDENTIFIER,
        "CODE_FILE": record.pathname,
        "CODE_LINE": str(record.lineno),
        "CODE_FUNC": record.funcName or "",
        "KEYCAST_AREA": record.name,
        "KEYCAST_CODE": code,
        "KEYCAST_SG": sg_id,
        "KEYCAST_PNE": pne_id,
    }
    return {name: value for name, value in fields.items() if value}


def encode(fields: dict[str, str]) -> bytes:
    """Return the datagram of a line."""
    return b"".join(_field(name.encode(), value.encode(errors="backslashreplace")) for name, value in fields.items())


def _field(name: bytes, value: bytes) -> bytes:
    if b"\n" in value:
        return name + b"\n" + _LENGTH.pack(len(value)) + value + b"\n"
    return name + b"=" + value + b"\n"


class JournalHandler(logging.Handler):
    """Sends each line to journald. It never waits: a line that journald has no room for is counted and told later.

    While journald does not answer, lines go to standard error with their priority.
    """

    def __init__(self, path: Path = SOCKET) -> None:
        super().__init__()
        self._path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._lost = 0
        self._otherwise = PriorityForm()

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record as one line."""
        try:
            if self._lost:
                self._send(_lost_lines(self._lost))
                self._lost = 0
            self._send(fields_of(record))
        except BlockingIOError:
            self._lost += 1
        except OSError:
            print(self._otherwise.format(record), file=sys.stderr, flush=True)
        except Exception:  # noqa: BLE001 - a format that does not fit its arguments, of a library
            self.handleError(record)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        super().close()

    def _send(self, fields: dict[str, str]) -> None:
        octets = encode(fields)
        try:
            self._socket.sendto(octets, self._path)
        except OSError as error:
            if error.errno not in _TOO_LARGE:
                raise
            self._send_file(octets)

    def _send_file(self, octets: bytes) -> None:
        descriptor = os.memfd_create(IDENTIFIER, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        with open(descriptor, "wb") as file:
            file.write(octets)
            file.flush()
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
            passed = array.array("i", [descriptor])
            self._socket.sendmsg([b""], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed)], 0, self._path)


def _lost_lines(count: int) -> dict[str, str]:
    text = f"KC5001 {count} lines of the log were lost: the journal had no room for them"
    return {"MESSAGE": text, "PRIORITY": "4", "SYSLOG_IDENTIFIER": IDENTIFIER, "KEYCAST_CODE": text[:6]}


def is_journal(stream: TextIO) -> bool:
    """Return True if systemd has connected `stream` to the journal (JOURNAL_STREAM of systemd.exec(5))."""
    try:
        device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
        found = os.fstat(stream.fileno())
        return (int(device), int(inode)) == (found.st_dev, found.st_ino)
    except (ValueError, OSError):
        return False
