"""Requests of this endpoint: they are protected and sent, and their answers are verified."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import Any

from aiocoap import CHANGED, CONTINUE, POST, UNAUTHORIZED, Message, oscore  # type: ignore[import-untyped]
from aiocoap import error as coap_error

from cpns.errors import CpnsError
from message_plane import blockwise, tuning
from message_plane.errors import NoSession, PeerRefused, PeerUnreachable
from message_plane.exchanges import Exchanges
from message_plane.incidents import Incidents
from message_plane.links.link import Address, Link
from message_plane.resource import ResourcesByRole
from message_plane.session import Session
from message_plane.sessions import Sessions

_VERIFY_ERRORS = (oscore.ProtectionInvalid, oscore.NotAProtectedMessage, coap_error.Error, ValueError, IndexError)

# Sends one protected request with a payload and options of CoAP; returns the verified response.
_Exchange = Callable[[bytes, dict[str, Any]], Awaitable[Any]]


class ContextLost(NoSession):
    """The peer says in an unprotected message, which is only a hint, that it does not know the session."""


class Outgoing:
    """Sends requests on sessions, each by one call of `send`. There is no time limit; the caller may cancel."""

    def __init__(
        self, resources: ResourcesByRole, exchanges: Exchanges, sessions: Sessions, incidents: Incidents
    ) -> None:
        self._resources = resources
        self._exchanges = exchanges
        self._sessions = sessions
        self._incidents = incidents
        self._tags = itertools.count()

    async def send(
        self,
        session: Session,
        address: Address,
        path: str,
        payload: bytes,
        departed: Callable[[], None] = lambda: None,
    ) -> bytes:
        """Send one request for the resource at `path` and return the payload of the verified answer.

        `departed` is called when a message of the request is sent. Raises ContextLost, NoSession, PeerUnreachable,
        PeerRefused, LeaseLost, StoreError.
        """
        self._incidents.count("requests_sent")
        resource = self._resources[session.peer.role][path]

        def exchange(payload: bytes, options: dict[str, Any]) -> Awaitable[Any]:
            return self._exchange(session, address, payload, options, departed)

        options: dict[str, Any] = {"uri_path": path.split("/")}
        of_payload = {"content_format": resource.format_of(payload)} if payload else {}
        if not resource.blocks and len(payload) > address.link.datagram_max - tuning.AROUND_PAYLOAD:
            raise PeerUnreachable(f"{len(payload)} octets are more than a datagram to {session.entity_id!r} may have")
        if not resource.blocks:
            return bytes(_successful(await exchange(payload, options | of_payload)).payload)
        options["request_tag"] = [(next(self._tags) & 0xFFFF).to_bytes(2, "big")]
        try:
            response = await _send_in_blocks(exchange, payload, options | of_payload, address.link)
            return await _receive_in_blocks(exchange, response, options, resource.size)
        except CpnsError as broken:
            raise PeerUnreachable(f"the transfer in blocks failed: {broken.reason}") from None

    async def _exchange(
        self,
        session: Session,
        address: Address,
        payload: bytes,
        options: dict[str, Any],
        departed: Callable[[], None],
    ) -> Any:
        """Send one protected request and return its verified response. One Echo challenge is met (RFC 8613, B.1.2)."""
        response = await self._protected(session, address, payload, options, departed)
        if response.code == UNAUTHORIZED and response.opt.echo is not None:
            with_echo = {**options, "echo": response.opt.echo}
            response = await self._protected(session, address, payload, with_echo, departed)
        return response

    async def _protected(
        self,
        session: Session,
        address: Address,
        payload: bytes,
        options: dict[str, Any],
        departed: Callable[[], None],
    ) -> Any:
        await self._sessions.numbers_for(session)
        await self._sessions.hold(session.lease)
        inner = Message(code=POST, payload=payload, **options)
        outer, request_id = session.protect(inner)
        outer.remote = address
        response = await self._exchanges.ask(outer, departed)
        if response.opt.oscore is None:
            self._incidents.strange("responses_unprotected")
            if response.code == UNAUTHORIZED:
                raise ContextLost(f"{session.entity_id!r} says that it does not know the session")
            raise PeerUnreachable(f"{session.entity_id!r} answered without protection: {response.code}")
        try:
            plain, _ = session.unprotect(response, request_id)
        except _VERIFY_ERRORS:
            raise PeerUnreachable(f"an answer for {session.entity_id!r} did not verify") from None
        if not await self._sessions.verified(session, address):
            raise NoSession(f"the session with {session.entity_id!r} has ended")
        return plain


async def _send_in_blocks(exchange: _Exchange, payload: bytes, options: dict[str, Any], link: Link[Any]) -> Any:
    """Send `payload`, in blocks if `link` does not carry it whole, and return the response to the last one.

    The response may be the first block of the answer. Raises PeerRefused, PeerUnreachable.
    """
    exponent = blockwise.exponent_for(link.datagram_max)
    if len(payload) <= max(link.body_max, blockwise.block_size(exponent)):
        return await exchange(payload, options)
    for number in itertools.count():
        piece, block = blockwise.cut(payload, number, exponent)
        response = await exchange(piece, {**options, "block1": block.option})
        if not block.more:
            return response
        if response.code != CONTINUE:
            _successful(response)
            raise PeerUnreachable("the peer ended a transfer in blocks before its last block")


async def _receive_in_blocks(exchange: _Exchange, response: Any, options: dict[str, Any], size_max: int) -> bytes:
    """Return the whole answer, of which `response` is the first block or everything.

    Raises PeerRefused, MalformedMessage, TooMany (above `size_max` octets).
    """
    body = b""
    while True:
        block2 = _successful(response).opt.block2
        if block2 is None:
            return body + bytes(response.payload)
        block = blockwise.Block(block2.block_number, block2.more, block2.size_exponent)
        body = blockwise.join(body, block, response.payload, size_max)
        if not block.more:
            return body
        wanted = blockwise.Block(block.number + 1, False, block.size_exponent)
        response = await exchange(b"", {**options, "block2": wanted.option})


def _successful(response: Any) -> Any:
    if response.code != CHANGED:
        reason = response.payload[: tuning.REASON_MAX].decode("utf-8", "replace")
        raise PeerRefused(response.code.dotted, reason)
    return response
