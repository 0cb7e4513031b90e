"""Carries inventories, keys and deletions to the PN GWs: executes what `delivery_queue` decides.

The courier reads from the store each time what a PN GW should have and what it has acknowledged, so it never acts on a
membership that has changed meanwhile. As a Server has thousands of PN GWs it looks only at those that were touched, are
due, or spoke.
"""

from collections.abc import Callable

from cpns import messages as m
from cpns import numbers as n
from cpns import uplink_form
from cpns.errors import CpnsError, MalformedMessage
from key_servers.cpns_server import alarms as kinds
from key_servers.cpns_server.alarms import ServerAlarms
from key_servers.cpns_server.delivery_queue import (
    Action,
    ClearAlarm,
    DeliveryQueue,
    Departs,
    Event,
    GatewayHeard,
    Kind,
    Position,
    RaiseAlarm,
    Record,
    Send,
    Tick,
    Unsent,
    step,
)
from key_servers.cpns_server.delivery_states import DeliveryStates
from key_servers.cpns_server.gateway_requests import GatewayRequests, Outcome
from key_servers.cpns_server.group_keys import activation
from key_servers.cpns_server.places import Request
from key_servers.cpns_server.shards.served_pns import ServedPns
from key_servers.cpns_server.store import ServerStore
from key_servers.cpns_server.values import GroupTrust, Moment, StoredGateway
from key_servers.cpns_server.write_lots import Key


class DeliveryCourier:
    """Carries out all deliveries to PN GWs (`gateway_requests.Courier`)."""

    def __init__(
        self,
        store: ServerStore,
        requests: GatewayRequests,
        alarms: ServerAlarms,
        served: ServedPns,
        clock: Callable[[], Moment],
    ) -> None:
        """Keep the parts. Nothing is carried to PNs that are not `served` by this process."""
        self._store = store
        self._served = served
        self._requests = requests
        self._alarms = alarms
        self._clock = clock
        self._touched = store.follow()
        self._states: DeliveryStates[Key] = DeliveryStates()
        self._failing: dict[str, set[Key]] = {}  # by PN ID
        self._consent: tuple[object, ...] = ()  # the last request and answer that `check` let pass

    def look(self) -> None:
        """Look at the store for what changed, and at the clock for what is due. Raises StoreFailed."""
        for part in list(self._touched):
            for key, positions in self._store.positions(*part).items():
                if key[0] not in self._served:
                    self._drop(key)
                    continue
                known = self._states.of(key) or DeliveryQueue(accepted=positions[1])
                if positions != (known.wanted, known.accepted):
                    self._take(key, Tick(), positions)
            del self._touched[part]
        self._states.look_at_due(self._clock().monotonic, lambda key: self._take(key, Tick()))
        self._requests.fill()

    def heard(self, pn_id: str) -> None:
        """Send at once what waits for this PN GW, as it has just sent something. Raises StoreFailed."""
        for key in list(self._failing.get(pn_id, ())):
            self._take(key, GatewayHeard())
        self._requests.fill()

    def leave_unserved(self) -> None:
        """Forget the deliveries to PNs that another process serves from now on."""
        for key in self._states.all():
            if self._served.has_left(key[0]):
                self._drop(key)

    def wake_at(self) -> float | None:
        """Return the monotonic seconds at which `look` has something to do next, None if nothing is due."""
        return self._states.wake_at()

    def state_of(self, key: Key, wanted: Position, accepted: Position) -> DeliveryQueue:
        """Return the state of the delivery to one PN, whose positions by the store are these.

        What another process delivers is known by its positions only.
        """
        return self._states.of(key) or DeliveryQueue(wanted, accepted)

    def departs(self, request: Request, now: Moment) -> tuple[int, uplink_form.Fields] | None:
        """Return code and fields of the newest request for a PN GW, None if it has everything. Raises StoreFailed."""
        key = _key(request)
        if key[0] not in self._served:
            return None
        with self._store.snapshot():
            self._take(key, Departs())
            state = self._states.of(key)
            return None if state is None or state.on_its_way is None else self._message(key, state.on_its_way, now)

    def check(self, code: int, fields: uplink_form.Fields, answer: bytes) -> None:
        """Raise CpnsError unless the answer is the success response to this very request."""
        consent = (code, fields[m.SG_ID], fields.get(m.VERSION), answer)
        if consent == self._consent:  # all PN GWs say the same about one key
            return
        answer_code, said = uplink_form.decode(answer)
        if answer_code != code + 1:
            raise MalformedMessage(f"message {answer_code} is no answer to message {code}")
        if said[m.RESULT] != n.RESULT_SUCCESS:
            raise CpnsError(said.get(m.ERROR_TEXT, "no reason given"))
        for label in (m.SG_ID, m.VERSION):
            if label in said and said[label] != fields[label]:
                raise MalformedMessage(f"message {answer_code} answers another request")
        self._consent = consent

    def ended(self, request: Request, outcome: Outcome) -> None:
        """Take note of how a request to a PN GW ended. Raises StoreFailed."""
        key = _key(request)
        self._take(key, outcome, self._positions(key))

    def put_off(self, request: Request) -> None:
        """Send the request again later, answered or not."""
        key = _key(request)
        state = self._states.of(key)
        if state is not None and state.on_its_way is not None:
            self._states.keep(key, step(state, Unsent(), self._clock().monotonic)[0])

    def _take(self, key: Key, event: Event, positions: tuple[Position, Position] | None = None) -> None:
        pn_id, sg_id = key
        if pn_id not in self._served:
            self._drop(key)
            return
        gateway = self._served.gateway_of(pn_id)
        positions = positions or self._store.positions(sg_id, pn_id).get(key)
        if positions is None:
            return
        if gateway is None:  # a PN without PN GW waits: it wants no more than it has
            positions = positions[1], positions[1]
        now = self._clock()
        state, actions = self._states.feed(key, positions, event, now.monotonic)
        if state.failures:
            self._failing.setdefault(pn_id, set()).add(key)
        elif pn_id in self._failing:
            self._failing[pn_id].discard(key)
        for action in actions:
            self._execute(key, gateway, action, now)

    def _positions(self, key: Key) -> tuple[Position, Position] | None:
        """Return where a PN GW should be and where it said it is, None if the store may say something else by now."""
        state = self._states.of(key)
        return None if state is None or self._touched else (state.wanted, state.accepted)

    def _execute(self, key: Key, gateway: StoredGateway | None, action: Action, now: Moment) -> None:
        _, sg_id = key
        gateway_id = gateway.gateway_id if gateway is not None else ""
        if isinstance(action, Record):
            self._store.lots.add_position(key, action.accepted, self._served.shard_of(key[0]))
        elif isinstance(action, RaiseAlarm):
            text = (
                f"PN GW {gateway_id} has not taken the newest state of Service Group {sg_id} in {action.failures} "
                "tries: its members may still use an old key. Check its uplink."
            )
            self._alarms.set(kinds.UNDELIVERED, gateway_id, sg_id, text, now)
        elif isinstance(action, ClearAlarm):
            self._alarms.clear(kinds.UNDELIVERED, gateway_id, sg_id)
        else:
            self._requests.wait(key, self)

    def _drop(self, key: Key) -> None:
        if self._states.of(key) is None:
            return
        self._states.drop(key)
        self._failing.get(key[0], set()).discard(key)
        self._requests.drop(key[0])

    def _message(self, key: Key, send: Send, now: Moment) -> tuple[int, uplink_form.Fields]:
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


def _key(request: Request) -> Key:
    pn_id, sg_id = request
    return pn_id, sg_id
