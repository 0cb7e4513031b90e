"""Executes the actions of the delivery engine: it stores states, sends messages, sets timers and requests reports.

Each Service Group has at most one running delivery, that of its newest version. All code here runs in the event loop's
thread. A step is stored before its actions are executed.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Container, Iterable
from functools import partial

from cpns import delivery_report, messages, numbers, tuning
from cpns.errors import CpnsError
from gateway_agent.core import events
from gateway_agent.core.delivering import delivery as engine
from gateway_agent.core.delivering.batch import STORE_RETRY_S, Batch, Outcomes, window_s
from gateway_agent.core.delivering.confirmations import Confirmations, claim
from gateway_agent.core.delivering.delivery_run import DeliveryRun
from gateway_agent.core.delivering.hearing import Hearing
from gateway_agent.core.delivering.key_airings import KeyAirings
from gateway_agent.core.delivering.policy import DeliveryPolicy, Method, choose, leisure_ms
from gateway_agent.core.events import Tell
from gateway_agent.core.gkdk.gkek import BroadcastObjects
from gateway_agent.core.ports import Air, Clock, Unicast
from gateway_agent.core.turns import UnicastPlaces
from gateway_agent.store.delivery_table import DeliveryOutcome, StoredDelivery
from gateway_agent.store.errors import StoreFailed
from gateway_agent.store.group_keys import GroupKey
from gateway_agent.store.store import GatewayStore

_log = logging.getLogger(__name__)

UNICASTS_AT_ONCE = 32


class Deliveries:
    """All deliveries of the PN GW."""

    def __init__(
        self,
        *,
        store: GatewayStore,
        confirmations: Confirmations,
        objects: BroadcastObjects,
        unicast: Unicast,
        air: Air,
        clock: Clock,
        policy: DeliveryPolicy,
        pacing: engine.Pacing,
        report_due: Callable[[], None],
        counters: Counter[str],
        tell: Tell,
        hearing: Hearing,
        is_on_bluetooth: Callable[[str], bool],
    ) -> None:
        """`report_due` is called when a delivery report waits for the Server.

        `is_on_bluetooth` returns True for a PNE that was heard over Bluetooth last.
        """
        self._store = store
        self._confirmations = confirmations
        self._unicast = unicast
        self._airings = KeyAirings(store=store, objects=objects, air=air, activation=self.activation, counters=counters)
        self._clock = clock
        self._policy = policy
        self._pacing = pacing
        self._report_due = report_due
        self._counters = counters
        self._tell = tell
        self._hearing = hearing
        self._is_on_bluetooth = is_on_bluetooth
        self._runs: dict[str, DeliveryRun] = {}
        self._held: set[str] = set()
        self._practised: set[str] = set()  # PNEs that have confirmed a broadcast since they last began anew
        self._places = UnicastPlaces(UNICASTS_AT_ONCE)
        self._released = False
        air.follow(self._medium_is_back)

    # called by the handlers of messages, which report what has happened

    def release(self) -> None:
        """Begin the waiting deliveries and continue the running ones. Does nothing if that was done already.

        Called when versions have been compared with the Server (SEC-02).
        """
        if self._released:
            return
        self._released = True
        for run in self._runs.values():
            run.batch.flush()
        for stored in self._store.deliveries.in_phase("running"):
            self._held.add(stored.sg_id)
            self.membership_caught_up(stored.sg_id)
        for stored in self._store.deliveries.in_phase("waiting"):
            self.membership_caught_up(stored.sg_id)

    def halt(self) -> None:
        """Stop all deliveries at once (SEC-02). They continue with the next `release`, after the next start."""
        self._released = False
        for run in self._runs.values():
            run.batch.flush()
            run.batch.close()
            run.stop()
        self._runs.clear()
        self._held.clear()

    def membership_behind(self, sg_id: str) -> None:
        """Hold the delivery of a group, as the Server has named a revision of the membership that is not known here.

        Members may have left, and must not get the key (SEC-06). `membership_caught_up` continues the delivery as after
        a restart.
        """
        run = self._runs.get(sg_id)
        if run is None or sg_id in self._held:
            return
        run.batch.flush()
        run.stop()
        if run.delivery.phase is engine.Phase.RUNNING:
            self._held.add(sg_id)
            del self._runs[sg_id]
        else:  # an airing for unreachable PNEs has ended: they have to wait for the next medium that comes back
            self._apply(run, engine.BroadcastUnavailable())

    def membership_caught_up(self, sg_id: str) -> None:
        """Begin the waiting delivery of the group, or continue the held one, unless its membership is behind."""
        group = self._store.inventory.group(sg_id)
        if group is None or not self._released:
            return
        stored = self._store.deliveries.get(sg_id, group.version)
        if stored is None or group.behind or group.waiting:
            return
        if sg_id in self._held:
            self._held.discard(sg_id)
            if stored.phase == "running":
                self._continue(stored)
        if stored.phase != "waiting":
            return
        key = self._store.group_keys.get(sg_id, group.version)
        if key is None:
            return
        ways = self._plan(sg_id, key)
        delivery = engine.new_delivery(sg_id, key.version, ways, ways.keys() - self._practised)
        run = self._make_run(delivery)
        try:
            with self._store.transaction():
                self._store.deliveries.start(
                    sg_id,
                    key.version,
                    group.membership,
                    dict.fromkeys(ways, engine.PneState.PENDING),
                    self._clock.unix(),
                )
                self._apply(run, engine.Started())
        except StoreFailed:  # the delivery is still stored as waiting
            self._runs.pop(sg_id, None)
            run.stop()
            raise

    def members_removed(self, sg_id: str, pne_ids: Iterable[str]) -> None:
        """Send nothing more to these PNEs (SEC-06). Called inside the transaction that removes them from the group."""
        run = self._runs.get(sg_id)
        if run is not None:
            self._store.if_undone(partial(self._undone, run))
            self._apply(run, engine.MembersRemoved(frozenset(pne_ids)))
        else:
            self._store.deliveries.exclude(sg_id, pne_ids)

    def supersede(self, sg_id: str) -> None:
        """End the previous delivery, inside the transaction that stores a newer key or deletes the group."""
        run = self._runs.pop(sg_id, None)
        if run is not None:
            self._store.if_undone(partial(self._undone, run))
            self._apply(run, engine.Superseded())
            run.stop()
            return
        for phase in ("waiting", "running"):  # deliveries that are stored and did not begin in this process
            for stored in self._store.deliveries.in_phase(phase):
                group = self._store.inventory.group(sg_id)
                if stored.sg_id == sg_id and group is not None and stored.version < group.version:
                    self._store.deliveries.set_phase(sg_id, stored.version, "superseded", self._clock.unix())

    def settle(self, sg_id: str) -> None:
        """Store the confirmations that were collected. Called before a transaction that may end the delivery."""
        run = self._runs.get(sg_id)
        if run is not None:
            run.batch.flush()

    def group_deleted(self, sg_id: str) -> None:
        """End and delete all deliveries of the group, inside the transaction that deletes it."""
        self.supersede(sg_id)
        self._store.deliveries.delete_all(sg_id)

    async def confirmed(self, sg_id: str, version: int, pne_id: str) -> None:
        """Note that the PNE has proved that it holds this version; return when that is stored.

        A repeated confirmation writes nothing. Raises StoreFailed.
        """
        stored = self.proven(sg_id, version, pne_id)
        if stored is not None:
            await asyncio.shield(stored)

    def proven(
        self, sg_id: str, version: int, pne_id: str, *, by_advert: bool = False
    ) -> "asyncio.Future[None] | None":
        """Note that the PNE has proved that it holds this version, without waiting for the store.

        `by_advert`: the proof came in an advert. Returns a future that is done when it is stored, or None if there is
        nothing to store.
        """
        run = self._runs.get(sg_id)
        if run is not None and (recipient := run.delivery.recipients.get(pne_id)) and _by_broadcast(recipient):
            self._practised.add(pne_id)
            self._hearing.heard(pne_id)
        return self._confirmed(sg_id, version, pne_id, by_advert)

    def heard(self, pne_id: str) -> None:
        """Note that the PNE has sent something, so it can be reached."""
        self._places.heard(pne_id)

    def began(self, pne_id: str) -> None:
        """Note that the PNE joins, pulls or asks for a GKDK, as PNEs do after their start.

        A PNE needs more time for the first signature that it verifies after its start.
        """
        self._practised.discard(pne_id)

    def holds(self, sg_id: str, version: int, pne_id: str) -> None:
        """Note that the PNE says over its session that it holds this version."""
        self._confirmed(sg_id, version, pne_id)

    def pulled(self, sg_id: str, version: int, pne_id: str) -> None:
        """Note that the PNE was sent this version in the answer to a pull."""
        run = self._run_of(sg_id, version)
        if run is None:
            return
        if run.state_of(pne_id) is None:
            run.pulls[pne_id] += 1
        elif run.state_of(pne_id) in engine.OPEN:
            self._apply(run, engine.Pulled(pne_id))

    def refused(self, sg_id: str, version: int, pne_id: str) -> None:
        """Note that the PNE could not use a broadcast of this version."""
        run = self._run_of(sg_id, version)
        if run is not None:
            self._apply(run, engine.BroadcastRefused(pne_id))

    def activation(self, key: GroupKey) -> int:
        """Return when a key becomes active, in Unix seconds (SEC-05).

        This is 0, which means at once, after a leave and while the system clock is not synchronised.
        """
        return 0 if key.reason == numbers.REASON_LEAVE or not self._clock.unix() else key.activation

    def version(self, sg_id: str) -> int:
        """Return the version of the group's newest delivery in this process, 0 if there is none."""
        run = self._runs.get(sg_id)
        return run.delivery.version if run else 0

    def recipients(self, sg_id: str) -> dict[str, str]:
        """Return the state of each PNE of the group's newest delivery in this process, by PNE ID."""
        run = self._runs.get(sg_id)
        return {} if run is None else {pne_id: str(of.state) for pne_id, of in run.delivery.recipients.items()}

    async def close(self) -> None:
        """Store the confirmations that were collected and stop all deliveries; the next start continues them."""
        tasks = [task for run in self._runs.values() for task in run.unicasts.values()]
        self.halt()
        await asyncio.gather(*tasks, return_exceptions=True)

    # choosing

    def _plan(self, sg_id: str, key: GroupKey, unreached: Container[str] = ()) -> dict[str, engine.Ways]:
        """Return the PNE IDs that this version is for, each with the ways on which it is sent there (Q-20).

        `unreached`: PNEs that unicast did not reach; they count as without session, even if they have one.
        """
        pn = self._store.pn.get()
        members = [member for member in self._store.inventory.members(sg_id) if member.floor < key.version]
        can = {
            member.pne_id
            for member in members
            if member.slot is not None and pn is not None and member.signing_epoch == pn.signing_epoch
        }
        costs, datagrams = self._airings.costs(sg_id)
        method = choose(
            self._policy,
            costs=costs,
            datagrams=datagrams,
            with_gkdk=len(can),
            without_session=sum(pne_id in unreached or not self._unicast.has_session(pne_id) for pne_id in can),
        )
        before = self._store.group_keys.before(sg_id, key.version)
        if before is not None and (key.version >> 16) - (before >> 16) > tuning.EPOCH_JUMP_MAX:
            method = Method.UNICAST  # receivers refuse such a jump by broadcast (SEC-03)
        if method is Method.UNICAST:
            can.clear()
        return {member.pne_id: engine.BY_BROADCAST if member.pne_id in can else engine.BY_UNICAST for member in members}

    # execution

    def _make_run(self, delivery: engine.Delivery) -> DeliveryRun:
        run = DeliveryRun(delivery, self._tell)
        run.begun_at = self._clock.monotonic()
        leisure = leisure_ms(self._policy, len(delivery.recipients)) / 1000
        run.batch = Batch(
            lambda outcomes: self._take(run, outcomes), window_s(leisure), lambda: max(1, run.delivery.open)
        )
        self._runs[delivery.sg_id] = run
        return run

    def _continue(self, stored: StoredDelivery) -> None:
        key = self._store.group_keys.get(stored.sg_id, stored.version)
        if key is None:
            return
        self.settle(stored.sg_id)
        if (before := self._runs.get(stored.sg_id)) is not None:  # a PNE has pulled or confirmed meanwhile
            before.stop()
        states = self._store.deliveries.states(stored.sg_id, stored.version)
        delivery = engine.restored_delivery(stored.sg_id, stored.version, self._plan(stored.sg_id, key), states)
        self._apply(self._make_run(delivery), engine.Restarted())

    def _confirmed(
        self, sg_id: str, version: int, pne_id: str, by_advert: bool = False
    ) -> "asyncio.Future[None] | None":
        run = self._run_of(sg_id, version)
        if run is None or run.state_of(pne_id) in (engine.PneState.CONFIRMED, engine.PneState.EXCLUDED):
            return None
        if run.state_of(pne_id) is None and not self._is_newcomer(sg_id, version, pne_id):
            return None
        if by_advert:
            run.confirmed_by_advert.add(pne_id)
        return run.batch.add("confirmed", pne_id)

    def _is_newcomer(self, sg_id: str, version: int, pne_id: str) -> bool:
        """Return True for a member that is no recipient of the delivery, and may have this version."""
        member = self._store.inventory.member(sg_id, pne_id)
        return member is not None and member.floor < version

    def _run_of(self, sg_id: str, version: int) -> DeliveryRun | None:
        run = self._runs.get(sg_id)
        if run is None:  # the delivery began before this process started
            stored = self._store.deliveries.get(sg_id, version)
            if stored is None or stored.phase not in ("running", "finished"):
                return None
            states = self._store.deliveries.states(sg_id, version)
            run = self._make_run(engine.restored_delivery(sg_id, version, {}, states))
        return run if run.delivery.version == version else None

    def _undone(self, run: DeliveryRun) -> None:
        """Continue a delivery as after a restart, because the transaction that changed or ended it was not stored."""
        sg_id, version = run.delivery.sg_id, run.delivery.version
        key = self._store.group_keys.get(sg_id, version)
        if not self._released or key is None or self._runs.setdefault(sg_id, run) is not run:
            return
        run.stop()
        states = self._store.deliveries.states(sg_id, version)
        run.delivery = engine.restored_delivery(sg_id, version, self._plan(sg_id, key), states)
        if run.delivery.phase is engine.Phase.RUNNING:
            self._apply(run, engine.Restarted())

    def _take(self, run: DeliveryRun, outcomes: Outcomes) -> None:
        before = run.delivery
        named = (*outcomes.answered, *outcomes.confirmed, *outcomes.failed)
        # After the transaction, and before the end of the delivery is told, which a later step of it plans
        asyncio.get_running_loop().call_soon(self._tell_outcomes, run, before, named)
        try:
            with self._store.transaction():
                if outcomes.answered:
                    self._apply(run, engine.UnicastAnswered(frozenset(outcomes.answered)))
                if outcomes.confirmed:
                    self._apply(run, engine.BroadcastConfirmed(frozenset(outcomes.confirmed)))
                newcomers = [pne_id for pne_id in outcomes.confirmed if run.state_of(pne_id) is None]
                if newcomers:
                    tries = {pne_id: max(1, run.pulls[pne_id]) for pne_id in newcomers}
                    self._apply(run, engine.NewcomersConfirmed(tries))
                if outcomes.failed:
                    self._apply(run, engine.UnicastFailed(frozenset(outcomes.failed)))
        except StoreFailed:
            run.delivery = before  # the store still has this state; the batch tries again
            raise

    def _apply(self, run: DeliveryRun, event: engine.Event) -> None:
        run.events.append(event)
        if run.stepping:
            return
        run.stepping = True
        try:
            while run.events:
                state, actions = engine.step(run.delivery, run.events.popleft(), self._clock.monotonic(), self._pacing)
                self._write(run, state, actions)
                run.delivery = state
                for action in actions:
                    self._execute(run, action)
        finally:
            run.stepping = False

    def _write(self, run: DeliveryRun, state: engine.Delivery, actions: Iterable[engine.Action]) -> None:
        for action in actions:
            if isinstance(action, engine.Save):
                outcomes = {pne_id: self._outcome(run, pne_id, state.recipients[pne_id]) for pne_id in action.states}
                with self._store.transaction():
                    self._store.deliveries.set_outcomes(state.sg_id, state.version, outcomes)
                    self._store.deliveries.set_phase(state.sg_id, state.version, action.phase, self._clock.unix())

    def _outcome(self, run: DeliveryRun, pne_id: str, recipient: engine.Recipient) -> DeliveryOutcome:
        """Return what is stored about a PNE that is confirmed, unreachable or excluded."""
        return DeliveryOutcome(recipient.state, self._link(run, pne_id, recipient), recipient.tries, self._clock.unix())

    def _link(self, run: DeliveryRun, pne_id: str, recipient: engine.Recipient) -> str:
        """Return on which link the key came to a PNE that has confirmed it, a word of `cpns.delivery_report`."""
        if pne_id in run.confirmed_by_advert:
            return delivery_report.BLE
        if not _by_broadcast(recipient):
            return delivery_report.UNICAST
        return delivery_report.BLE if self._is_on_bluetooth(pne_id) else delivery_report.WIFI

    def _execute(self, run: DeliveryRun, action: engine.Action) -> None:
        if isinstance(action, engine.CancelUnicast):
            for pne_id in action.pne_ids:
                task = run.unicasts.pop(pne_id, None)
                if task is not None:
                    task.cancel()
        elif isinstance(action, engine.SendUnicast):
            run.unicasts[action.pne_id] = asyncio.create_task(self._send_unicast(run, action.pne_id))
        elif isinstance(action, engine.StopAiring):
            run.stop_airing()
        elif isinstance(action, engine.StartAiring):
            run.airing = self._airings.start(run.delivery, action, partial(self._airing_ended, run))
        elif isinstance(action, engine.SetTimer):
            if run.timer is not None:
                run.timer.cancel()
                run.timer = None
            if action.at is not None:
                delay = max(0.0, action.at - self._clock.monotonic())
                run.timer = asyncio.get_running_loop().call_later(delay, self._timer_expired, run)
        elif isinstance(action, engine.Report):
            self._report_due()
            if not run.judged:
                run.judged = True
                recipients = run.delivery.recipients
                held = [pne_id for pne_id in run.aired if recipients[pne_id].state is engine.PneState.CONFIRMED]
                self._hearing.judge({pne_id: _by_broadcast(recipients[pne_id]) for pne_id in held})
            if run.delivery.phase is engine.Phase.FINISHED and not run.told:
                run.told = True
                asyncio.get_running_loop().call_soon(self._tell_delivered, run)

    def _tell_outcomes(self, run: DeliveryRun, before: engine.Delivery, pne_ids: Iterable[str]) -> None:
        """Report to `tell` which of these PNEs have confirmed, or have become unreachable, since `before`."""
        sg_id, version = run.delivery.sg_id, run.delivery.version
        for pne_id in pne_ids:
            was, now = before.recipients.get(pne_id), run.delivery.recipients.get(pne_id)
            if now is None or (was is not None and was.state is now.state):
                continue
            if now.state is engine.PneState.CONFIRMED:
                self._tell(events.KeyConfirmed(pne_id, sg_id, version, self._link(run, pne_id, now), now.tries))
            elif now.state is engine.PneState.UNREACHABLE:
                self._tell(events.BoardUnreachable(pne_id, sg_id, version))

    def _tell_delivered(self, run: DeliveryRun) -> None:
        """Report the end of a delivery to `tell`, after the transaction that stored it."""
        if run.delivery.phase is not engine.Phase.FINISHED:  # the end could not be stored
            run.told = False
            return
        recipients = run.delivery.recipients
        meant = {pne_id: of for pne_id, of in recipients.items() if of.state is not engine.PneState.EXCLUDED}
        confirmed = [of for of in meant.values() if of.state is engine.PneState.CONFIRMED]
        if not meant:
            return
        self._tell(
            events.KeyDelivered(
                run.delivery.sg_id,
                run.delivery.version,
                len(confirmed),
                len(meant),
                sum(map(_by_broadcast, confirmed)),
                self._clock.monotonic() - run.begun_at,
                tuple(sorted(pne_id for pne_id, of in meant.items() if of.state is not engine.PneState.CONFIRMED)),
            )
        )

    def _timer_expired(self, run: DeliveryRun) -> None:
        run.timer = None
        try:
            run.batch.flush()
            with self._store.transaction():
                self._apply(run, engine.TimerExpired())
        except StoreFailed:  # there is an alarm for it; the delivery continues when the store works again
            run.timer = asyncio.get_running_loop().call_later(STORE_RETRY_S, self._timer_expired, run)

    def _airing_ended(self, run: DeliveryRun, has_gone_out: bool) -> None:
        """Note that all media are done. `has_gone_out`: at least one of them has sent the object."""
        run.stop_airing()
        if has_gone_out:
            self._counters["broadcast_rounds"] += 1
        self._tell_airing(run, engine.Aired() if has_gone_out else engine.BroadcastUnavailable())

    def _tell_airing(self, run: DeliveryRun, event: engine.Event) -> None:
        if self._runs.get(run.delivery.sg_id) is run:
            try:
                self._apply(run, event)
            except StoreFailed:
                asyncio.get_running_loop().call_later(STORE_RETRY_S, self._tell_airing, run, event)

    def _medium_is_back(self) -> None:
        """Let each delivery air its key once more for the PNEs that miss it and that broadcasts can reach."""
        for run in list(self._runs.values()):
            self._air_what_is_missed(run)

    def _air_what_is_missed(self, run: DeliveryRun) -> None:
        sg_id = run.delivery.sg_id
        if not self._released or self._runs.get(sg_id) is not run:
            return
        try:
            group = self._store.inventory.group(sg_id)
            key = self._store.group_keys.get(sg_id, run.delivery.version)
            if group is None or group.behind or key is None:
                return
            tried = {pne_id for pne_id, recipient in run.delivery.recipients.items() if recipient.failures}
            ways = self._plan(sg_id, key, tried)
            reached = frozenset(pne_id for pne_id, of in ways.items() if of == engine.BY_BROADCAST)
            self._apply(run, engine.MediumBack(reached))
        except StoreFailed:
            asyncio.get_running_loop().call_later(STORE_RETRY_S, self._air_what_is_missed, run)

    async def _send_unicast(self, run: DeliveryRun, pne_id: str) -> None:
        kind = "failed"
        try:
            async with self._places.of(pne_id):
                message = self._unicast_message(run, pne_id)
                if message is not None:
                    answer = await self._unicast.request(pne_id, message)
                    self._places.heard(pne_id)
                    if answer is not None and self._accepts(run, pne_id, answer):
                        kind = "answered"
        except CpnsError as error:
            self._counters["unicast_failed"] += 1
            _log.debug("unicast to %s failed: %s", pne_id, error.reason)
            self._airings.beacon(run.delivery.sg_id, run.delivery.version)
        if run.unicasts.get(pne_id) is asyncio.current_task():
            del run.unicasts[pne_id]
            run.batch.add(kind, pne_id)

    def _unicast_message(self, run: DeliveryRun, pne_id: str) -> bytes | None:
        """Return the message with the key for one PNE, None if the PNE may not have the key at this moment (SEC-06)."""
        sg_id = run.delivery.sg_id
        group, member = self._store.inventory.group(sg_id), self._store.inventory.member(sg_id, pne_id)
        key = self._store.group_keys.get(sg_id, run.delivery.version)
        if group is None or group.behind or member is None or key is None or member.floor >= key.version:
            return None
        fields: dict[int, object] = {
            messages.SG_ID: sg_id,
            messages.GROUP_KEY: [(key.key, None)],
            messages.VERSION: key.version,
            messages.ACTIVATION: self.activation(key),
            messages.REASON: key.reason,
            messages.TIME: self._clock.unix(),
        }
        return bytes(messages.encode(numbers.GROUP_KEY_DELIVERY_REQUEST, fields))

    def _accepts(self, run: DeliveryRun, pne_id: str, answer: bytes) -> bool:
        code, fields = messages.decode(answer)
        if code != numbers.GROUP_KEY_DELIVERY_RESPONSE or fields[messages.RESULT] != numbers.RESULT_SUCCESS:
            return False
        claimed = claim(fields)
        self._confirmations.prove(pne_id, claimed)  # over a session a claim without proof is enough
        return (claimed.sg_id, claimed.version) == (run.delivery.sg_id, run.delivery.version)


def _by_broadcast(recipient: engine.Recipient) -> bool:
    """Return True if the key is sent, or was sent, to this PNE by broadcast."""
    return engine.Way.BROADCAST in recipient.ways
