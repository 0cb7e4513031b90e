"""Requests of ours: protected, sent, answered, verified."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from aiocoap import CHANGED, CONTINUE, POST, UNAUTHORIZED, Message, oscore  # type: ignore[import-untyped]
from aiocoap import error as coap_error

from cpns import numbers
from cpns.errors import CpnsError
from message_plane import blockwise, tuning
from message_plane.credentials import ROLE_PNE
from message_plane.errors import NoSession, PeerRefused, PeerUnreachable
from message_plane.exchanges import Exchanges
from message_plane.incidents import Incidents
from message_plane.session import Session
from message_plane.sessions import Sessions
from message_plane.udp import Address

_VERIFY_ERRORS = (oscore.ProtectionInvalid, oscore.NotAProtectedMessage, coap_error.Error, ValueError, IndexError)


class ContextLost(NoSession):
    """The peer says, unprotected, that it does not know the session: a hint, never a proof."""


def content_format_of(payload: bytes) -> int:
    """CBOR or XML: no CPNS message in CBOR begins with the octet `<`."""
    return numbers.CONTENT_XML if payload[:1] == b"<" else numbers.CONTENT_CBOR


class Outgoing:
    """Sends requests on sessions. One request is one `send`; the caller sets the time limit by cancelling."""

    def __init__(self, exchanges: Exchanges, sessions: Sessions, incidents: Incidents) -> None:
        self._exchanges = exchanges
        self._sessions = sessions
        self._incidents = incidents
        self._tags = itertools.count()

    async def send(
        self, session: Session, address: Address, payload: bytes, departed: Callable[[], None] = lambda: None
    ) -> bytes:
        """Send one CPNS message; return the payload of the verified answer. `departed` is called when it goes out.

        Raises ContextLost, NoSession, PeerUnreachable, PeerRefused, LeaseLost, StoreError.
        """
        self._incidents.count("requests_sent")
        if session.peer.role == ROLE_PNE:
            return bytes(_successful(await self._exchange(session, address, payload, {}, departed)).payload)
        tag = (next(self._tags) & 0xFFFF).to_bytes(2, "big")
        try:
            return await self._send_in_blocks(session, address, payload, tag, departed)
        except CpnsError as broken:
            raise PeerUnreachable(f"the transfer in blocks failed: {broken.reason}") from None

    async def _send_in_blocks(
        self, session: Session, address: Address, payload: bytes, tag: bytes, departed: Callable[[], None]
    ) -> bytes:
        options: dict[str, Any] = {"request_tag": [tag]}
        if len(payload) <= tuning.BLOCK:
            response = await self._exchange(session, address, payload, options, departed)
        else:
            for number in itertools.count():
                piece, block = blockwise.cut(payload, number)
                with_block = {**options, "block1": block.option}
                response = await self._exchange(session, address, piece, with_block, departed)
                if not block.more:
                    break
                if response.code != CONTINUE:
                    _successful(response)
                    raise PeerUnreachable("the peer ended a transfer in blocks before its last block")
        body = b""
        while True:
            block2 = _successful(response).opt.block2
            if block2 is None:
                return body + bytes(response.payload)
            body = blockwise.join(body, blockwise.Block(block2.block_number, block2.more), response.payload)
            if not block2.more:
                return body
            wanted = blockwise.Block(block2.block_number + 1, False)
            response = await self._exchange(session, address, b"", {**options, "block2": wanted.option}, departed)

    async def _exchange(
        self,
        session: Session,
        address: Address,
        payload: bytes,
        options: dict[str, Any],
        departed: Callable[[], None],
    ) -> Any:
        """One protected request and its verified response; an Echo challenge is met once (RFC 8613, B.1.2)."""
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
        inner = Message(code=POST, payload=payload, uri_path=["cpns"], **options)
        if payload:
            inner.opt.content_format = content_format_of(payload)
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
        if not await self._sessions.verified(session, address.host, address.port):
            raise NoSession(f"the session with {session.entity_id!r} has ended")
        return plain


def _successful(response: Any) -> Any:
    if response.code != CHANGED:
        reason = response.payload[: tuning.REASON_MAX].decode("utf-8", "replace")
        raise PeerRefused(response.code.dotted, reason)
    return response
