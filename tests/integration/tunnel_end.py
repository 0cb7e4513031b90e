"""The end of a PNE in a tunnel to the CPNS Server: a link of which any endpoint makes a PNE behind a PN GW."""

import asyncio
import contextlib

from cpns.errors import TooMany
from message_plane.links.link import Address, Link
from message_plane.links.tunnel import TunnelLink

PLACE = "upwards:server"


class Upwards(Address):
    """The Server, as a PNE behind a PN GW sees it."""

    echo_proves = False
    place = counted_as = PLACE


class BoardEnd(Link):
    """A PNE's end of the tunnel through `gateway_id`. `sent` holds the datagrams that it sent.

    `tunnel.carry(gateway_id, pne_id, datagram)` brings each to the Server and returns the datagram in answer or None.
    """

    scheme = "upwards"
    datagram_max = TunnelLink.datagram_max
    reliable = True
    places = ()

    def __init__(self, tunnel, gateway_id, pne_id):
        self.tunnel = tunnel
        self.names = gateway_id, pne_id
        self.sent = []
        self.tasks = set()

    async def open(self, receive):
        self.receive = receive
        self.address = Upwards(self)

    def send(self, address, datagram):
        self.sent.append(datagram)
        task = asyncio.get_running_loop().create_task(self._carried(datagram))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _carried(self, datagram):
        with contextlib.suppress(TooMany):
            answer = await self.tunnel.carry(*self.names, datagram)
            if answer is not None:
                self.receive(answer, self.address)

    async def find(self, place):
        return self.address

    async def close(self):
        for task in self.tasks:
            task.cancel()
