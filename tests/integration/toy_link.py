"""A link that no product has, for the tests of the contract: pigeons between lofts, none of which is ever lost."""

import asyncio

from pydantic import BaseModel

from message_plane.errors import PeerUnreachable
from message_plane.links.link import Address, Link

LOFTS = {}


class LoftSection(BaseModel):
    """The name of this end."""

    loft: str


class Loft(Address):
    """A loft, which nobody can pretend to send from."""

    __slots__ = ("name",)
    echo_proves = False

    def __init__(self, link, name):
        super().__init__(link)
        self.name = name

    def __eq__(self, other):
        return isinstance(other, Loft) and (self.link, self.name) == (other.link, other.name)

    def __hash__(self):
        return hash(self.name)

    @property
    def place(self):
        return f"toy:{self.name}"

    @property
    def counted_as(self):
        return self.place


class Pigeons(Link):
    """What one loft sends and gets. A pigeon carries little."""

    scheme = "toy"
    datagram_max = 200
    reliable = True

    def __init__(self, name):
        self.name = name
        self.sent = []
        self.receive = None

    @property
    def places(self):
        return [f"toy:{self.name}"] if self.receive else []

    async def open(self, receive):
        self.receive = receive
        LOFTS[self.name] = self

    def send(self, address, datagram):
        self.sent.append(datagram)
        loft = LOFTS.get(address.name)
        if loft is None:
            raise OSError("there is no such loft")
        asyncio.get_running_loop().call_soon(loft.arrived, self.name, datagram)

    def arrived(self, sender, datagram):
        if self.receive:
            self.receive(datagram, Loft(self, sender))

    async def find(self, place):
        if not place.startswith("toy:"):
            raise PeerUnreachable(f"{place} is no loft")
        return Loft(self, place.removeprefix("toy:"))

    async def close(self):
        LOFTS.pop(self.name, None)
        self.receive = None


SECTION = LoftSection


def link_of(section):
    return Pigeons(section.loft)
