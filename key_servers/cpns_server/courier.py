"""Carries inventories, keys and deletions to the PN GWs: executes what `delivery_queue` and `places` decide.

The courier reads from the store each time what a PN GW should have and what it has acknowledged, so it never acts on a
membership that has changed meanwhile. As a Server has thousands of PN GWs it looks only at those that were touched, are
due, or spoke.
"""

import asyncio
import heapq
import logging
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from cpns import messages as m
from cpns import numbers as n
from cpns import uplink_form
from cpns.errors import CpnsError, MalformedMessage
from key_servers.cpns_server import alarms as kinds
from key_servers.cpns_server import tuning
from key_servers.cpns_server.alarms import ServerAlarms
from key_servers.cpns_server.delivery_queue import (
    Accepted,
    Action,
    ClearAlarm,
    DeliveryQueue,
    Departs,
    Event,
    Failed,
    GatewayHeard,
    Kind,
    Position,
    RaiseAlarm,
    Record,
    Rewound,
    Send,
    Tick,
    Unsent,
    Wanted,
    step,
)
from key_servers.cpns_server.group_keys import activation
from key_servers.cpns_server.places import Places
from key_servers.cpns_server.store import ServerStore
from key_servers.cpns_server.values import GroupTrust, Moment, StoredGateway
from key_servers.cpns_server.write_lots import Key
from key_servers.errors import ServerError

_log = logging.getLogger(__name__)


class GatewaySilent(Exception):
    """The PN GW has no session, cannot be reached or did not answer in time. It is asked again later."""


class NotSent(Exception):
    """The request did not go out, by a fault on this side, so nothing is known about the PN GW."""


class Gateways(Protocol):
    """The secure sessions with the PN GWs (CPNS-GKM-50)."""

    async def request(self, gateway_id: str, message: bytes) -> bytes:
        """Send one CPNS message to the PN GW and return its answer, within `tuning.ANSWER_TIMEOUT_S` of its departure.

        Raise GatewaySilent, NotSent, or CpnsError for a refusal.
        """
        ...


class DeliveryCourier:
    """Carries out all deliveries of a Server."""

    def __init__(
        self,
        store: ServerStore,
        gateways: Gateways,
        alarms: ServerAlarms,
        counters: Counter[str],
        clock: Callable[[], Moment],
        answered: asyncio.Event,
    ) -> None:
        """Keep the parts. `answered` is set whenever requests went out or ended: `wake_at` may be sooner then."""
        self._store = store
        self._gateways = gateways
        self._alarms = alarms
        self._counters = counters
        self._clock = clock
        self._answered = answered
        self._deliveries: dict[Key, DeliveryQueue] = {}
        self._failing: dict[str, set[Key]] = {}  # by PN ID
        self._due: list[tuple[float, Key]] = []  # a heap; an entry that differs from its delivery's `wake_at` is void
        self._places = Places()
        self._filling = self._closed = False
        self._next_complaint = float("-inf")
        self._requests: dict[Key, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()  # also those of requests that were given up

    def look(self) -> None:
        """Look at the store for what changed, and at the clock for what is due. Raises StoreFailed."""
        touched = self._store.take_touched()
        try:
            for sg_id, pn_id in touched:
                for key, positions in self._store.positions(sg_id, pn_id).items():
                    known = self._deliveries.get(key) or DeliveryQueue(accepted=positions[1])
                    if positions != (known.wanted, known.accepted):
                        self._take(key, Tick(), positions)
        except ServerError:
            for sg_id, pn_id in touched:
                self._store.touch(sg_id, pn_id)
            raise
        now = self._clock().monotonic
        while (at := self._next_due()) is not None and at <= now:
            self._take(heapq.heappop(self._due)[1], Tick())
        self._fill()

    def heard(self, pn_id: str) -> None:
        """Send at once what waits for this PN GW, as it has just sent something. Raises StoreFailed."""
        if self._closed:
            return
        now = self._clock()
        lost = self._places.heard(pn_id, now.monotonic)
        for key in list(self._failing.get(pn_id, ())):
            self._take(key, GatewayHeard())
        if lost is not None:
            self._send_again(lost, now)
        self._fill()

    def wake_at(self) -> float | None:
        """Return the monotonic seconds at which `look` has something to do next, None if nothing is due."""
        return min((at for at in (self._next_due(), self._places.wake_at()) if at is not None), default=None)

    def state_of(self, pn_id: str, sg_id: str) -> DeliveryQueue:
        """Return the state of the delivery to one PN."""
        return self._deliveries.get((pn_id, sg_id), DeliveryQueue())

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

    # Decisions

    def _take(self, key: Key, event: Event, positions: tuple[Position, Position] | None = None) -> None:
        pn_id, sg_id = key
        gateway = self._store.gateway_of(pn_id)
        positions = positions or self._store.positions(sg_id, pn_id).get(key)
        if positions is None:
            return
        wanted, accepted = positions
        state = self._deliveries.get(key)
        if state is None:
            state = DeliveryQueue(accepted=accepted)
        events: list[Event] = []
        if accepted != state.accepted:
            events.append(Rewound(accepted))
        # A PN without PN GW waits: it wants no more than it has.
        events.append(Wanted(wanted if gateway is not None else accepted))
        events.append(event)
        now = self._clock()
        for each in events:
            state, actions = step(state, each, now.monotonic)
            self._keep(key, state)
            for action in actions:
                self._execute(key, gateway, action, now)

    def _keep(self, key: Key, state: DeliveryQueue) -> None:
        before, self._deliveries[key] = self._deliveries.get(key), state
        if state.wake_at is not None and (before is None or before.wake_at != state.wake_at):
            heapq.heappush(self._due, (state.wake_at, key))
        if state.failures:
            self._failing.setdefault(key[0], set()).add(key)
        elif before is not None and before.failures:
            self._failing[key[0]].discard(key)

    def _next_due(self) -> float | None:
        while self._due:
            at, key = self._due[0]
            if self._deliveries[key].wake_at == at:
                return at
            heapq.heappop(self._due)
        return None

    def _execute(self, key: Key, gateway: StoredGateway | None, action: Action, now: Moment) -> None:
        _, sg_id = key
        gateway_id = gateway.gateway_id if gateway is not None else ""
        if isinstance(action, Record):
            self._store.lots.add_position(key, action.accepted)
        elif isinstance(action, RaiseAlarm):
            text = (
                f"PN GW {gateway_id} has not taken the newest state of Service Group {sg_id} in {action.failures} "
                "tries: its members may still use an old key. Check its uplink."
            )
            self._alarms.set(kinds.UNDELIVERED, gateway_id, sg_id, text, now)
        elif isinstance(action, ClearAlarm):
            self._alarms.clear(kinds.UNDELIVERED, gateway_id, sg_id)
        else:
            self._places.wait(key)

    # Requests

    def _fill(self) -> None:
        """Send as many requests as there are places for, a few at a time, so that answers are read in between."""
        if self._filling or self._closed:
            return
        now = self._clock()
        for key in self._places.repeat(now.monotonic):
            self._send_again(key, now)
        for key in self._places.recall(now.monotonic):
            self._counters["deliveries_recalled"] += 1
            self._give_up(key)
        departing = self._places.admit(now.monotonic, tuning.DEPARTURES_AT_ONCE)
        for key in departing:
            self._depart(key, now)
        if departing:
            self._filling = True
            asyncio.get_running_loop().call_soon(self._fill_on)

    def _fill_on(self) -> None:
        self._filling = False
        self._fill()
        if not self._filling:
            self._answered.set()  # the places are as full as can be: `wake_at` says when to look at them again

    def _depart(self, key: Key, now: Moment) -> None:
        """Send the newest request of a delivery that has a place."""
        try:
            self._take(key, Departs())
            send = self._deliveries[key].on_its_way
            gateway = self._store.gateway_of(key[0])
            if send is None or gateway is None:
                self._places.unsent(key)
                return
            code, fields = self._request(key, send, now)
        except ServerError as error:
            self._places.unsent(key)
            self._put_off(key, error)
            return
        task = asyncio.get_running_loop().create_task(self._exchange(key, gateway, code, fields))
        self._requests[key] = task
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _send_again(self, key: Key, now: Moment) -> None:
        self._give_up(key)
        self._depart(key, now)

    def _give_up(self, key: Key) -> None:
        self._requests.pop(key).cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            _log.error("a delivery ended in a fault of this program", exc_info=fault)

    def _request(self, key: Key, send: Send, now: Moment) -> tuple[int, uplink_form.Fields]:
        pn_id, sg_id = key
        if send.kind is Kind.DELETE:
            return n.DELETE_SERVICE_GROUP_REQUEST, {m.SG_ID: sg_id, m.VERSION: send.reached.version}
        if send.kind is Kind.INVENTORY:
            return n.INVENTORY_UPDATE_REQUEST, {
                m.SG_ID: sg_id,
                m.PN_ID: pn_id,
                m.REVISION: send.reached.revision,
                m.MEMBER: list(self._store.members_in(sg_id, pn_id)),
                **self._named_trust(sg_id),
            }
        newest = self._store.newest_key(sg_id)
        if newest is None or newest.version != send.reached.version:
            raise RuntimeError("the store changed between a decision and its execution")
        return n.GROUP_KEY_DELIVERY_REQUEST, {
            m.SG_ID: sg_id,
            m.GROUP_KEY: [(newest.key, None)],
            m.VERSION: newest.version,
            m.ACTIVATION: activation(newest, now),
            m.REASON: newest.reason,
            m.TIME: now.unix,
            m.REVISION: send.reached.revision,
        }

    def _named_trust(self, sg_id: str) -> uplink_form.Fields:
        """Return the field by which a PN GW learns that it carries this group's keys only; none for other groups."""
        group = self._store.group(sg_id)
        end_to_end = group is not None and group.trust is GroupTrust.END_TO_END
        return {m.TRUST: n.TRUST_END_TO_END} if end_to_end else {}

    async def _exchange(self, key: Key, gateway: StoredGateway, code: int, fields: uplink_form.Fields) -> None:
        outcome: Accepted | Failed | Unsent = Failed(refused=False)
        try:
            answer = await self._gateways.request(gateway.gateway_id, uplink_form.encode(code, fields, gateway.form))
            _check_answer(code, fields, answer)
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
            self._finish(key, Failed(refused=True))
            raise
        self._finish(key, outcome)

    def _finish(self, key: Key, outcome: Accepted | Failed | Unsent) -> None:
        now = self._clock().monotonic
        self._requests.pop(key, None)
        self._answered.set()
        if isinstance(outcome, Unsent):
            self._places.unsent(key)
        else:
            answered = isinstance(outcome, Accepted) or outcome.refused
            self._places.ended(key, now, answered=answered)
        try:
            self._take(key, outcome)
        except ServerError as error:
            self._put_off(key, error)
        self._fill()

    def _put_off(self, key: Key, error: ServerError) -> None:
        """Send the request again later, answered or not, as the store fails. One log line a minute tells it."""
        now, state = self._clock().monotonic, self._deliveries[key]
        if state.on_its_way is not None:
            self._keep(key, step(state, Unsent(), now)[0])
        if now >= self._next_complaint:
            self._next_complaint = now + tuning.COMPLAIN_EVERY_S
            _log.error("%s Deliveries wait for it.", error)


def _check_answer(code: int, request: uplink_form.Fields, answer: bytes) -> None:
    """Raise CpnsError unless the answer is the success response to this very request."""
    answer_code, fields = uplink_form.decode(answer)
    if answer_code != code + 1:
        raise MalformedMessage(f"message {answer_code} is no answer to message {code}")
    if fields[m.RESULT] != n.RESULT_SUCCESS:
        raise CpnsError(fields.get(m.ERROR_TEXT, "no reason given"))
    for label in (m.SG_ID, m.VERSION):
        if label in fields and fields[label] != request[label]:
            raise MalformedMessage(f"message {answer_code} answers another request")
