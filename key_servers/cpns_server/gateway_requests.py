"""The requests to PN GWs that are under way: sends what couriers have to send, when `places` has a place for it."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

from cpns import uplink_form
from cpns.errors import CpnsError
from key_servers.cpns_server import tuning
from key_servers.cpns_server.delivery_queue import Accepted, Failed, Unsent
from key_servers.cpns_server.places import Places, Request
from key_servers.cpns_server.shards.served_pns import ServedPns
from key_servers.cpns_server.values import Moment, StoredGateway
from key_servers.errors import ServerError

_log = logging.getLogger(__name__)

Outcome = Accepted | Failed | Unsent


class GatewaySilent(Exception):
    """The PN GW has no session, cannot be reached or did not answer in time. It is asked again later."""


class NotSent(Exception):
    """The request did not go out, by a fault on this side, so nothing is known about the PN GW."""


class Gateways(Protocol):
    """The secure sessions with the PN GWs (CPNS-GKM-50)."""

    def ready(self, gateway_id: str) -> Awaitable[None] | None:
        """Return None if a request to the PN GW can be sent now, else what returns once it can.

        That raises GatewaySilent if the PN GW stays away for as long as an answer may take, NotSent if the fault is on
        this side.
        """
        ...

    async def request(self, gateway_id: str, message: bytes) -> bytes:
        """Send one CPNS message to the PN GW and return its answer, within `tuning.ANSWER_TIMEOUT_S` of its departure.

        Raise GatewaySilent, NotSent, or CpnsError for a refusal.
        """
        ...


class Courier(Protocol):
    """The part that a request belongs to. Each of its methods but `put_off` may raise StoreFailed."""

    def departs(self, request: Request, now: Moment) -> tuple[int, uplink_form.Fields] | None:
        """Return code and fields of what is to be sent now that the request has a place, None if there is nothing."""
        ...

    def check(self, code: int, fields: uplink_form.Fields, answer: bytes) -> None:
        """Raise CpnsError unless `answer` is the PN GW's consent to this very message."""
        ...

    def ended(self, request: Request, outcome: Outcome) -> None:
        """Take note of how a request ended that had departed."""
        ...

    def put_off(self, request: Request) -> None:
        """Send the request again later, as the store failed."""
        ...


class GatewayRequests:
    """Sends the requests of all couriers."""

    def __init__(
        self,
        served: ServedPns,
        gateways: Gateways,
        counters: Counter[str],
        clock: Callable[[], Moment],
        answered: asyncio.Event,
    ) -> None:
        """Keep the parts. `answered` is set whenever requests went out or ended: `wake_at` may be sooner then."""
        self._served = served
        self._gateways = gateways
        self._counters = counters
        self._clock = clock
        self._answered = answered
        self._places = Places()
        self._couriers: dict[Request, Courier] = {}  # of each request that ever waited
        self._filling = self._closed = False
        self._encoded: dict[str, tuple[int, uplink_form.Fields, bytes]] = {}  # by form, the last message
        self._next_complaint = float("-inf")
        self._under_way: dict[Request, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()  # also those of requests that were given up

    def wait(self, request: Request, courier: Courier) -> None:
        """Let a request of `courier` wait for a place, see `fill`; one that waits already waits once."""
        self._couriers[request] = courier
        self._places.wait(request)

    def heard(self, pn_id: str) -> None:
        """Note that this PN GW has just sent something; its requests are sent at the next `fill`."""
        if self._closed:
            return
        now = self._clock()
        lost = self._places.heard(pn_id, now.monotonic)
        if lost is not None:
            self._send_again(lost, now)

    def drop(self, pn_id: str) -> None:
        """Give up all requests to the PN GW of this PN, as another process works for it now."""
        lost = self._places.forget(pn_id)
        if lost is not None and lost in self._under_way:
            self._give_up(lost)

    def fill(self) -> None:
        """Send as many requests as there are places for, a few at a time, so that answers are read in between."""
        if self._filling or self._closed:
            return
        now = self._clock()
        for request in self._places.repeat(now.monotonic):
            self._send_again(request, now)
        for request in self._places.recall(now.monotonic):
            self._counters["deliveries_recalled"] += 1
            self._give_up(request)
        departing = self._places.admit(now.monotonic, tuning.DEPARTURES_AT_ONCE)
        for request in departing:
            self._depart(request, now)
        if departing:
            self._filling = True
            asyncio.get_running_loop().call_soon(self._fill_on)

    def wake_at(self) -> float | None:
        """Return the monotonic seconds at which `fill` has something to do next, None if nothing is due."""
        return self._places.wake_at()

    async def idle(self) -> None:
        """Wait until no request is on its way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Stop. Requests without an answer are sent again at the next start."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _fill_on(self) -> None:
        self._filling = False
        self.fill()
        if not self._filling:
            self._answered.set()  # the places are as full as can be: `wake_at` says when to look at them again

    def _depart(self, request: Request, now: Moment, *, is_ready: bool = False) -> None:
        """Send what a request that has a place is about now, or when its PN GW can be reached (`is_ready`: it can)."""
        courier = self._couriers[request]
        try:
            gateway = self._served.gateway_of(request[0])
            ready = None if gateway is None or is_ready else self._gateways.ready(gateway.gateway_id)
            if ready is not None:
                self._begin(request, self._hold(request, courier, ready))
                return
            message = courier.departs(request, now)
        except ServerError as error:
            self._places.unsent(request)
            self._put_off(request, courier, error)
            return
        if message is None or gateway is None:
            self._places.unsent(request)
            return
        self._begin(request, self._exchange(request, courier, gateway, *message))

    def _begin(self, request: Request, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._under_way[request] = task
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def _hold(self, request: Request, courier: Courier, ready: Awaitable[None]) -> None:
        """Send a request once its PN GW can be reached: what is newest then."""
        outcome: Outcome
        try:
            await ready
        except GatewaySilent:
            self._counters["deliveries_unanswered"] += 1
            outcome = Failed(refused=False)
        except NotSent as reason:
            self._counters["deliveries_unsent"] += 1
            _log.info("a request about %s did not go out: %s", request[0], reason)
            outcome = Unsent()
        else:
            del self._under_way[request]
            self._depart(request, self._clock(), is_ready=True)
            return
        try:
            due = courier.departs(request, self._clock())  # it counts as the newest one that was not answered
        except ServerError as error:
            del self._under_way[request]
            self._places.unsent(request)
            self._put_off(request, courier, error)
            return
        if due is None:
            del self._under_way[request]
            self._places.unsent(request)
        else:
            self._finish(request, courier, outcome)

    def _send_again(self, request: Request, now: Moment) -> None:
        self._give_up(request)
        self._depart(request, now)

    def _give_up(self, request: Request) -> None:
        self._under_way.pop(request).cancel()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            _log.error("KC2023 a delivery ended in a fault of this program", exc_info=fault)

    async def _exchange(
        self, request: Request, courier: Courier, gateway: StoredGateway, code: int, fields: uplink_form.Fields
    ) -> None:
        outcome: Outcome = Failed(refused=False)
        try:
            answer = await self._gateways.request(gateway.gateway_id, self._octets(code, fields, gateway.form))
            courier.check(code, fields, answer)
            outcome = Accepted()
        except GatewaySilent:
            self._counters["deliveries_unanswered"] += 1
        except NotSent as reason:
            self._counters["deliveries_unsent"] += 1
            _log.info("a request to PN GW %s did not go out: %s", gateway.gateway_id, reason)
            outcome = Unsent()
        except CpnsError as error:
            self._counters["deliveries_refused"] += 1
            _log.info("PN GW %s refused message %d: %s", gateway.gateway_id, code, error.reason)
            outcome = Failed(refused=True)
        except asyncio.CancelledError:
            raise
        except BaseException:
            # A fault of this process: it must be seen, but the delivery must not stand still for ever.
            self._finish(request, courier, Failed(refused=True))
            raise
        self._finish(request, courier, outcome)

    def _octets(self, code: int, fields: uplink_form.Fields, form: str) -> bytes:
        """Return a message in a form. All PN GWs of one form get the same about one key, which is encoded once."""
        last = self._encoded.get(form)
        if last is None or last[:2] != (code, fields):
            last = self._encoded[form] = (code, fields, uplink_form.encode(code, fields, form))
        return last[2]

    def _finish(self, request: Request, courier: Courier, outcome: Outcome) -> None:
        now = self._clock().monotonic
        self._under_way.pop(request, None)
        self._answered.set()
        if isinstance(outcome, Unsent):
            self._places.unsent(request)
        else:
            answered = isinstance(outcome, Accepted) or outcome.refused
            self._places.ended(request, now, answered=answered)
        try:
            courier.ended(request, outcome)
        except ServerError as error:
            self._put_off(request, courier, error)
        self.fill()

    def _put_off(self, request: Request, courier: Courier, error: ServerError) -> None:
        """Let the courier send it later, answered or not. One log line a minute tells it."""
        now = self._clock().monotonic
        courier.put_off(request)
        if now >= self._next_complaint:
            self._next_complaint = now + tuning.COMPLAIN_EVERY_S
            _log.error("KC2024 %s Deliveries wait for it.", error)
