"""Carries wrapped Group Keys from the CPNS Server to PNEs, and their responses back (CPNS-GKM-81, -82).

A key is wrapped for one PNE, so this PN GW cannot read it, and nothing of it is stored: only the Server knows which key
a PNE lacks, and sends it again if it gets no response. The Server is answered at once. The newest message for each PNE
and Service Group waits here, also while the PNE is away, and it is sent when the PNE is heard.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum

from cpns import delivery_report, messages, numbers
from cpns.errors import CpnsError, MalformedMessage, NotAllowed, NotMember, Stale, TooMany, Unknown
from gateway_agent.core.delivering.delivery import Pacing
from gateway_agent.core.end_to_end.group_trust import TrustOfGroups
from gateway_agent.core.fields import Fields, number, text
from gateway_agent.core.old_copy import Versions
from gateway_agent.core.ports import Clock, Unicast, Uplink
from gateway_agent.core.server_silence import ServerSilence
from gateway_agent.core.turns import UnicastPlaces
from gateway_agent.store.delivery_table import DeliveryOutcome
from gateway_agent.store.store import GatewayStore

_log = logging.getLogger(__name__)

CARRIED_MAX = 16_384
"""Messages that are kept, of some 300 octets each: twice as many as 1,000 PNEs with 8 groups need."""
AT_ONCE = 16
"""PNEs that are asked at the same time. Deliveries of other groups have places of their own."""
RESPONSES_AT_ONCE = 3
"""Responses that the Server has at the same time; it handles eight messages of one PN GW at once."""


class Stage(StrEnum):
    """How far a wrapped key is."""

    PENDING = "pending"
    ANSWERED = "answered"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class CarriedStatus:
    """A wrapped key as a person sees it.

    `stage`: ANSWERED when the Server has the response of the PNE; REFUSED if this PN GW or the Server could not use it.
    `tries`: how often the key was sent; `returned`: the last Return of the PNE, "" for none yet; `since`: Unix seconds
    of the last change of the stage, 0 if the clock was not synchronised.
    """

    pne_id: str
    version: int
    stage: str
    tries: int
    returned: str
    since: int


@dataclass(eq=False, slots=True)
class _Carried:
    """The newest message for one PNE and Service Group, and the task that brings it there."""

    pne_id: str
    sg_id: str
    version: int
    message: bytes = field(repr=False)
    since: int
    stage: Stage = Stage.PENDING
    tries: int = 0
    returned: str = ""
    reported: bool = False
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    @property
    def is_under_way(self) -> bool:
        return self.task is not None and not self.task.done()

    @property
    def state(self) -> str | None:
        """The state of the PNE in a delivery report, None if there is nothing to report."""
        if self.stage is Stage.ANSWERED and self.returned == numbers.RESULT_SUCCESS:
            return "confirmed"
        return "unreachable" if self.stage is Stage.UNREACHABLE else None


class CarriedKeys:
    """All wrapped keys that were given to this PN GW since its start."""

    def __init__(
        self,
        *,
        pn_id: str,
        store: GatewayStore,
        trust: TrustOfGroups,
        versions: Versions,
        silence: ServerSilence,
        unicast: Unicast,
        uplink: Uplink,
        clock: Clock,
        pacing: Pacing,
        report_due: Callable[[], None],
        counters: Counter[str],
    ) -> None:
        """`pacing` has the pauses between tries, and how many tries make a PNE unreachable, as for unicast.

        `report_due` is called when a delivery report waits for the Server. `counters` gets `carried` (messages sent),
        `carried_unanswered`, `carried_responses`, `carried_responses_refused` (by this PN GW), `.._unwanted` (by the
        Server) and `.._lost`.
        """
        self._pn_id = pn_id
        self._store = store
        self._trust = trust
        self._versions = versions
        self._silence = silence
        self._unicast = unicast
        self._uplink = uplink
        self._clock = clock
        self._pacing = pacing
        self._report_due = report_due
        self._counters = counters
        self._places = UnicastPlaces(AT_ONCE)
        self._responses = asyncio.Semaphore(RESPONSES_AT_ONCE)
        self._kept: dict[str, dict[str, _Carried]] = {}  # by PNE ID and SG ID

    def is_for_member(self, fields: Fields) -> bool:
        """Return True if an SGroupKeyDeliveryRequest names a PNE that is a member of its group now."""
        pne_id, _ = _info(fields)
        return self._store.inventory.is_member(text(fields, messages.SGID), pne_id)

    def carry(self, fields: Fields) -> None:
        """Accept an SGroupKeyDeliveryRequest of the Server, in the place of an older one for this PNE and group.

        A repeated request is not sent twice at the same time. Raises MalformedMessage, NotMember, Stale (a later
        version is known), TooMany, Unknown (no such PNE or group here), NotAllowed (this PN GW is stopped).
        """
        self._versions.refuse_if_stopped()
        sg_id, version = text(fields, messages.SGID), number(fields, messages.VERSION)
        pne_id, _ = _info(fields)
        self._require_member(pne_id, sg_id)
        group = self._store.inventory.group(sg_id)
        if group is None or not version or version < group.version:
            raise Stale("a later version is known")
        message = bytes(messages.encode(numbers.S_GROUP_KEY_DELIVERY_REQUEST, fields))
        before = self._kept.get(pne_id, {}).get(sg_id)
        if before is None and sum(map(len, self._kept.values())) >= CARRIED_MAX:
            raise TooMany("too many wrapped keys wait in this PN GW")
        if version > group.version or not group.end_to_end:
            with self._store.transaction():  # before it is acknowledged, as for other keys (SEC-02)
                self._trust.learn(sg_id, numbers.TRUST_END_TO_END)
                self._store.inventory.set_version(sg_id, version)
        if before is not None:
            if before.is_under_way and before.message == message:
                return
            self._stop(before)
        carried = _Carried(pne_id, sg_id, version, message, self._clock.unix())
        if before is not None and before.version == version:
            carried.tries, carried.returned = before.tries, before.returned
        self._kept.setdefault(pne_id, {})[sg_id] = carried
        self._begin(carried)

    def heard(self, pne_id: str) -> None:
        """Note that the PNE has sent something, and send it what waits for it."""
        self._places.heard(pne_id)
        for carried in self._kept.get(pne_id, {}).values():
            if carried.is_under_way:
                carried.heard.set()
            elif carried.stage is Stage.UNREACHABLE:
                self._begin(carried)

    def may_know_newest(self, sg_id: str, pne_id: str) -> bool:
        """Return False if what was carried for this PNE last is of an older version than the newest of the group."""
        carried, group = self._kept.get(pne_id, {}).get(sg_id), self._store.inventory.group(sg_id)
        return carried is None or group is None or carried.version >= group.version

    def members_removed(self, sg_id: str, pne_ids: Iterable[str]) -> None:
        """Forget what was for these PNEs; nothing of it is sent any more (SEC-06).

        Called inside the transaction that removes them from the group. If that is undone the Server sends again.
        """
        for pne_id in pne_ids:
            of_pne = self._kept.get(pne_id, {})
            if (carried := of_pne.pop(sg_id, None)) is not None:
                self._stop(carried)
            if not of_pne:
                self._kept.pop(pne_id, None)

    def group_deleted(self, sg_id: str) -> None:
        """Forget everything about the group, inside the transaction that deletes it."""
        self.members_removed(sg_id, [pne_id for pne_id, of_pne in self._kept.items() if sg_id in of_pne])

    def statuses(self, sg_id: str) -> tuple[CarriedStatus, ...]:
        """Return the state of the newest wrapped key of each PNE of a group, ordered by PNE ID."""
        found = [of_pne[sg_id] for _, of_pne in sorted(self._kept.items()) if sg_id in of_pne]
        return tuple(
            CarriedStatus(each.pne_id, each.version, str(each.stage), each.tries, each.returned, each.since)
            for each in found
        )

    def unreported(self) -> dict[tuple[str, int], dict[str, DeliveryOutcome]]:
        """Return what the Server was not told in a report so far: by SG ID and version the outcome of each PNE."""
        found: dict[tuple[str, int], dict[str, DeliveryOutcome]] = {}
        for each in self._all():
            if each.state is not None and not each.reported:
                outcome = DeliveryOutcome(each.state, delivery_report.END_TO_END, each.tries, each.since)
                found.setdefault((each.sg_id, each.version), {})[each.pne_id] = outcome
        return found

    def reported(self, sg_id: str, version: int, outcomes: Mapping[str, DeliveryOutcome]) -> None:
        """Note that the Server was told these outcomes."""
        for pne_id, outcome in outcomes.items():
            carried = self._kept.get(pne_id, {}).get(sg_id)
            if carried is not None and (carried.version, carried.state) == (version, outcome.state):
                carried.reported = True

    async def close(self) -> None:
        """Stop. Nothing is kept: the Server sends again what it has no response to."""
        tasks = [each.task for each in self._all() if each.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # the way to a PNE and back

    def _begin(self, carried: _Carried) -> None:
        carried.task = asyncio.get_running_loop().create_task(self._bring(carried))
        carried.task.add_done_callback(_show_fault)

    def _stop(self, carried: _Carried) -> None:
        if carried.task is not None:
            carried.task.cancel()

    async def _bring(self, carried: _Carried) -> None:
        """Send the message until the PNE answers or counts as unreachable, and pass its response to the Server."""
        before = carried.tries
        while (response := await self._ask(carried)) is None:
            failures = carried.tries - before
            if failures >= self._pacing.failures_max:
                self._set(carried, Stage.UNREACHABLE)
                self._report_due()
                return
            await self._pause(carried, max(1, failures))
        try:
            returned = self._returned(carried, response)
        except CpnsError as error:
            self._counters["carried_responses_refused"] += 1
            _log.info("%s has not answered for %s: %s", carried.pne_id, carried.sg_id, error.reason)
            self._set(carried, Stage.REFUSED)
            return
        carried.returned = returned
        await self._pass_up(carried, response)

    async def _ask(self, carried: _Carried) -> bytes | None:
        """Send the message once; return the octets of the answer, None if the PNE is away.

        Also returns None, which is no try, while it is not certain that the PNE may have it.
        """
        try:
            async with self._places.of(carried.pne_id):
                carried.heard.clear()
                if not self._may_send(carried):
                    return None
                carried.tries += 1
                self._counters["carried"] += 1
                answer = await self._unicast.request(carried.pne_id, carried.message)
                self._places.heard(carried.pne_id)
                return answer or b""
        except CpnsError as error:
            self._counters["carried_unanswered"] += 1
            _log.debug("%s has not got its wrapped key: %s", carried.pne_id, error.reason)
            return None

    def _may_send(self, carried: _Carried) -> bool:
        """Return True if the PNE is a member at this moment (SEC-06), as far as that is known."""
        group = self._store.inventory.group(carried.sg_id)
        known = group is not None and not group.behind and self._versions.stop_reason is None
        return known and not self._silence.is_stale and self._store.inventory.is_member(carried.sg_id, carried.pne_id)

    async def _pause(self, carried: _Carried, failures: int) -> None:
        """Wait before the next try, unless the PNE is heard or was heard during the last one."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._pacing.unicast_retry_s * 2 ** (failures - 1)):
                await carried.heard.wait()

    def _returned(self, carried: _Carried, response: bytes) -> str:
        """Return the Return of a response, after the checks that are possible without a key (CPNS-GKM-82)."""
        code, fields = messages.decode(response)
        if code != numbers.S_GROUP_KEY_DELIVERY_RESPONSE:
            raise MalformedMessage(f"message {code} answers an SGroupKeyDeliveryRequest")
        if fields[messages.PNID] != self._pn_id:
            raise NotMember("it answers for another PN")
        named = (messages.PNE_ID, messages.SGID, messages.VERSION)
        if tuple(map(fields.get, named)) != (carried.pne_id, carried.sg_id, carried.version):
            raise NotAllowed("it answers another request")
        return text(fields, messages.RETURN)

    async def _pass_up(self, carried: _Carried, response: bytes) -> None:
        """Pass a response to the Server, unchanged, which answers one that it can use by an empty message.

        If it cannot be reached it sends the key again.
        """
        for failures in range(1, self._pacing.failures_max + 1):
            try:
                async with self._responses:
                    answer = await self._uplink.request(response)
            except CpnsError as error:
                _log.debug("a response of %s has not reached the CPNS Server: %s", carried.pne_id, error.reason)
                await asyncio.sleep(self._pacing.unicast_retry_s * 2 ** (failures - 1))
            else:
                self._counters["carried_responses_unwanted" if answer else "carried_responses"] += 1
                self._set(carried, Stage.REFUSED if answer else Stage.ANSWERED)
                return
        self._counters["carried_responses_lost"] += 1

    def _require_member(self, pne_id: str, sg_id: str) -> None:
        pne = self._store.pn.pne(pne_id)
        if pne is None or pne.retired:
            raise Unknown(f"there is no board {pne_id}")
        if self._store.inventory.group(sg_id) is None:
            raise Unknown(f"there is no Service Group {sg_id}")
        if not self._store.inventory.is_member(sg_id, pne_id):
            raise NotMember(f"{pne_id} is no member of {sg_id}")

    def _set(self, carried: _Carried, stage: Stage) -> None:
        if carried.stage is not stage:
            carried.stage, carried.since, carried.reported = stage, self._clock.unix(), False

    def _all(self) -> list[_Carried]:
        return [carried for of_pne in self._kept.values() for carried in of_pne.values()]


def _info(fields: Fields) -> tuple[str, bytes]:
    """Return (PNE ID, EncryptedGroupKey) of a request. Raises MalformedMessage if it has none."""
    info = fields.get(messages.GROUP_KEY_INFO)
    if not isinstance(info, tuple):
        raise MalformedMessage("no GroupKeyInfo")
    return info


def _show_fault(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (fault := task.exception()) is not None:
        _log.error("KC1033 the way of a wrapped key ended in a fault of this program", exc_info=fault)
