"""The open links of one endpoint, joined into one interface for the layer of CoAP messages."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

from aiocoap import Message, error, interfaces  # type: ignore[import-untyped]
from aiocoap.message import Direction  # type: ignore[import-untyped]

from cpns.errors import MalformedMessage
from message_plane.datagram import check_datagram
from message_plane.errors import PeerUnreachable
from message_plane.incidents import Incidents, log
from message_plane.links.link import Address, Link

_DECODE_ERRORS = (error.Error, ValueError, IndexError, KeyError, TypeError, struct.error)


class OpenLinks(interfaces.MessageInterface):  # type: ignore[misc]
    """Decodes the datagrams of all links, and sends each message on the link that its address belongs to.

    `receive` is called with every well-formed CoAP message.
    """

    def __init__(self, receive: Callable[[Any], None], incidents: Incidents) -> None:
        self._receive = receive
        self._incidents = incidents
        self._links: list[Link[Any]] = []

    async def open(self, links: Sequence[Link[Any]]) -> None:
        """Open each of `links`. Raises PlaneError; `shutdown` must be called then, too, as some links may be open."""
        for link in links:
            self._links.append(link)
            await link.open(self._take)

    @property
    def places(self) -> list[str]:
        """The places of this end on all links, in the order of the links."""
        return [place for link in self._links for place in link.places]

    async def find(self, place: str) -> Address:
        """Return the address of `place`, on the first link of its scheme. Raises PeerUnreachable."""
        scheme = place.partition(":")[0]
        for link in self._links:
            if link.scheme == scheme:
                found: Address = await link.find(place)
                return found
        raise PeerUnreachable(f"no link of this end leads to {place}")

    # aiocoap's MessageInterface

    def send(self, message: Any) -> None:
        """Encode and send a message. A datagram that its link does not accept is counted, and lost like any other."""
        link, datagram = message.remote.link, message.encode()
        try:
            if len(datagram) > link.datagram_max:
                raise OSError("longer than a datagram of this link")
            link.send(message.remote, datagram)
        except OSError:
            self._incidents.count("datagrams_unsent")

    async def determine_remote(self, message: Any) -> None:
        """Do nothing, because messages have their address already."""

    async def shutdown(self) -> None:
        """Close all links."""
        links, self._links = self._links, []
        for link in links:
            try:
                await link.close()
            except Exception as fault:  # noqa: BLE001 - the other links must be closed, too
                log.warning("KC3104 a link (%s) could not be closed: %s", link.scheme, fault)

    # Private

    def _take(self, datagram: bytes, address: Address) -> None:
        self._incidents.count("datagrams_received")
        try:
            check_datagram(datagram, address.link.datagram_max)
            message = Message.decode(datagram, remote=address)
        except (MalformedMessage, *_DECODE_ERRORS):
            self._incidents.strange("datagrams_malformed")
            return
        message.direction = Direction.INCOMING
        self._receive(message)
