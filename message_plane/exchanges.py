"""CoAP's message and token layers, which are aiocoap's with bounded memory and with requests that can be cancelled.

They differ from the base classes as follows. Answers are kept for retransmissions only of accepted requests, at most
RECENT_MAX of them. A request that its caller cancels is not retransmitted any more. Tokens are random. All incoming
requests go to one callable instead of a pipe for each.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from aiocoap import error  # type: ignore[import-untyped]
from aiocoap.message import Message  # type: ignore[import-untyped]
from aiocoap.messagemanager import MessageManager  # type: ignore[import-untyped]
from aiocoap.numbers.codes import EMPTY  # type: ignore[import-untyped]
from aiocoap.numbers.constants import TransportTuning  # type: ignore[import-untyped]
from aiocoap.numbers.types import ACK, CON, NON, RST  # type: ignore[import-untyped]
from aiocoap.pipe import Pipe  # type: ignore[import-untyped]
from aiocoap.tokenmanager import TokenManager  # type: ignore[import-untyped]

from message_plane import tuning
from message_plane.errors import PeerUnreachable
from message_plane.incidents import Incidents
from message_plane.links.link import Address
from message_plane.links.opened import OpenLinks

TOKEN_LEN = 4

# aiocoap logs every datagram, and details of cryptography, at INFO and DEBUG, which is not wanted here.
_coap_log = logging.getLogger("message_plane.coap")
_coap_log.setLevel(logging.CRITICAL)
logging.getLogger("aiocoap.cryptography").setLevel(logging.WARNING)


class _Patient(TransportTuning):  # type: ignore[misc]
    """Timing for times when many requests wait. A thousand confirmations at once take longer than aiocoap's 0.1 s, and
    to acknowledge each before its answer would take still longer. When few requests wait a slow answer is acknowledged
    early, so that the peer can send more (NSTART)."""

    EMPTY_ACK_DELAY = tuning.BUSY_ACKNOWLEDGE_S


_PATIENT = _Patient()


class _Carried(TransportTuning):  # type: ignore[misc]
    """Timing on a reliable link, which repeats lost datagrams: messages are NON (compare RFC 8323, section 2)."""

    reliability = False


_CARRIED = _Carried()


# What a request, its retransmissions and the answer to them have in common. A forger can foresee the message ID, but
# not the random token, so it cannot make the true request look like a repetition of a forged one.
_Name = tuple[Any, int, bytes]


class _Messages(MessageManager):  # type: ignore[misc]
    """The layer of message IDs, acknowledgements and retransmissions."""

    def __init__(self, tokens: TokenManager, incidents: Incidents) -> None:
        super().__init__(tokens)
        self._incidents = incidents
        self._recent: OrderedDict[_Name, tuple[float, Any]] = OrderedDict()
        self._pings: dict[tuple[Any, int], Callable[[], None]] = {}
        self._departures: dict[int, Callable[[], None]] = {}  # by id() of a message that was not sent yet

    def ping(self, remote: Address, answered: Callable[[], None]) -> Callable[[], None]:
        """Send an empty confirmable message once; `answered` is called when it is reset (RFC 7252, 4.3).

        Returns a function that cancels the wait.
        """
        ping = Message(code=EMPTY, _mtype=CON, _mid=self._next_message_id())
        ping.remote = remote
        key = remote, ping.mid
        self._pings[key] = answered
        self._send_via_transport(ping)

        def forget() -> None:
            self._pings.pop(key, None)

        return forget

    def on_departure(self, message: Any, departed: Callable[[], None]) -> None:
        """Call `departed` when `message` is sent for the first time. `forget_departure` must be called at the end."""
        self._departures[id(message)] = departed

    def forget_departure(self, message: Any) -> None:
        """Undo `on_departure`. Does nothing if `message` was sent."""
        self._departures.pop(id(message), None)

    def accept(self, request: Any) -> None:
        """Note that `request` is being answered, so that a retransmission of it does not count as a new request."""
        now = self.loop.time()
        self._recent[_name(request)] = (now + tuning.RECENT_S, None)
        while self._recent:
            key, (ends, _) = next(iter(self._recent.items()))
            if ends > now and len(self._recent) <= tuning.RECENT_MAX:
                break
            del self._recent[key]

    def ignore(self, request: Any) -> None:
        """Do not acknowledge or answer `request`."""
        pending = self._piggyback_opportunities.pop((request.remote, request.token), None)
        if pending is not None:
            pending[1].cancel()

    def _process_request(self, request: Any) -> None:
        if len(self._piggyback_opportunities) >= tuning.BUSY:
            request.transport_tuning = _PATIENT
        super()._process_request(request)

    def _continue_backlog(self, remote: Any) -> None:
        """Send the next message to `remote`, whose only exchange has ended (NSTART is 1).

        The base class would search the exchanges with all peers for each acknowledgement.
        """
        waiting = self._backlogs.get(remote, [])
        while waiting:
            message, messageerror_monitor = waiting.pop(0)
            self._send_initially(message, messageerror_monitor)
            if message.mtype is CON:
                return
        self._backlogs.pop(remote, None)

    def send_message(self, message: Any, messageerror_monitor: Callable[[], None]) -> Callable[[], None]:
        """Send a message as the base class does.

        Returns a function that stops its retransmissions, and its first transmission if that has to wait.
        """
        if message.remote.link.reliable:
            message.transport_tuning = _CARRIED
        super().send_message(message, messageerror_monitor)
        return lambda: self._give_up(message)

    def _remove_exchange(self, message: Any) -> None:
        key = message.remote, message.mid
        answered = self._pings.pop(key, None)
        if answered is not None:
            answered()
        elif message.mtype is RST and self._active_exchanges.get(key, _NO_EXCHANGE)[0] is not _nothing:
            # Any sender can send these four octets, as message IDs are counted up, so they do not prove that the
            # request was rejected. It is repeated until its time limit.
            self._incidents.strange("requests_rejected")
        else:
            super()._remove_exchange(message)

    def _give_up(self, message: Any) -> None:
        if self._active_exchanges is None:
            return
        exchange = self._active_exchanges.pop((message.remote, message.mid), None)
        if exchange is not None:
            exchange[1].cancel()
            self._continue_backlog(message.remote)
            return
        waiting = self._backlogs.get(message.remote, [])
        waiting[:] = [entry for entry in waiting if entry[0] is not message]

    def _send_initially(self, message: Any, messageerror_monitor: Callable[[], None] | None = None) -> None:
        super()._send_initially(message, messageerror_monitor)
        departed = self._departures.pop(id(message), None)
        if departed is not None:
            departed()

    def _deduplicate_message(self, message: Any) -> bool:
        known = self._recent.get(_name(message))
        if known is None or known[0] <= self.loop.time():
            return False
        self._incidents.count("requests_repeated")
        if message.mtype is CON and known[1] is not None:
            self._send_initially(known[1])
        return True

    def _store_response_for_duplicates(self, message: Any) -> None:
        if message.mtype not in (ACK, RST):  # other messages have IDs of this end, which belong to no request
            return
        known = self._recent.get(_name(message))
        if known is not None:
            self._recent[_name(message)] = (known[0], message)


class Exchanges(TokenManager):  # type: ignore[misc]
    """Requests and responses with all peers on all links. `on_request` is called with each new request message."""

    def __init__(self, on_request: Callable[[Any], None], incidents: Incidents) -> None:
        self.log = _coap_log
        self.loop = asyncio.get_running_loop()
        super().__init__(self)
        self._on_request = on_request
        self._incidents = incidents
        self._messages = _Messages(self, incidents)
        self.token_interface = self._messages
        self.links = OpenLinks(self._take, incidents)
        self._answers: dict[tuple[bytes, Any], asyncio.Future[Any]] = {}  # by token and peer, on reliable links
        self._messages.message_interface = self.links

    def next_token(self) -> bytes:
        """Return a random token, so that only a sender that can see a request can answer it."""
        return secrets.token_bytes(TOKEN_LEN)

    def process_request(self, request: Any) -> None:
        """Pass an incoming request, which is neither acknowledged nor answered yet, to `on_request`."""
        self._on_request(request)

    def accept(self, request: Any) -> None:
        """Note that `request` will be answered, so that retransmissions of it get the same answer."""
        self._messages.accept(request)

    def ignore(self, request: Any) -> None:
        """Do not acknowledge or answer `request`."""
        self._messages.ignore(request)

    def reply(self, request: Any, response: Any) -> None:
        """Send `response` to `request`, piggybacked on its acknowledgement if that is still possible."""
        if self.outgoing_requests is None:
            return
        response.token = request.token
        response.remote = request.remote
        response.request = request
        self._messages.send_message(response, _nothing)

    async def reply_and_leave(self, request: Any, response: Any) -> None:
        """Send `response` as `reply` does, and return when it was sent, which is now or when its turn comes (NSTART).

        Returns after `tuning.LEAVES_S` in any case, as a message that waits for its turn may be dropped.
        """
        left = asyncio.Event()
        self._messages.on_departure(response, left.set)
        try:
            self.reply(request, response)
            with suppress(TimeoutError):
                async with asyncio.timeout(tuning.LEAVES_S):
                    await left.wait()
        finally:
            self._messages.forget_departure(response)

    async def ask(self, request: Any, departed: Callable[[], None] = lambda: None) -> Any:
        """Send `request`, whose `remote` is set, and return the response. Raises PeerUnreachable.

        `departed` is called when the request is sent, which may be later, as a peer gets one request at a time
        (NSTART). If the call is cancelled the request is not repeated any more.
        """
        done: asyncio.Future[Any] = self.loop.create_future()
        if request.remote.link.reliable:
            return await self._ask_once(request, departed, done)

        def on_event(event: Any) -> bool:
            if not done.done():
                if event.message is not None:
                    done.set_result(event.message)
                else:
                    done.set_exception(_unreachable(event.exception))
            return False

        pipe = Pipe(request, self.log)
        stop = pipe.on_event(on_event)
        self._messages.on_departure(request, departed)
        try:
            self.request(pipe)
            return await done
        finally:
            self._messages.forget_departure(request)
            stop()

    async def shutdown(self) -> None:
        """End all exchanges and close all links."""
        for done in self._answers.values():
            if not done.done():
                done.set_exception(PeerUnreachable("the endpoint is closed"))
        await super().shutdown()

    async def ping(self, remote: Address) -> None:
        """Send an empty message and return when it was reset. This does not prove by which peer."""
        answered = asyncio.Event()
        forget = self._messages.ping(remote, answered.set)
        try:
            await answered.wait()
        finally:
            forget()

    # Private

    async def _ask_once(self, request: Any, departed: Callable[[], None], done: asyncio.Future[Any]) -> Any:
        """Do the same on a reliable link, where the library's layers, which repeat and acknowledge, have no work."""
        if self.outgoing_requests is None:
            raise PeerUnreachable("the endpoint is closed")
        request.token = self.next_token()
        request.mtype, request.mid = NON, self._messages._next_message_id()
        name = request.token, request.remote
        self._answers[name] = done
        try:
            self.links.send(request)
            departed()
            return await done
        finally:
            del self._answers[name]

    def _take(self, message: Any) -> None:
        """Pass a message to the exchange that waits for it, else to the layer of message IDs."""
        done = self._answers.get((message.token, message.remote)) if self._answers else None
        if done is None or not message.code.is_response():
            self._messages.dispatch_message(message)
        elif not done.done():
            done.set_result(message)


def _name(message: Any) -> _Name:
    return message.remote, message.mid, message.token


def _nothing() -> None:
    """Do nothing, because no caller waits for the fate of a response."""


_NO_EXCHANGE = (_nothing, None)


def _unreachable(exception: BaseException) -> BaseException:
    if isinstance(exception, error.ConRetransmitsExceeded):
        return PeerUnreachable("no acknowledgement came after all retransmissions")
    if isinstance(exception, error.MessageError) or exception is error.MessageError:
        return PeerUnreachable("the peer rejected the message")
    if isinstance(exception, error.LibraryShutdown):
        return PeerUnreachable("the endpoint is closed")
    return PeerUnreachable(str(exception))
