"""The socket below the MQTT library, which reads and writes packets one by one, and each header octet by octet."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

_READ = 8192  # octets at once: other work gets its turn after some thirty messages
_UNSENT_MAX = 1 << 16


class ClosingTlsSocket(ssl.SSLSocket):
    """A socket of TLS that closes itself when the handshake fails, as the MQTT library forgets it then."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


class BufferedSocket:
    """A connected socket, plain or TLS, that asks the kernel, and TLS, for many packets at once.

    What is sent is collected until `flush`. It has the methods that paho calls.
    """

    def __init__(self, connected: socket.socket, packet_max: int, shorten: Callable[[int], None]) -> None:
        """Of a packet with more than `packet_max` octets only the first so many are read, and the rest is dropped.

        `shorten` is called with the length of the rest, and makes the reader expect only what comes before it. A packet
        of MQTT may have 256 MiB, and brokers of 3.1.1 pass on what any client sends.
        """
        self._socket = connected
        self._packet_max = packet_max
        self._shorten = shorten
        self._before_rest = 0  # octets of a packet that is too long, before its rest
        self._rest = 0
        self._read = b""
        self._at = 0
        self._unsent = bytearray()
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def recv(self, most: int) -> bytes:
        """Return 1 to `most` octets, none if the peer has closed the connection. Raises OSError as a socket does.

        paho asks for one octet, or for all that is missing of a packet.
        """
        if self._rest and not self._before_rest:
            return self._drop_rest()
        if most > self._packet_max:
            self._rest, self._before_rest = most - self._packet_max, self._packet_max
            self._shorten(self._rest)
            most = self._packet_max
        piece = self._take(most)
        self._before_rest -= min(len(piece), self._before_rest)
        return piece

    def pending(self) -> int:
        """Return the number of octets that can be read although the kernel has none."""
        below = self._socket.pending() if isinstance(self._socket, ssl.SSLSocket) else 0
        return len(self._read) - self._at + below

    def send(self, octets: bytes) -> int:
        """Take all `octets`, to be sent by `flush`; return their number. Raises BlockingIOError if too many wait."""
        if len(self._unsent) >= _UNSENT_MAX:
            self.flush()
        if len(self._unsent) >= _UNSENT_MAX:
            raise BlockingIOError
        self._unsent += octets
        return len(octets)

    def flush(self) -> bool:
        """Send what waits, as far as the kernel takes it. Return True if nothing waits any more. Raises OSError."""
        while self._unsent:
            try:
                sent = self._socket.send(self._unsent)
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                return False
            del self._unsent[:sent]
        return True

    def close(self) -> None:
        """Close the socket, after what waits was sent if that is possible at once."""
        with suppress(OSError):
            self.flush()
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def setblocking(self, flag: bool) -> None:
        self._socket.setblocking(flag)

    def _take(self, most: int) -> bytes:
        if self._at >= len(self._read):
            self._read, self._at = self._socket.recv(max(most, _READ)), 0
        piece = self._read[self._at : self._at + most]
        self._at += len(piece)
        return piece

    def _drop_rest(self) -> bytes:
        """Drop a part of the rest, so that other work gets its turn. Returns b"" if the peer has closed the connection.

        Raises BlockingIOError: there is nothing to read yet.
        """
        dropped = len(self._take(min(self._rest, self._packet_max)))
        if not dropped:
            return b""
        self._rest -= dropped
        raise BlockingIOError
