"""`ports.Link` over UDP: one socket for the message plane, one for the broadcast plane.

lwIP keeps six datagrams a socket, so each socket is read as soon as it has something.
"""

import asyncio
import errno
import socket

from cpns import numbers

_LARGEST = 1472  # of one Ethernet frame


class UdpLink:
    """Bound to port `port` and to the broadcast port on all of the board's addresses; OSError if that fails."""

    def __init__(self, station, port=numbers.PORT_COAP):
        self._station = station
        self.dropped = 0  # datagrams that could not be sent
        self._unicast = _open(port)
        self._broadcast = _open(numbers.PORT_BROADCAST)

    def address(self, text):
        host, colon, port = text.partition(":")
        parts = host.split(".")
        if len(parts) != 4 or not all(part.isdigit() and int(part) < 256 for part in parts):
            raise ValueError("not an IPv4 address: " + text)
        return host, int(port) if colon else numbers.PORT_COAP

    def send(self, address, datagram):
        try:
            self._unicast.sendto(datagram, address)
        except OSError:
            self.dropped += 1

    def broadcast(self, port, datagram):
        everybody = self._station.broadcast_address()
        if everybody is None:
            self.dropped += 1
        else:
            self.send((everybody, port), datagram)

    async def recv(self):
        return await _receive(self._unicast)

    async def recv_broadcast(self):
        return await _receive(self._broadcast)

    def close(self):
        self._unicast.close()
        self._broadcast.close()


def _open(port):
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    opened.setblocking(False)
    opened.bind(("0.0.0.0", port))
    return opened


def _receive(opened):
    # (address, datagram); a generator, because the event loop's own way of waiting for a socket is a yield
    while True:
        try:
            datagram, address = opened.recvfrom(_LARGEST)
            return address, datagram
        except OSError as error:
            if error.errno != errno.EAGAIN:
                raise
        yield asyncio.core._io_queue.queue_read(opened)
