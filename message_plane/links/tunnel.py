"""The tunnel as a link: datagrams that PN GWs carry between a CPNS Server and PNEs, whose session they cannot read.

A tunnel leads upwards only (docs/protocol.md section 11). Each datagram of a PNE waits for one datagram in answer, so a
PNE is answered and never asked. There is no socket below: `carry` is called with what PN GWs bring.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from urllib.parse import quote

import cpns.tuning
from cpns.errors import TooMany
from message_plane import tuning
from message_plane.errors import PeerUnreachable
from message_plane.links.link import Address, Link, Receive

_SCHEME = "tunnel"


class TunnelAddress(Address):
    """A PNE behind a PN GW, and where the answer to one of its datagrams goes. Equal if both names are equal.

    The session of the PN GW proves that the datagram came through it. Only a handshake proves the PNE.
    """

    __slots__ = ("answer", "gateway_id", "pne_id")

    echo_proves = False

    def __init__(self, link: TunnelLink, gateway_id: str, pne_id: str) -> None:
        super().__init__(link)
        self.gateway_id = gateway_id
        self.pne_id = pne_id
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, TunnelAddress)
            and self.pne_id == other.pne_id
            and self.gateway_id == other.gateway_id
            and self.link is other.link
        )

    def __hash__(self) -> int:
        return hash((self.gateway_id, self.pne_id))

    def __repr__(self) -> str:
        return f"<TunnelAddress {self.place}>"

    @property
    def place(self) -> str:
        return f"{self.carrier}/{self.pne_id}"

    @property
    def counted_as(self) -> str:
        return self.place

    @property
    def carried_by(self) -> str:
        return self.gateway_id

    @property
    def carrier(self) -> str:
        return f"{_SCHEME}:{quote(self.gateway_id, safe='')}"  # which has no "/", so that no two places are the same


class TunnelLink(Link[TunnelAddress]):
    """The tunnels of one CPNS Server through all its PN GWs."""

    scheme = _SCHEME
    datagram_max = cpns.tuning.TUNNEL_DATAGRAM_MAX
    reliable = True

    def __init__(self) -> None:
        self._receive: Receive | None = None
        self._waiting: Counter[str] = Counter()  # by `TunnelAddress.counted_as`, and by its `carrier`

    @property
    def places(self) -> list[str]:
        """No place: nothing reaches this end but through `carry`."""
        return []

    async def open(self, receive: Receive) -> None:
        self._receive = receive

    async def carry(self, gateway_id: str, pne_id: str, datagram: bytes) -> bytes | None:
        """Receive a datagram of `pne_id`, which the authenticated PN GW `gateway_id` has brought; return the answer.

        The caller has checked that the PNE belongs to the PN of that PN GW. Returns None if this end sends nothing
        within TUNNEL_ANSWER_S, as for a replay. Raises TooMany if too many datagrams of the PNE, or of all PNEs behind
        the PN GW, wait for an answer.
        """
        if self._receive is None:
            return None
        address = TunnelAddress(self, gateway_id, pne_id)
        limits = ((address.counted_as, tuning.TUNNEL_PER_PNE), (address.carrier, tuning.TUNNEL_PER_GATEWAY))
        if any(self._waiting[name] >= limit for name, limit in limits):
            raise TooMany("too many datagrams of the tunnel wait for an answer")
        for name, _ in limits:
            self._waiting[name] += 1
        try:
            self._receive(datagram, address)
            async with asyncio.timeout(tuning.TUNNEL_ANSWER_S):
                return await address.answer
        except TimeoutError:
            return None
        finally:
            for name, _ in limits:
                self._waiting[name] -= 1
                if not self._waiting[name]:
                    del self._waiting[name]

    def send(self, address: TunnelAddress, datagram: bytes) -> None:
        """Send `datagram` as the answer that `carry` waits for. Raises OSError if it waits for none at this address."""
        if address.answer.done():
            raise OSError("nothing waits for a datagram there")
        address.answer.set_result(datagram)

    async def find(self, place: str) -> TunnelAddress:
        """Raise PeerUnreachable, because a tunnel has no way down except for answers."""
        raise PeerUnreachable(f"{place} is answered, and cannot be asked")

    async def close(self) -> None:
        self._receive = None
