"""Finds the programs that use a port of this machine, so that a person knows which one to stop."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_LISTENS = {"udp": ("07", "01"), "tcp": ("0A",)}  # states of proc(5); a TCP connection does not occupy a port
_EVERY = ("0.0.0.0", "::")
_NAMED_MAX = 3


@dataclass(frozen=True)
class PortHolder:
    """A process that uses a port: its ID and the name of its program."""

    pid: int
    program: str

    def __str__(self) -> str:
        return f"{self.program} (process {self.pid})"


def holders(protocol: str, host: str, port: int) -> list[PortHolder]:
    """Return the processes that use `port` of the numeric address `host`, or of all addresses.

    `protocol` is "udp" or "tcp". Only root can see processes of other users, so the list may be empty.
    """
    inodes: set[str] = set()
    for table in (protocol, f"{protocol}6"):
        with contextlib.suppress(OSError):
            inodes |= inodes_in((_PROC / "self/net" / table).read_text().splitlines()[1:], protocol, host, port)
    return list(_with_sockets(inodes)) if inodes else []


def in_words(protocol: str, host: str, port: int) -> str:
    """Return the programs that use a port as words of a sentence: "another program, named (process 812)"."""
    found = holders(protocol, host, port)
    named = " and ".join(map(str, found[:_NAMED_MAX]))
    more = f" and {len(found) - _NAMED_MAX} more" if len(found) > _NAMED_MAX else ""
    return f"another program, {named}{more}" if found else "another program"


def inodes_in(lines: Iterable[str], protocol: str, host: str, port: int) -> set[str]:
    """Return the inodes of the sockets in `lines` of /proc/net/udp or tcp that occupy `host` and `port`."""
    found = set()
    for line in lines:
        _, local, _, state, _, _, _, _, _, inode, *_ = line.split()
        address, _, number = local.partition(":")
        if int(number, 16) == port and state in _LISTENS[protocol]:
            bound = _address(address)
            if bound == host or bound in _EVERY or host in _EVERY:
                found.add(inode)
    return found


def _address(text: str) -> str:
    """Return the address that /proc/net writes as `text`, in 32-bit words of the machine's own order of octets."""
    octets = bytes.fromhex(text)
    if sys.byteorder == "little":
        octets = struct.pack(f">{len(octets) // 4}I", *struct.unpack(f"<{len(octets) // 4}I", octets))
    return socket.inet_ntop(socket.AF_INET if len(octets) == 4 else socket.AF_INET6, octets)


def _with_sockets(inodes: set[str]) -> Iterator[PortHolder]:
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for process in _PROC.iterdir():
        if process.name.isdecimal():
            with contextlib.suppress(OSError):  # the process has ended, or belongs to another user
                if any(_link(process / "fd" / name) in wanted for name in os.listdir(process / "fd")):
                    yield PortHolder(int(process.name), (process / "comm").read_text().strip())


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
