"""Makes snapshots of a running gateway from its parts.

What it has read and made of a group or a board is kept while nothing is written about it, so a commit that is about one
board costs no look at the others.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version

from cpns import delivery_report, numbers
from cpns.in_words import version_text
from gateway_agent.core.administration import Administration
from gateway_agent.core.end_to_end.carried_keys import CarriedStatus, Stage
from gateway_agent.core.events import Event, PairingEnded, PairingOpened
from gateway_agent.observe import stored_state
from gateway_agent.observe.event_stream import EventStream
from gateway_agent.observe.figures import Figures, GroupFigures
from gateway_agent.observe.snapshot import (
    AlarmView,
    BoardView,
    BrokerView,
    CarriedView,
    MemberView,
    NetworkView,
    PairingView,
    ServiceGroupView,
    Snapshot,
    UplinkView,
)
from gateway_agent.observe.stored_state import CONFIRMED, StoredGroupState
from gateway_agent.sightings import Sightings
from gateway_agent.store.delivery_table import KeyEvidence
from gateway_agent.store.store import GatewayStore
from gateway_agent.store.written_rows import UntilWritten
from gateway_agent.updates.status import BoardStatus

KEPT_S = 0.5
_NONE_CONFIRMED = KeyEvidence(version=0, link="", tries=0, confirmed_at=0)
_NOTHING_CARRIED = CarriedStatus(pne_id="", version=0, stage="none", tries=0, returned="", since=0)


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What only a CPNS Server in the same process knows: SG IDs of groups that it holds, and its alarms."""

    held: frozenset[str] = frozenset()
    alarms: tuple[AlarmView, ...] = ()


@dataclass(frozen=True, slots=True)
class _GroupSeen:
    """A view of a group, and all that it was made of."""

    stored: StoredGroupState
    recipients: Mapping[str, str]
    held: bool
    view: ServiceGroupView


@dataclass(frozen=True, slots=True)
class _BoardGroups:
    """The memberships of one board, and the SG IDs of their groups."""

    memberships: tuple[MemberView, ...] = ()
    sg_ids: frozenset[str] = frozenset()


class Observer:
    """Sees one gateway. It changes nothing."""

    def __init__(
        self,
        *,
        store: GatewayStore,
        administration: Administration,
        sightings: Sightings,
        networks: Callable[[], Iterable[NetworkView]],
        addresses: Callable[[], Iterable[str]],
        brokers: Callable[[], Iterable[BrokerView]],
        commits: Callable[[], int],
        backed_up_at: Callable[[], int],
        update_of: Callable[[str, Collection[str]], BoardStatus | None],
        uplink: tuple[str, str],
        stream: EventStream,
        counters: Mapping[str, int],
        server: Callable[[], ServerFacts] = ServerFacts,
    ) -> None:
        """`uplink`: its kind, and the ID of the Server.

        The functions return what a snapshot has under their names; `server`: what a Server in this process knows.
        """
        self._store = store
        self._administration = administration
        self._sightings = sightings
        self._networks = networks
        self._addresses = addresses
        self._brokers = brokers
        self._commits = commits
        self._backed_up_at = backed_up_at
        self._update_of = update_of
        self._uplink = uplink
        self._stream = stream
        self._counters = counters
        self._server = server
        self._started_at = int(time.time())
        self._version = version("keycast")
        self._pairing: PairingView | None = None
        written = store.database.written
        self._stored_groups = UntilWritten(written, written.groups_after, partial(stored_state.read, store))
        self._stored_boards = UntilWritten(written, written.pnes_after, store.pn.shown)
        self._counts = UntilWritten(written, written.groups_after, store.inventory.counts)
        self._groups_seen: dict[str, _GroupSeen] = {}
        self._groups_of_boards: tuple[tuple[ServiceGroupView, ...], Mapping[str, _BoardGroups]] = ((), {})
        self._kept: tuple[tuple[int, int], float, Snapshot] | None = None
        stream.follow(self._follow)

    def snapshot(self) -> Snapshot:
        """Return what the gateway shows now. Raises StoreFailed."""
        facts, pn = self._server(), self._store.pn.get()
        administration = self._administration
        stored = self._stored_groups()
        for gone in self._groups_seen.keys() - stored.keys():
            del self._groups_seen[gone]
        groups = tuple(
            self._carried_group(of, facts) if of.group.end_to_end else self._group(of, facts) for of in stored.values()
        )
        kind, server_id = self._uplink
        return Snapshot(
            at=int(time.time()),
            event_number=self._stream.number,
            version=self._version,
            started_at=self._started_at,
            gateway_id="" if pn is None else pn.gateway_id,
            pn_id="" if pn is None else pn.pn_id,
            pn_alias=0 if pn is None else pn.pn_alias,
            uplink=UplinkView(
                kind,
                server_id,
                administration.uplink_is_up,
                administration.server_age_s,
                administration.server_problem,
            ),
            brokers=tuple(self._brokers()),
            addresses=tuple(self._addresses()),
            networks=tuple(self._networks()),
            stopped=administration.stop_reason or "",
            withholds_keys=administration.withholds_keys,
            held=tuple(sorted(facts.held)),
            groups=groups,
            boards=self._board_views(groups),
            alarms=self.alarms(facts),
            pairing=self._pairing,
            counters=dict(sorted(self._counters.items())),
            commits=self._commits(),
            backed_up_at=self._backed_up_at(),
        )

    def recent(self) -> Snapshot:
        """Return a snapshot to which nothing was told or stored since, and which is half a second old at most.

        So several pages that are read anew at the same event cost as much as one. Raises StoreFailed.
        """
        now, state = time.monotonic(), (self._stream.number, self._store.database.commits)
        if self._kept is None or self._kept[0] != state or now - self._kept[1] > KEPT_S:
            self._kept = (state, now, self.snapshot())
        return self._kept[2]

    def figures(self) -> Figures:
        """Return the figures of this moment. Raises StoreFailed."""
        administration = self._administration
        groups = []
        for group in self._counts().values():
            of = group.states
            if group.end_to_end:
                carried = administration.carried(group.sg_id)
                confirmed = sum(each.version == group.version and _has_taken(each) for each in carried)
                of = {CONFIRMED: confirmed, "pending": sum(of.values()) - confirmed}
            groups.append(GroupFigures(group.sg_id, group.version, of))
        broadcasts: Counter[str] = Counter()
        for network in self._networks():
            broadcasts[network.interface] += network.sent
        alarms: Counter[str] = Counter()
        for alarm in self.alarms():
            alarms[alarm.kind] += alarm.count
        return Figures(
            self._version,
            tuple(groups),
            broadcasts,
            administration.uplink_is_up,
            alarms,
            self._commits(),
            self._counters,
        )

    def alarms(self, facts: ServerFacts | None = None) -> tuple[AlarmView, ...]:
        """Return the alarms of the gateway, oldest first, then those of the CPNS Server in it."""
        own = (AlarmView(**asdict(each)) for each in self._administration.alarms())
        return (*own, *(self._server() if facts is None else facts).alarms)

    def _group(self, stored: StoredGroupState, facts: ServerFacts) -> ServiceGroupView:
        """Return the view that was made before if all that it was made of is as it was."""
        sg_id = stored.group.sg_id
        recipients, held = self._administration.recipients(sg_id), sg_id in facts.held
        seen = self._groups_seen.get(sg_id)
        if seen is None or seen.stored is not stored or seen.held != held or seen.recipients != recipients:
            seen = _GroupSeen(stored, recipients, held, _group_view(stored, recipients, held=held))
            self._groups_seen[sg_id] = seen
        return seen.view

    def _carried_group(self, stored: StoredGroupState, facts: ServerFacts) -> ServiceGroupView:
        group = stored.group
        found = {each.pne_id: each for each in self._administration.carried(group.sg_id)}
        carried = tuple(_carried(pne_id, found.get(pne_id, _NOTHING_CARRIED)) for pne_id in stored.members)
        views = tuple(_carried_member(group.sg_id, each) for each in carried)
        return ServiceGroupView(
            sg_id=group.sg_id,
            version=group.version,
            version_text=version_text(group.version),
            trust="end-to-end",
            key_made_at=0,
            confirmed=sum(each.version == group.version for each in views) if group.version else 0,
            members=views,
            states=(),
            exposed=stored.gets_keys and group.exposed,
            waiting=stored.gets_keys and group.waiting,
            held=group.sg_id in facts.held,
            deliveries=(),
            carried=carried,
        )

    def _board_views(self, groups: tuple[ServiceGroupView, ...]) -> tuple[BoardView, ...]:
        stored, of_boards, nothing = self._stored_boards(), self._boards_in(groups), _BoardGroups()
        return tuple(
            BoardView(
                pne_id,
                seen.session,
                seen.heard_at,
                seen.age_s,
                seen.heard_link,
                seen.address,
                seen.software,
                pne_id in stored and stored[pne_id].held,
                (of := of_boards.get(pne_id, nothing)).memberships,
                self._update_of(pne_id, of.sg_ids),
            )
            for pne_id, seen in sorted(self._sightings.of_boards(stored).items())
        )

    def _boards_in(self, groups: tuple[ServiceGroupView, ...]) -> Mapping[str, _BoardGroups]:
        """Return the groups of each board, by PNE ID: those found before if each group has the view that it had."""
        before, found = self._groups_of_boards
        if len(before) != len(groups) or any(one is not other for one, other in zip(before, groups, strict=True)):
            memberships: dict[str, list[MemberView]] = defaultdict(list)
            for group in groups:
                for member in group.members:
                    memberships[member.pne_id].append(member)
            found = {
                pne_id: _BoardGroups(tuple(of), frozenset(each.sg_id for each in of))
                for pne_id, of in memberships.items()
            }
            self._groups_of_boards = (groups, found)
        return found

    def _follow(self, event: Event) -> None:
        if isinstance(event, PairingOpened):
            self._pairing = PairingView(event.pne_id, event.until)
        elif isinstance(event, PairingEnded):
            self._pairing = None


def _group_view(stored: StoredGroupState, recipients: Mapping[str, str], *, held: bool) -> ServiceGroupView:
    """Return the view of a group whose keys this gateway reads."""
    group, deliveries = stored.group, tuple(stored.deliveries)
    sg_id, newest = group.sg_id, group.version
    texts = {each.version: each.version_text for each in deliveries}
    states = {**stored.states, **recipients}  # the latter know also which ones are on their way

    def member(pne_id: str) -> MemberView:
        version, link, tries, confirmed_at = stored.confirmed.get(pne_id, _NONE_CONFIRMED)
        text = texts.get(version) or version_text(version)
        return MemberView(sg_id, pne_id, states.get(pne_id, ""), version, text, link, tries, confirmed_at)

    views = tuple(map(member, stored.members))
    return ServiceGroupView(
        sg_id=sg_id,
        version=newest,
        version_text=version_text(newest),
        trust="gateway",
        key_made_at=next((each.arrived_at for each in deliveries if each.version == newest), 0),
        confirmed=sum(each.version == newest for each in views) if newest else 0,
        members=views,
        states=tuple(sorted(Counter(states.values()).items())),
        exposed=stored.gets_keys and group.exposed,
        waiting=stored.gets_keys and group.waiting,
        held=held,
        deliveries=deliveries,
        carried=(),
    )


def _has_taken(of: CarriedStatus | CarriedView) -> bool:
    """Return True if the board has opened the wrapped key."""
    stage = of.state if isinstance(of, CarriedView) else of.stage
    return stage == Stage.ANSWERED and of.returned == numbers.RESULT_SUCCESS


def _carried(pne_id: str, of: CarriedStatus) -> CarriedView:
    return CarriedView(pne_id, of.version, version_text(of.version), of.stage, of.tries, of.returned, of.since)


def _carried_member(sg_id: str, of: CarriedView) -> MemberView:
    if not _has_taken(of):
        return MemberView(sg_id, of.pne_id, of.state, 0, version_text(0), "", of.try_count, 0, of.returned)
    link = delivery_report.END_TO_END
    return MemberView(
        sg_id, of.pne_id, of.state, of.version, of.version_text, link, of.try_count, of.changed_at, of.returned
    )
