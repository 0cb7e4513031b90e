"""Requests of peers: no unprotected request reaches a handler, and unknown senders cause little work."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from aiocoap import (  # type: ignore[import-untyped]
    BAD_OPTION,
    BAD_REQUEST,
    CHANGED,
    CONTENT,
    CONTINUE,
    FORBIDDEN,
    GET,
    INTERNAL_SERVER_ERROR,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    POST,
    REQUEST_ENTITY_TOO_LARGE,
    SERVICE_UNAVAILABLE,
    TOO_MANY_REQUESTS,
    UNAUTHORIZED,
    UNSUPPORTED_CONTENT_FORMAT,
    Message,
    oscore,
)
from aiocoap import error as coap_error
from aiocoap.numbers.optionnumbers import OptionNumber  # type: ignore[import-untyped]

from cpns.errors import CpnsError, MalformedMessage, TooMany
from message_plane import tuning
from message_plane.blockwise import Block, Transfers, block_size, cut, exponent_for
from message_plane.clock import monotonic
from message_plane.errors import LeaseLost, NoSession, PlaneError
from message_plane.exchanges import Exchanges
from message_plane.incidents import Incidents, log
from message_plane.lease import Lease
from message_plane.links.link import Link
from message_plane.reception import Reception
from message_plane.resource import Answer, Resource, Resources, ResourcesByRole
from message_plane.session import Peer, Session, parse_option
from message_plane.sessions import Sessions

EDHOC_PATH = (".well-known", "edhoc")
CORE_PATH = (".well-known", "core")

_PLAIN_CRITICAL = {OptionNumber.URI_HOST, OptionNumber.URI_PORT, OptionNumber.URI_PATH, OptionNumber.URI_QUERY}
_OUTER_CRITICAL = {OptionNumber.OSCORE, OptionNumber.URI_HOST, OptionNumber.URI_PORT}
_INNER_CRITICAL = {OptionNumber.URI_PATH}
_BLOCKS = {OptionNumber.BLOCK1, OptionNumber.BLOCK2}
_UNPROTECT_ERRORS = (oscore.ProtectionInvalid, coap_error.Error, ValueError, IndexError, KeyError, TypeError)


class Incoming:
    """Checks every request, and serves `resources` to peers whose request has verified.

    Provisional peers get `pairing_resources` instead, and nothing while that is None.
    """

    def __init__(
        self,
        resources: ResourcesByRole,
        exchanges: Exchanges,
        sessions: Sessions,
        reception: Reception,
        incidents: Incidents,
    ) -> None:
        self._resources = resources
        self._exchanges = exchanges
        self._sessions = sessions
        self._reception = reception
        self._incidents = incidents
        self._tasks: set[asyncio.Task[None]] = set()
        self._running: Counter[str | bytes] = Counter()
        self._deferred: dict[tuple[Any, int, bytes], Any] = {}  # requests, by remote, message ID and token
        self._transfers: defaultdict[str, Transfers] = defaultdict(Transfers)  # by path
        self.pairing_resources: Resources | None = None

    def process(self, request: Any) -> None:
        """Process one new request message."""
        if request.opt.oscore is not None:
            self._protected(request)
        elif request.code == GET and request.opt.uri_path == CORE_PATH and self._announced():
            self._discovery(request)
        elif request.remote.to_group:
            self._incidents.strange("requests_unprotected")
            self._exchanges.ignore(request)
        elif request.code == POST and request.opt.uri_path == EDHOC_PATH:
            self._handshake(request)
        else:
            self._incidents.strange("requests_unprotected")
            self._exchanges.reply(request, Message(code=UNAUTHORIZED))

    def expire(self, now: float) -> None:
        """Forget transfers in blocks that have rested too long."""
        for transfers in self._transfers.values():
            transfers.expire(now)

    def serve_provisional(self, resources: Resources | None) -> None:
        """Serve these resources to provisional peers from now on; None for nothing."""
        self.pairing_resources = resources

    async def close(self) -> None:
        """Cancel the requests that are being handled."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # Unprotected: discovery and EDHOC

    def _discovery(self, request: Any) -> None:
        """Answer `GET /.well-known/core` (RFC 6690) with the announced resources of the kind it asks for, or all."""
        announced = self._announced()
        wanted = [query[3:] for query in request.opt.uri_query if query.startswith("rt=")]
        # There is no limit. One forger could use up a limit that all share, or the limit of each address that it
        # forges. The answer costs no more than the refusal of any other unprotected request, it is no longer than the
        # question, and all boards of a home ask at once after a power failure (SEC-35).
        found = {path: kind for path, kind in announced.items() if not wanted or kind in wanted}
        if not found:
            self._exchanges.ignore(request)
            return
        self._incidents.count("discoveries_answered")
        links = ",".join(f'</{path}>;rt="{kind}"' for path, kind in found.items())
        self._exchanges.reply(request, Message(code=CONTENT, content_format=40, payload=links.encode()))

    def _handshake(self, request: Any) -> None:
        if _unknown_critical(request, _PLAIN_CRITICAL):
            self._exchanges.reply(request, Message(code=BAD_OPTION))
            return
        try:
            response, answered = self._reception.answer(request.payload, request.remote, request.opt.echo, monotonic())
        except LeaseLost:
            self._incidents.count("handshakes_of_others")
            self._exchanges.ignore(request)
            return
        if answered:
            self._exchanges.accept(request)
        self._exchanges.reply(request, response)

    # Protected

    def _protected(self, request: Any) -> None:
        if request.remote.to_group:
            self._incidents.strange("requests_malformed")
            self._exchanges.ignore(request)
            return
        try:
            number, kid = parse_option(request.opt.oscore)
            if request.code != POST or _unknown_critical(request, _OUTER_CRITICAL):
                raise MalformedMessage("no protected POST")
        except MalformedMessage:
            self._incidents.strange("requests_malformed")
            self._exchanges.reply(request, Message(code=BAD_OPTION))
            return
        session = self._sessions.by_recipient_id(kid)
        if not self._sessions.may_send and (session is None or not session.lease.renewable):
            self._exchanges.ignore(request)
            return
        if session is None or number >= tuning.SESSION_NUMBERS_MAX:
            self._without_context(request)
            return
        if not session.lease.valid:
            self._defer(session.lease, request)
            return
        if not request.remote.may_be(session.entity_id):
            self._incidents.strange("address_of_another")
            self._exchanges.reply(request, Message(code=FORBIDDEN, max_age=0))
            return
        try:
            inner, request_id = session.unprotect(request)
        except oscore.ReplayErrorWithEcho as fresh:
            self._challenge(session, request, fresh)
        except oscore.ReplayError:
            self._incidents.strange("requests_replayed")
            self._exchanges.ignore(request)  # SEC-27: no answer
        except _UNPROTECT_ERRORS:
            self._incidents.strange("requests_not_authentic")
            self._exchanges.reply(request, Message(code=BAD_REQUEST, max_age=0))
        except NoSession:
            self._without_context(request)
        except PlaneError as problem:
            self._cannot_take(request, problem)
        else:
            self._exchanges.accept(request)
            self._start(session, request, inner, request_id)

    def _defer(self, lease: Lease, request: Any) -> None:
        """Process a request when its lease, which has lapsed, is renewed: a busy machine reads many of them late.

        A peer that has repeated its request meanwhile has it processed once.
        """
        if not lease.renewable or len(self._deferred) >= tuning.HANDLERS_MAX:
            self._exchanges.ignore(request)
            return
        if not self._deferred:
            self._run(self._process_deferred(lease))
        self._deferred.setdefault((request.remote, request.mid, request.token), request)

    async def _process_deferred(self, lease: Lease) -> None:
        process: Callable[[Any], None] = self._exchanges.ignore
        try:
            await self._sessions.hold(lease)
            process = self._protected
        except PlaneError as problem:
            process = partial(self._cannot_take, problem=problem)
        finally:
            deferred, self._deferred = self._deferred, {}
            for request in deferred.values():
                process(request)

    def _cannot_take(self, request: Any, problem: PlaneError) -> None:
        log.warning("KC3007 a request cannot be taken: %s", problem)
        self._exchanges.ignore(request)

    def _without_context(self, request: Any) -> None:
        self._incidents.strange("requests_without_context")
        self._exchanges.reply(request, Message(code=UNAUTHORIZED, max_age=0))

    def _challenge(self, session: Session, request: Any, fresh: Any) -> None:
        """Ask for a request with an Echo value, as the replay window is not known after a restart (RFC 8613, B.1.2).

        An attacker with recorded requests can cause this, and each challenge uses a sender number, so their rate is
        limited.
        """
        if not session.challenges.take(monotonic()):
            self._incidents.strange("requests_replayed")
            self._exchanges.ignore(request)
            return
        self._incidents.count("requests_echo_challenged")
        self._exchanges.accept(request)
        response = Message(code=UNAUTHORIZED, echo=fresh.echo)
        self._run(self._respond(session, request, fresh.request_id, response))

    def _start(self, session: Session, request: Any, inner: Any, request_id: Any) -> None:
        name = _counted_as(session)
        if len(self._tasks) >= tuning.HANDLERS_MAX or self._running[name] >= tuning.HANDLERS_PER_PEER:
            self._incidents.count("requests_too_many")
            self._run(self._respond(session, request, request_id, Message(code=SERVICE_UNAVAILABLE, max_age=1)))
            return
        self._running[name] += 1  # not in the task, as more requests may be read before it begins
        self._run(self._serve(session, request, inner, request_id))

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, session: Session, request: Any, inner: Any, request_id: Any) -> None:
        name = _counted_as(session)
        left: list[asyncio.Event] = []  # events to set when the response was sent
        try:
            number = int.from_bytes(request_id.partial_iv, "big")
            if not await self._sessions.verified(session, request.remote, number):
                self._exchanges.reply(request, Message(code=UNAUTHORIZED, max_age=0))
                return
            response = await self._answer(session, inner, request.remote.link, left)
        except PlaneError as problem:
            log.warning("KC3008 a request of %r cannot be taken: %s", session.entity_id, problem)
            self._exchanges.ignore(request)
            return
        finally:
            self._running[name] -= 1
            if not self._running[name]:
                del self._running[name]
        try:
            await self._respond(session, request, request_id, response, is_waited_for=bool(left))
        finally:
            for event in left:
                event.set()

    async def _respond(
        self, session: Session, request: Any, request_id: Any, response: Any, *, is_waited_for: bool = False
    ) -> None:
        try:
            if not request_id.can_reuse_nonce:
                await self._sessions.numbers_for(session)
            await self._sessions.hold(session.lease)
            protected, _ = session.protect(response, request_id)
        except NoSession:
            self._exchanges.ignore(request)
            return
        except (PlaneError, oscore.ContextUnavailable) as problem:
            log.warning("KC3009 a request of %r cannot be answered: %s", session.entity_id, problem)
            self._exchanges.ignore(request)
            return
        if is_waited_for:
            await self._exchanges.reply_and_leave(request, protected)
        else:
            self._exchanges.reply(request, protected)
        self._sessions.answered(session)

    async def _answer(self, session: Session, inner: Any, link: Link[Any], left: list[asyncio.Event]) -> Any:
        """Return the response, not protected yet, to a verified request.

        `link`: the link of the request; `left`: gets the event of an `Answer`, to set when the response was sent.
        """
        peer = session.peer
        resources = self.pairing_resources if peer.provisional else self._resources.get(peer.role, {})
        if resources is None:
            return Message(code=FORBIDDEN)
        path = "/".join(inner.opt.uri_path)
        resource = resources.get(path)
        blocks = resource is not None and resource.blocks
        if _unknown_critical(inner, _INNER_CRITICAL | _BLOCKS if blocks else _INNER_CRITICAL):
            return Message(code=BAD_OPTION)
        if resource is None or resource.handler is None:
            return Message(code=NOT_FOUND)
        if inner.code != POST:
            return Message(code=METHOD_NOT_ALLOWED)
        if inner.opt.content_format is not None and inner.opt.content_format not in resource.formats:
            return Message(code=UNSUPPORTED_CONTENT_FORMAT)
        if len(inner.payload) > resource.size:
            return Message(code=REQUEST_ENTITY_TOO_LARGE)
        if not blocks:
            return await self._handled(resource, peer, inner.payload, left)
        try:
            return await self._answer_in_blocks(resource, self._transfers[path], session, inner, link, left)
        except TooMany:
            return Message(code=REQUEST_ENTITY_TOO_LARGE)
        except MalformedMessage as broken:
            return _refusal(BAD_REQUEST, broken)

    async def _answer_in_blocks(
        self,
        resource: Resource,
        transfers: Transfers,
        session: Session,
        inner: Any,
        link: Link[Any],
        left: list[asyncio.Event],
    ) -> Any:
        now = monotonic()
        peer, tag = _counted_as(session), session.recipient_id + b"".join(inner.opt.request_tag)
        block1, block2 = inner.opt.block1, inner.opt.block2
        asked_for = [block.size_exponent for block in (block1, block2) if block is not None]
        exponent = min([exponent_for(link.datagram_max), *asked_for])
        if block2 is not None and block2.block_number:
            piece, block = transfers.piece(peer, tag, block2.block_number, exponent, now)
            return Message(code=CHANGED, payload=piece, block2=block.option)
        body = inner.payload
        if block1 is not None:
            block = Block(block1.block_number, block1.more, block1.size_exponent)
            joined = transfers.collect(peer, tag, block, body, resource.size, now)
            if joined is None:
                return Message(code=CONTINUE, block1=block.option)
            body = joined
        response = await self._handled(resource, session.peer, body, left)
        whole = max(link.body_max, block_size(exponent)) if block2 is None else block_size(exponent)
        if len(response.payload) > whole:
            piece, block = cut(response.payload, 0, exponent)
            transfers.keep(peer, tag, response.payload, monotonic())
            response.payload = piece
            response.opt.block2 = block.option
        if block1 is not None:
            response.opt.block1 = (block1.block_number, False, block1.size_exponent)
        return response

    async def _handled(self, resource: Resource, peer: Peer, payload: bytes, left: list[asyncio.Event]) -> Any:
        assert resource.handler is not None  # `_answer` has checked it
        try:
            answer = await resource.handler(peer, payload)
            if isinstance(answer, Answer):
                left.append(answer.left)
                answer = answer.body
            response = Message(code=CHANGED)
            if answer:
                response = Message(code=CHANGED, payload=answer, content_format=resource.format_of(answer))
        except MalformedMessage as problem:
            return _refusal(BAD_REQUEST, problem)
        except TooMany as problem:
            return _refusal(TOO_MANY_REQUESTS, problem)
        except CpnsError as problem:
            self._incidents.strange("requests_refused")
            return _refusal(FORBIDDEN, problem)
        except Exception:  # noqa: BLE001 - for any exception of a handler the peer gets 5.00
            self._incidents.count("handlers_failed")
            log.exception("KC3010 the handler failed on a request of %r", peer.entity_id)
            return Message(code=INTERNAL_SERVER_ERROR)
        self._incidents.count("requests_handled")
        return response

    def _announced(self) -> dict[str, str]:
        """Return the kind of each path that has one, for the body of `/.well-known/core`."""
        tables = self._resources.values()
        return {path: resource.kind for table in tables for path, resource in table.items() if resource.kind}


def _counted_as(session: Session) -> str | bytes:
    """Return the name under which requests of a session are counted.

    This is the entity ID, but the recipient ID for provisional peers, as all of them may use the same entity ID.
    """
    return session.recipient_id if session.peer.provisional else session.entity_id


def _refusal(code: Any, problem: CpnsError) -> Any:
    reason = problem.reason.encode()[: tuning.REASON_MAX].decode("utf-8", "ignore")
    return Message(code=code, payload=reason.encode())


def _unknown_critical(message: Any, known: set[Any]) -> bool:
    return any(option.number % 2 == 1 and option.number not in known for option in message.opt.option_list())
