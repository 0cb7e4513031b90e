"""The socket below the MQTT library, which reads and writes packets one by one, and each header octet by octet."""

from __future__ import annotations

import socket
import ssl
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

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._read = b""
        self._at = 0
        self._unsent = bytearray()
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def recv(self, most: int) -> bytes:
        """Return 1 to `most` octets, none if the peer has closed the connection. Raises OSError as a socket does."""
        if self._at >= len(self._read):
            self._read, self._at = self._socket.recv(max(most, _READ)), 0
        piece = self._read[self._at : self._at + most]
        self._at += len(piece)
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
