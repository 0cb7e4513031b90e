"""Carries Group Keys past the PN GWs to the PNEs of end-to-end groups: executes what `delivery_queue` decides (SEC-25).

A request is on its way in two parts: until the PN GW has taken it, for which it needs a place, and from then on until
the PNE's own answer comes, which may be a request to the Server much later. Without one for `tuning.CARRIED_ANSWER_S`
it has failed; a proof that the PNE opened the key counts whenever it comes. The store is read each time, so nothing is
sent to a PNE whose membership has ended meanwhile.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import takewhile

from cpns import delivery_report, uplink_form
from cpns import numbers as n
from cpns.errors import MalformedMessage, Stale
from key_servers.cpns_server import alarms as kinds
from key_servers.cpns_server import events, tuning, wrapped_keys
from key_servers.cpns_server.alarms import ServerAlarms
from key_servers.cpns_server.delivery_queue import (
    Accepted,
    Action,
    Asked,
    ClearAlarm,
    Confirmed,
    DeliveryQueue,
    Departs,
    Event,
    Failed,
    GatewayHeard,
    Position,
    RaiseAlarm,
    Record,
    Tick,
    Unsent,
    step,
)
from key_servers.cpns_server.delivery_states import DeliveryStates
from key_servers.cpns_server.entity_user_keys import EntityUserKeys
from key_servers.cpns_server.gateway_requests import GatewayRequests, Outcome
from key_servers.cpns_server.places import Request
from key_servers.cpns_server.shards.served_pns import ServedPns
from key_servers.cpns_server.store import PneKey, ServerStore
from key_servers.cpns_server.values import MemberReport, Moment, PnePosition

_REFUSED_TWICE = 2


@dataclass(slots=True)
class _Attempts:
    """The requests for one version to one PNE: their number, the EUK ID of the last, and how often each was unknown."""

    version: int
    tries: int = 0
    euk_id: bytes = b""
    unknown: Counter[bytes] = field(default_factory=Counter)


class PneCourier:
    """Carries out all deliveries to PNEs (`gateway_requests.Courier`)."""

    def __init__(
        self,
        store: ServerStore,
        entity_user_keys: EntityUserKeys,
        requests: GatewayRequests,
        alarms: ServerAlarms,
        served: ServedPns,
        counters: Counter[str],
        clock: Callable[[], Moment],
        tell: events.Tell,
    ) -> None:
        """Keep the parts. Nothing is carried to PNs that are not `served` by this process.

        `tell` is called with an event for each key that a PNE has opened.
        """
        self._store = store
        self._entity_user_keys = entity_user_keys
        self._requests = requests
        self._alarms = alarms
        self._served = served
        self._counters = counters
        self._clock = clock
        self._tell = tell
        self._touched = store.follow()
        self._states: DeliveryStates[PneKey] = DeliveryStates()
        self._members: dict[str, set[PneKey]] = {}  # those with a state, by SG ID
        self._attempts: dict[PneKey, _Attempts] = {}
        self._waiting: dict[str, dict[PneKey, None]] = {}  # for a place, by PN ID
        self._carried: OrderedDict[PneKey, float] = OrderedDict()  # until when the PNE may answer, the soonest first
        self._unreached: dict[str, set[PneKey]] = {}  # by PN ID: failed because the PN GW was silent
        self._keyless: OrderedDict[PneKey, float] = OrderedDict()  # without Entity User Key, and when that is an alarm
        self._told_keyless: set[PneKey] = set()
        self._lost: dict[
            PneKey, tuple[int, int]
        ] = {}  # version that a PNE proved to have and asked for since, how often

    def look(self) -> None:
        """Look at the store for what changed, and at the clock for what is due. Raises StoreFailed."""
        for part in list(self._touched):
            self._look_at(*part)
            del self._touched[part]
        now = self._clock()
        for key in _before(self._carried, now.monotonic):
            self._counters["keys_unanswered"] += 1
            self._take(key, Failed(refused=False))
        self._states.look_at_due(now.monotonic, lambda key: self._take(key, Tick()))
        for key in _before(self._keyless, now.monotonic):
            self._tell_keyless(key, now)
        self._requests.fill()

    def heard(self, pn_id: str) -> None:
        """Send at once what the PN GW of this PN did not take before, as it has just spoken. Raises StoreFailed."""
        for key in tuple(self._unreached.get(pn_id, ())):
            self._take(key, GatewayHeard())
        self._unreached.pop(pn_id, None)
        self._requests.fill()

    def wanted_by(self, pne_id: str, sg_id: str) -> None:
        """Send the newest key of a Service Group at once, as a member says that it does not have it.

        Raises StoreFailed.
        """
        now = self._clock().monotonic
        for key, (version, position) in self._store.pne_positions(sg_id, pne_id=pne_id).items():
            if key in self._carried:
                if self._carried[key] - tuning.CARRIED_ANSWER_S <= now - tuning.QUIET_S:
                    self._wait(key)  # the PN GW may have lost it
                continue
            if position.version >= version:
                self._note_position(key, replace(position, version=0))
                self._note_lost(key, version)
            self._take(key, Asked())
        self._requests.fill()

    def keys_changed(self, pne_id: str) -> None:
        """Send at once what a PNE lacks, as it has got another Entity User Key. Raises StoreFailed."""
        for sg_id in self._store.groups_joined_by(pne_id):
            for key in self._store.pne_positions(sg_id, pne_id=pne_id):
                self._take(key, Asked())
        self._requests.fill()

    def leave_unserved(self) -> None:
        """Forget the deliveries to PNEs in PNs that another process serves from now on."""
        for key in self._states.all():
            if self._served.has_left(key[0]):
                self._leave(key)

    def wake_at(self) -> float | None:
        """Return the monotonic seconds at which `look` has something to do next, None if nothing is due."""
        firsts = (next(iter(each.values()), None) for each in (self._carried, self._keyless))
        return min((at for at in (self._states.wake_at(), *firsts) if at is not None), default=None)

    def state_of(self, key: PneKey, wanted: int, accepted: int) -> DeliveryQueue:
        """Return the state of the delivery to one PNE, whose versions by the store are these.

        What another process delivers is known by its versions only.
        """
        return self._states.of(key) or DeliveryQueue(Position(version=wanted), Position(version=accepted))

    def is_keyless(self, key: PneKey) -> bool:
        """Return True if a PNE gets no key because it has no Entity User Key."""
        return key in self._keyless or key in self._told_keyless

    def tries(self, key: PneKey, version: int) -> int:
        """Return how many requests have gone out so far to bring this version to a PNE that has not proved it."""
        attempts = self._attempts.get(key)
        return attempts.tries if attempts is not None and attempts.version == version else 0

    # Answers of PNEs

    def opened(self, key: PneKey, version: int, euk_id: bytes) -> None:
        """Take note that a PNE proved to have the newest key, and so to use the Entity User Key of the last request."""
        attempts = self._attempts.get(key)
        self._take(key, Confirmed(Position(version=version)))
        if attempts is not None and (attempts.version, attempts.euk_id) == (version, euk_id):
            self._entity_user_keys.used(key[2], euk_id)
        self._requests.fill()

    def refused(self, key: PneKey, version: int, euk_id: bytes) -> None:
        """Take note that a PNE refused the request on its way (Return 2). Raises Stale if there is none like that."""
        self._must_answer(key, version, euk_id)
        self._counters["keys_refused"] += 1
        self._note_return(key, n.RETURN_FAIL)
        self._take(key, Failed(refused=True))
        self._requests.fill()

    def unknown_to(self, key: PneKey, version: int, euk_id: bytes) -> None:
        """Take note that a PNE does not know the Entity User Key of the request on its way (Return 3).

        The key is wrapped at once with another one that it may know. Without one it is sent again soon, and only the
        second time counts as a refusal. Raises Stale if there is no such request.
        """
        attempts = self._must_answer(key, version, euk_id)
        self._note_return(key, n.RETURN_UNKNOWN_EUK)
        attempts.unknown[euk_id] += 1
        keys = self._entity_user_keys.of(key[2])
        other = b"" if keys is None else wrapped_keys.euk_id(wrapped_keys.chosen(keys, attempts.unknown))
        if other and other not in attempts.unknown:
            self._wait(key)
        elif attempts.unknown[euk_id] < _REFUSED_TWICE:
            self._take(key, Unsent())
        else:
            self._counters["entity_user_keys_unknown"] += 1
            self._take(key, Failed(refused=True))
        self._requests.fill()

    # Requests to PN GWs

    def departs(self, request: Request, now: Moment) -> tuple[int, uplink_form.Fields] | None:
        """Return code and fields of the newest request for a PNE, None if it needs none. Raises StoreFailed."""
        key = _key(request)
        self._waiting.get(key[0], {}).pop(key, None)
        state = self._states.of(key)
        if state is None or state.on_its_way is None or key[0] not in self._served:
            return None
        with self._store.snapshot():
            self._take(key, Departs())
            state = self._states.of(key)
            keys = self._entity_user_keys.of(key[2])
            if state is None or state.on_its_way is None or keys is None:
                return None
            newest = self._store.newest_key(key[1])
            if newest is None or newest.version != state.on_its_way.reached.version:
                raise RuntimeError("the store changed between a decision and its execution")
        attempts = self._attempts.get(key)
        if attempts is None or attempts.version != newest.version:
            attempts = self._attempts[key] = _Attempts(newest.version)
        euk = wrapped_keys.chosen(keys, attempts.unknown)
        attempts.tries += 1
        attempts.euk_id = wrapped_keys.euk_id(euk)
        return n.S_GROUP_KEY_DELIVERY_REQUEST, wrapped_keys.request(key[2], newest, euk)

    def check(self, code: int, fields: uplink_form.Fields, answer: bytes) -> None:
        """Raise MalformedMessage unless the answer is empty: the PN GW carries the request, and the PNE answers it."""
        if answer:
            raise MalformedMessage(f"message {code} is answered by the PNE only")

    def ended(self, request: Request, outcome: Outcome) -> None:
        """Take note that a PN GW took a request or did not. Raises StoreFailed."""
        key = _key(request)
        state, attempts = self._states.of(key), self._attempts.get(key)
        if state is None or state.on_its_way is None or attempts is None:
            return  # the PNE has answered already, or is no member any more
        if key in self._waiting.get(key[0], {}):
            self._wait(key)  # something newer waits since the request went out
            return
        if isinstance(outcome, Accepted):
            self._unreached.get(key[0], set()).discard(key)
            self._carried[key] = self._clock().monotonic + tuning.CARRIED_ANSWER_S
            self._take(key, Tick())
            return
        self._take(key, outcome)
        if isinstance(outcome, Failed) and not outcome.refused:
            self._unreach(key)

    def put_off(self, request: Request) -> None:
        """Send the request again later, answered or not."""
        key = _key(request)
        state = self._states.of(key)
        if state is not None and state.on_its_way is not None:
            self._carried.pop(key, None)
            self._states.keep(key, step(state, Unsent(), self._clock().monotonic)[0])

    # Decisions

    def _look_at(self, sg_id: str, pn_id: str) -> None:
        found = self._store.pne_positions(sg_id, pn_id)
        for key, (version, position) in found.items():
            if key[0] not in self._served:
                self._leave(key)
                continue
            known = self._states.of(key)
            if known is None or (known.wanted.version, known.accepted.version) != (version, position.version):
                self._take(key, Tick(), (version, position))
        for members in [self._members.get(sg_id, set())] if sg_id else list(self._members.values()):
            for key in [key for key in members if key not in found and pn_id in ("", key[0])]:
                self._drop(key)

    def _take(self, key: PneKey, event: Event, found: tuple[int, PnePosition] | None = None) -> None:
        pn_id, sg_id, pne_id = key
        if pn_id not in self._served:
            self._leave(key)
            return
        found = found or self._store.pne_positions(sg_id, pn_id, pne_id).get(key)
        if found is None:
            self._drop(key)
            return
        version, position = found
        lacking = version > position.version and self._entity_user_keys.of(pne_id) is None
        self._note_lack(key, lacking)
        if lacking or self._served.gateway_of(pn_id) is None:  # it waits: it wants no more than it has
            version = position.version
        known = self._states.of(key)
        sent = known.on_its_way if known is not None and key in self._carried else None
        if sent is not None and sent.reached.version < version:
            event = Failed(refused=False)  # something newer overtakes it, so it does not count
        now = self._clock()
        positions = Position(version=version), Position(version=position.version)
        state, actions = self._states.feed(key, positions, event, now.monotonic)
        self._members.setdefault(sg_id, set()).add(key)
        if state.on_its_way is None:
            self._carried.pop(key, None)
        for action in actions:
            self._execute(key, action, position, now)

    def _execute(self, key: PneKey, action: Action, position: PnePosition, now: Moment) -> None:
        if isinstance(action, Record):
            self._record(key, action.accepted.version, position, now)
        elif isinstance(action, RaiseAlarm):
            self._raise_unopened(key, action.failures, now)
        elif isinstance(action, ClearAlarm):
            self._clear_unopened(key)
        else:
            self._wait(key)

    def _raise_unopened(self, key: PneKey, tries: int, now: Moment) -> None:
        pn_id, sg_id, pne_id = key
        text = (
            f"Board {pne_id} has not opened the newest key of Service Group {sg_id} in {tries} tries: it "
            f"may still use an old key. Check it, and the PN GW of PN {pn_id} that carries the key."
        )
        self._alarms.set(kinds.UNOPENED, "", sg_id, text, now, pne_id)

    def _clear_unopened(self, key: PneKey) -> None:
        _, sg_id, pne_id = key
        if self._lost.get(key, (0, 0))[1] < tuning.FAILURES_UNTIL_ALARM:
            self._alarms.clear(kinds.UNOPENED, "", sg_id, pne_id)

    def _record(self, key: PneKey, version: int, position: PnePosition, now: Moment) -> None:
        _, sg_id, pne_id = key
        if version <= position.version:  # it lost what it had
            self._note_position(key, replace(position, version=version))
            return
        if key in self._lost and self._lost[key][0] < version:
            del self._lost[key]
            self._clear_unopened(key)
        attempts = self._attempts.pop(key, None)
        tries = 0 if attempts is None else attempts.tries
        self._note_position(key, PnePosition(version, tries, now.unix, n.RETURN_SUCCESS))
        report = MemberReport(pne_id, "confirmed", delivery_report.END_TO_END, tries, now.unix)
        self._store.lots.add_report(sg_id, version, report, self._served.shard_of(key[0]), confirms=True)
        self._counters["keys_opened"] += 1
        self._tell(events.KeyOpened(pne_id, sg_id, version, tries))

    def _wait(self, key: PneKey) -> None:
        self._carried.pop(key, None)
        self._waiting.setdefault(key[0], {})[key] = None
        self._requests.wait(key, self)

    def _unreach(self, key: PneKey) -> None:
        """Let all requests to a silent PN GW fail with the first one, or each would wait for its turn to fail."""
        pn_id = key[0]
        unreached = self._unreached.setdefault(pn_id, set())
        unreached.add(key)
        for other in self._waiting.pop(pn_id, {}):
            state = self._states.of(other)
            if state is not None and state.on_its_way is not None:
                unreached.add(other)
                self._take(other, Failed(refused=False))

    def _must_answer(self, key: PneKey, version: int, euk_id: bytes) -> _Attempts:
        state, attempts = self._states.of(key), self._attempts.get(key)
        if state is None or state.on_its_way is None or attempts is None:
            raise Stale("no request is on its way that this answers")
        if (attempts.version, attempts.euk_id) != (version, euk_id) or state.on_its_way.reached.version != version:
            raise Stale("a newer request than the one that this answers is on its way")
        return attempts

    def _note_position(self, key: PneKey, position: PnePosition) -> None:
        self._store.lots.add_pne_position(key[1:], position, self._served.shard_of(key[0]))

    def _note_return(self, key: PneKey, said: str) -> None:
        for _, position in self._store.pne_positions(key[1], key[0], key[2]).values():
            self._note_position(key, replace(position, last_return=said))

    def _note_lost(self, key: PneKey, version: int) -> None:
        """Count how often a PNE asks for what it proved to have: a PN GW can repeat the proof and withhold the key."""
        of, times = self._lost.get(key, (0, 0))
        times = times + 1 if of == version else 1
        self._lost[key] = version, times
        if times == tuning.FAILURES_UNTIL_ALARM:
            self._raise_unopened(key, times, self._clock())

    def _note_lack(self, key: PneKey, lacking: bool) -> None:
        if not lacking:
            self._keyless.pop(key, None)
            if key in self._told_keyless:
                self._told_keyless.discard(key)
                self._alarms.clear(kinds.NO_ENTITY_KEY, "", key[1], key[2])
        elif key not in self._keyless and key not in self._told_keyless:
            self._keyless[key] = self._clock().monotonic + tuning.ENTITY_KEY_WAIT_S

    def _tell_keyless(self, key: PneKey, now: Moment) -> None:
        _, sg_id, pne_id = key
        del self._keyless[key]
        self._told_keyless.add(key)
        text = (
            f"Board {pne_id} has no Entity User Key at this Server, and so gets no key of Service Group {sg_id}. "
            f"Check that it knows the Server's credential, and the Server its: keycast server admit-board {pne_id} PN"
        )
        self._alarms.set(kinds.NO_ENTITY_KEY, "", sg_id, text, now, pne_id)

    def _leave(self, key: PneKey) -> None:
        """Forget a PNE that another process carries keys to from now on."""
        if self._states.of(key) is None:
            return
        self._drop(key)
        self._waiting.pop(key[0], None)
        self._requests.drop(key[0])

    def _drop(self, key: PneKey) -> None:
        """Forget a PNE whose membership has ended."""
        pn_id, sg_id, _ = key
        self._states.drop(key)
        self._members.get(sg_id, set()).discard(key)
        self._attempts.pop(key, None)
        self._carried.pop(key, None)
        self._unreached.get(pn_id, set()).discard(key)
        self._note_lack(key, lacking=False)
        self._lost.pop(key, None)
        self._clear_unopened(key)


def _key(request: Request) -> PneKey:
    pn_id, sg_id, pne_id = request
    return pn_id, sg_id, pne_id


def _before(times: "OrderedDict[PneKey, float]", now: float) -> Iterable[PneKey]:
    """Return the keys whose time has come; the soonest are first in `times`."""
    return [key for key, _ in takewhile(lambda item: item[1] <= now, times.items())]
