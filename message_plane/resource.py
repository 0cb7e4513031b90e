"""A resource, which an endpoint serves at one path and requests from its peers, as an entry of a table of resources."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from message_plane.session import Peer


@dataclass(frozen=True, slots=True)
class Answer:
    """The body of an answer, and an event that is set when the answer was sent or can not be sent any more."""

    body: bytes | None
    left: asyncio.Event


# A handler gets a verified peer and the body of its request. It returns the body of the answer, None for an empty 2.04,
# or an Answer if it has to know when the answer is sent. Of the exceptions in cpns.errors MalformedMessage becomes
# 4.00, TooMany 4.29, every other one 4.03.
Handler = Callable[[Peer, bytes], Awaitable[bytes | Answer | None]]


@dataclass(frozen=True, slots=True)
class Resource:
    """How requests to one path are served, and how this endpoint itself requests that path from a peer.

    `handler` is None for a path that is only requested from peers. `formats` are the CoAP content formats that are
    accepted, each with the octets that a body in it begins with; a body of this endpoint is sent under the first that
    fits. `size` is the largest body in octets, in either direction. With `blocks`, a body longer than one block is
    transferred in several (RFC 7959); otherwise Block1 and Block2 are unknown options. A `kind` is announced in
    `/.well-known/core` as the resource type (RFC 6690).
    """

    handler: Handler | None
    formats: Mapping[int, bytes]
    size: int
    blocks: bool = False
    kind: str = ""

    def format_of(self, body: bytes) -> int:
        """Return the content format under which `body` is sent. Raises ValueError if it is in none of `formats`."""
        for content_format, beginning in self.formats.items():
            if body.startswith(beginning):
                return content_format
        raise ValueError("a body in a format that the resource does not have")


# Resources by path, whose segments are separated by "/".
Resources = Mapping[str, Resource]

# The tables of an endpoint: one for the peers of each role. A path may be another resource for another role.
ResourcesByRole = Mapping[str, Resources]
