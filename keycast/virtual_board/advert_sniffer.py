"""A receiver of all adverts on a virtual air: what anybody with a Bluetooth radio hears of a house."""

import asyncio
import contextlib
import os
import socket
import struct
from pathlib import Path

from cpns import advert

_HELLO, _SCAN = b"H\x01", b"S"  # gateway_agent/radios/virtual_air/boards.py
_SCAN_RESULT, _DATA_AT = 5, 10
_ALWAYS_US = 100_000  # window and interval
_MESSAGE_MAX = 2048
_MANUFACTURER = 0xFF


class AdvertSniffer:
    """Joins the air at the socket `path` as a board that loses nothing and only listens. `company_id` is the home's."""

    def __init__(self, path: Path, company_id: int) -> None:
        self._head = bytes([3 + advert.SIZE, _MANUFACTURER]) + company_id.to_bytes(2, "little")
        self._heard: list[bytes] = []
        self.transmissions = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        self._socket.connect(str(path))
        address = bytes([2, *os.urandom(5)])
        self._socket.send(_HELLO + address + struct.pack("<HII", 0, 0, 0))
        self._socket.send(_SCAN + struct.pack("<III", _ALWAYS_US, _ALWAYS_US, 0))
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._read)

    def adverts(self) -> list[bytes]:
        """Return the adverts, 24 octets each, of the home and its boards since the last call; each payload once."""
        heard, self._heard = self._heard, []
        return list(dict.fromkeys(heard))

    def close(self) -> None:
        """Leave the air."""
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while message := self._socket.recv(_MESSAGE_MAX):
                data = message[_DATA_AT:]
                at = data.find(self._head)
                if message[0] == _SCAN_RESULT and at >= 0:
                    self.transmissions += 1
                    self._heard.append(data[at + len(self._head) :][: advert.SIZE])
            self._loop.remove_reader(self._socket)  # the air has gone
