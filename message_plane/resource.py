"""A resource: what an endpoint serves and asks for at one path, as an entry of the table it is opened with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from message_plane.credentials import ROLE_PNE
from message_plane.session import Peer


@dataclass(frozen=True, slots=True)
class Answer:
    """The body of an answer, and an event that is set when the answer has gone out, or can go out no more."""

    body: bytes | None
    left: asyncio.Event


# Takes a verified peer and the body of its request; returns the body of the answer, or None for an empty 2.04; as an
# Answer where something waits for it to leave. Of the errors in cpns.errors MalformedMessage becomes 4.00, TooMany
# 4.29, every other 4.03.
Handler = Callable[[Peer, bytes], Awaitable[bytes | Answer | None]]


@dataclass(frozen=True, slots=True)
class Resource:
    """How requests to one path are served, and how this endpoint itself asks a peer for that path.

    `handler` is None for a path that is only asked for. `formats` are the CoAP content formats that are accepted, each
    with the octets that a body in it begins with: an own body is sent under the first that fits. `size` is the largest
    body in octets, in either direction. With `blocks`, a body longer than one block travels in several (RFC 7959);
    without, Block1 and Block2 are unknown options. A `kind` is announced in `/.well-known/core` as the resource type
    (RFC 6690). `boards` is what holds in place of all this towards PNEs, where that is not the same.
    """

    handler: Handler | None
    formats: Mapping[int, bytes]
    size: int
    blocks: bool = False
    kind: str = ""
    boards: Resource | None = None

    def towards(self, role: str) -> Resource:
        """Return the resource as it is for peers of `role`."""
        return self.boards if role == ROLE_PNE and self.boards is not None else self

    def format_of(self, body: bytes) -> int:
        """Return the content format that `body` is sent under. Raises ValueError if it is in none of `formats`."""
        for content_format, beginning in self.formats.items():
            if body.startswith(beginning):
                return content_format
        raise ValueError("a body in a format that the resource does not have")


# By path, segments separated by "/".
Resources = Mapping[str, Resource]
