"""Carries inventories, keys and deletions to the PN GWs: executes what `delivery_queue` decides.

What a PN GW should have and what it said it has are read from the store each time, so the courier never acts on
a membership that has changed meanwhile.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from cpns import messages as m
from cpns import numbers as n
from cpns.errors import CpnsError, MalformedMessage
from key_servers.cpns_server import alarms as kinds
from key_servers.cpns_server import tuning, wire
from key_servers.cpns_server.alarms import Alarms
from key_servers.cpns_server.delivery_queue import (
    Accepted,
    Action,
    ClearAlarm,
    Delivery,
    Event,
    Failed,
    Heard,
    Kind,
    RaiseAlarm,
    Record,
    Rewound,
    Send,
    Tick,
    Wanted,
    step,
)
from key_servers.cpns_server.store import Store
from key_servers.cpns_server.values import Gateway, Moment
from key_servers.errors import ServerError

_log = logging.getLogger(__name__)

Key = tuple[str, str]
"""(PN ID, SG ID) of one delivery."""


class NoAnswer(Exception):
    """The PN GW has no session, cannot be reached or did not answer in time: it is asked again later."""


class GatewayLink(Protocol):
    """The secure sessions with the PN GWs (CPNS-GKM-50)."""

    async def request(self, gateway_id: str, message: bytes) -> bytes:
        """Send one CPNS message to the PN GW and give its answer. Raises NoAnswer, or CpnsError for a refusal."""
        ...


class Courier:
    """All deliveries of a Server."""

    def __init__(
        self,
        store: Store,
        link: GatewayLink,
        alarms: Alarms,
        counters: Counter[str],
        clock: Callable[[], Moment],
        answered: asyncio.Event,
    ) -> None:
        """`answered` is set whenever a request ended: `wake_at` may be sooner then."""
        self._store = store
        self._link = link
        self._alarms = alarms
        self._counters = counters
        self._clock = clock
        self._answered = answered
        self._deliveries: dict[Key, Delivery] = {}
        self._requests: set[asyncio.Task[None]] = set()

    def look(self) -> None:
        """Look at the store for what changed, and at the clock for what is due. Raises StoreFailed."""
        for key, (wanted, accepted) in self._store.positions().items():
            state = self._deliveries.get(key)
            known = Delivery(wanted, accepted) if state is None else state
            if not (known.settled and known.wanted == wanted and known.accepted == accepted):
                self._take(key, Tick())

    def heard(self, pn_id: str) -> None:
        """A PN GW spoke: what waited for it need wait no longer. Raises StoreFailed."""
        for key in [key for key, state in self._deliveries.items() if key[0] == pn_id and state.failures]:
            self._take(key, Heard())

    def wake_at(self) -> float | None:
        """When `look` has something to do next (monotonic seconds)."""
        return min((at for state in self._deliveries.values() if (at := state.wake_at) is not None), default=None)

    def state_of(self, pn_id: str, sg_id: str) -> Delivery:
        """How the delivery to one PN stands."""
        return self._deliveries.get((pn_id, sg_id), Delivery())

    async def idle(self) -> None:
        """Wait until no request is on its way."""
        while self._requests:
            await asyncio.wait(self._requests)

    async def close(self) -> None:
        """Stop. What was on its way is sent again at the next start."""
        for task in self._requests:
            task.cancel()
        await asyncio.gather(*self._requests, return_exceptions=True)

    def _take(self, key: Key, event: Event) -> None:
        pn_id, sg_id = key
        gateway = self._store.gateway_of(pn_id)
        positions = self._store.positions(sg_id, pn_id).get(key)
        if positions is None:
            return
        wanted, accepted = positions
        state = self._deliveries.get(key)
        if state is None:
            state = Delivery(accepted=accepted)
        events: list[Event] = []
        if accepted != state.accepted:
            events.append(Rewound(accepted))
        # A PN without PN GW waits: it wants no more than it has.
        events.append(Wanted(wanted if gateway is not None else accepted))
        events.append(event)
        now = self._clock()
        for each in events:
            state, actions = step(state, each, now.monotonic)
            for action in actions:
                if isinstance(action, Record):  # what cannot be stored has not happened
                    with self._store.transaction():
                        self._store.set_accepted(sg_id, pn_id, action.accepted)
            self._deliveries[key] = state
            for action in actions:
                self._execute(key, gateway, action, now)

    def _execute(self, key: Key, gateway: Gateway | None, action: Action, now: Moment) -> None:
        _, sg_id = key
        gateway_id = gateway.gateway_id if gateway is not None else ""
        if isinstance(action, RaiseAlarm):
            text = (
                f"PN GW {gateway_id} has not taken the newest state of Service Group {sg_id} in {action.failures} "
                "tries: its members may still use an old key. Check its uplink."
            )
            self._alarms.set(kinds.UNDELIVERED, gateway_id, sg_id, text, now)
        elif isinstance(action, ClearAlarm):
            self._alarms.clear(kinds.UNDELIVERED, gateway_id, sg_id)
        elif isinstance(action, Send) and gateway is not None:
            self._send(key, gateway, action, now)

    def _send(self, key: Key, gateway: Gateway, send: Send, now: Moment) -> None:
        code, fields = self._request(key, send, now)
        task = asyncio.get_running_loop().create_task(self._exchange(key, gateway, code, fields))
        self._requests.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._requests.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            _log.error("a delivery ended in a fault of this program", exc_info=fault)

    def _request(self, key: Key, send: Send, now: Moment) -> tuple[int, wire.Fields]:
        pn_id, sg_id = key
        if send.kind is Kind.DELETE:
            return n.DELETE_SERVICE_GROUP_REQUEST, {m.SG_ID: sg_id, m.VERSION: send.reached.version}
        if send.kind is Kind.INVENTORY:
            return n.INVENTORY_UPDATE_REQUEST, {
                m.SG_ID: sg_id,
                m.PN_ID: pn_id,
                m.REVISION: send.reached.revision,
                m.MEMBER: list(self._store.members_in(sg_id, pn_id)),
            }
        newest = self._store.newest_key(sg_id)
        if newest is None or newest.version != send.reached.version:
            raise RuntimeError("the store changed between a decision and its execution")
        return n.GROUP_KEY_DELIVERY_REQUEST, {
            m.SG_ID: sg_id,
            m.GROUP_KEY: [(newest.key, None)],
            m.VERSION: newest.version,
            m.ACTIVATION: newest.activation,
            m.REASON: newest.reason,
            m.TIME: now.unix,
            m.REVISION: send.reached.revision,
        }

    async def _exchange(self, key: Key, gateway: Gateway, code: int, fields: wire.Fields) -> None:
        outcome: Event = Failed(refused=False)
        try:
            request = wire.encode(code, fields, gateway.form)
            async with asyncio.timeout(tuning.ANSWER_TIMEOUT_S):
                answer = await self._link.request(gateway.gateway_id, request)
            _check_answer(code, fields, answer)
            outcome = Accepted()
        except (NoAnswer, TimeoutError):
            self._counters["deliveries_unanswered"] += 1
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

    def _finish(self, key: Key, outcome: Event) -> None:
        self._answered.set()
        try:
            self._take(key, outcome)
        except ServerError:
            _log.exception("the answer of a PN GW could not be stored")
            state = self._deliveries[key]
            if state.on_its_way is not None:
                self._deliveries[key], _ = step(state, Failed(refused=False), self._clock().monotonic)


def _check_answer(code: int, request: wire.Fields, answer: bytes) -> None:
    """Raise CpnsError unless the answer is the success response to this very request."""
    answer_code, fields = wire.decode(answer)
    if answer_code != code + 1:
        raise MalformedMessage(f"message {answer_code} is no answer to message {code}")
    if fields[m.RESULT] != n.RESULT_SUCCESS:
        raise CpnsError(fields.get(m.ERROR_TEXT, "no reason given"))
    for label in (m.SG_ID, m.VERSION):
        if label in fields and fields[label] != request[label]:
            raise MalformedMessage(f"message {answer_code} answers another request")
