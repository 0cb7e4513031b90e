"""Reports of PN GWs about themselves: the members that confirmed a key, and the versions that they hold (SEC-28).

Reports inform people and make the Server repeat itself; no number in them moves a version or revision (SEC-03).
"""

from collections.abc import Callable, Sequence
from functools import partial

from cpns import numbers
from cpns.errors import Unknown
from cpns.in_words import version_text
from key_servers.cpns_server import alarms as kinds
from key_servers.cpns_server import tuning
from key_servers.cpns_server.alarms import ServerAlarms
from key_servers.cpns_server.delivery_queue import Position
from key_servers.cpns_server.group_keys import GroupKeyMaker, active
from key_servers.cpns_server.membership import MembershipChanges
from key_servers.cpns_server.registry import Registry
from key_servers.cpns_server.store import ServerStore
from key_servers.cpns_server.values import GroupState, GroupTrust, MemberReport, Moment, StoredGateway, StoredGroup
from key_servers.rate_limit import HourlyLimit
from message_plane.links.mqtt_topics import shard_of


class GatewayReports:
    """Accepts delivery reports and version lists."""

    def __init__(
        self,
        store: ServerStore,
        registry: Registry,
        membership: MembershipChanges,
        keys: GroupKeyMaker,
        alarms: ServerAlarms,
        holds: Callable[[int], bool],
    ) -> None:
        """Keep the parts. `holds` returns whether the PN GWs of a shard come to this process."""
        self._store = store
        self._registry = registry
        self._membership = membership
        self._keys = keys
        self._alarms = alarms
        self._holds = holds
        self._losses = HourlyLimit(tuning.LOSSES_PER_HOUR_MAX)
        self._listed_at: dict[str, float] = {}
        self._look_at = float("-inf")

    def delivery(self, gateway: StoredGateway, sg_id: str, version: int, reports: Sequence[MemberReport]) -> None:
        """Note how the delivery of a version to each PNE ended; PNEs that left since are ignored.

        In an end-to-end group only the PNEs' own proofs confirm a version: there a report is what its PN GW said. The
        report is on the medium once `written` returns. Raise Unknown (a version that was never issued), NotAllowed
        (held group, PNE of another PN).
        """
        group = active(self._store.group(sg_id), sg_id)
        if not 0 < version <= group.version:
            raise Unknown(f"version {version_text(version)} of Service Group {sg_id} was never issued")
        self._registry.must_be_bound([report.pne_id for report in reports], gateway.pn_id)
        confirms = group.trust is GroupTrust.GATEWAY
        self._store.after_commit(partial(self._add, gateway, sg_id, version, reports, confirms))

    def _add(
        self, gateway: StoredGateway, sg_id: str, version: int, reports: Sequence[MemberReport], confirms: bool
    ) -> None:
        shard = shard_of(gateway.gateway_id)
        for report in reports:
            self._store.lots.add_report(sg_id, version, report, shard, confirms=confirms)

    async def written(self) -> None:
        """Return when all that was noted until now is on the medium. Raises StoreFailed."""
        await self._store.lots.written()

    def version_list(
        self, gateway: StoredGateway, held: Sequence[tuple[int, str]], now: Moment
    ) -> list[tuple[int, str]]:
        """Compare the (version, SG ID) that a PN GW holds with the versions that it accepted; return these.

        A group that it names with 0, with less than it had accepted, or not at all, is sent to it anew, and its key is
        updated: another machine may have what such a PN GW has forgotten (SEC-02). A PN GW without members in the group
        forgets a key only once, as it gets no other: if it names 0 again, the list of members is sent anew and no
        key is made. Of an end-to-end group, whose key no PN GW has, only the members are sent anew, which a PN GW that
        has not carried the newest version may not know.
        """
        self._listed_at[gateway.gateway_id] = now.monotonic
        self._alarms.clear(kinds.SILENT, gateway.gateway_id, "")
        named = {sg_id: version for version, sg_id in held}
        with self._store.transaction():
            # What it accepted is told as it was before this list: so a PN GW learns that its store is old (SEC-02).
            before = {
                sg_id: accepted for (_, sg_id), (_, accepted) in self._store.positions(pn_id=gateway.pn_id).items()
            }
            groups = {sg_id: self._store.group(sg_id) for sg_id in {*named, *before}}
            for sg_id, group in sorted(groups.items()):
                if group is not None and (sg_id in named or group.state is GroupState.ACTIVE):
                    self._compare(gateway, group, named.get(sg_id), before.get(sg_id), now)
        unknown = [sg_id for sg_id in named if groups[sg_id] is None]
        self._report_unknown(gateway, unknown, now)
        return [
            (accepted.version, sg_id)
            for sg_id, accepted in before.items()
            if (group := groups[sg_id]) is not None and group.state is GroupState.ACTIVE
        ]

    def check_silence(self, now: Moment) -> None:
        """Raise an alarm for each PN GW with Service Groups whose version list is overdue (SEC-28).

        It looks at all PN GWs that come to this process, every `tuning.SILENCE_LOOK_S` only.
        """
        if now.monotonic < self._look_at:
            return
        self._look_at = now.monotonic + tuning.SILENCE_LOOK_S
        serving = {each for each in self._store.gateways_with_groups() if self._holds(shard_of(each))}
        self._listed_at = {gateway_id: self._listed_at.get(gateway_id, now.monotonic) for gateway_id in sorted(serving)}
        for gateway_id, listed_at in self._listed_at.items():
            if now.monotonic - listed_at >= tuning.VERSION_LIST_OVERDUE_S:
                self._alarms.set(
                    kinds.SILENT,
                    gateway_id,
                    "",
                    f"PN GW {gateway_id} has sent no version list for half an hour: "
                    "a member who was removed may still be keyed there. Check its uplink.",
                    now,
                )

    def _compare(
        self, gateway: StoredGateway, group: StoredGroup, named: int | None, accepted: Position | None, now: Moment
    ) -> None:
        sg_id = group.sg_id
        version = named or 0
        if version > group.version:
            self._alarms.set(
                kinds.AHEAD,
                gateway.gateway_id,
                sg_id,
                f"PN GW {gateway.gateway_id} says it holds version {version_text(version)} of Service Group "
                f"{sg_id}, the Server has only issued {version_text(group.version)}. Either it is wrong, or "
                "this Server runs on an old copy of its store: then run keycast server restore.",
                now,
            )
            return
        self._alarms.clear(kinds.AHEAD, gateway.gateway_id, sg_id)
        if group.state is GroupState.HELD:
            return
        if accepted is None:
            # It has members that this Server does not know: they joined after the copy this store came from was made.
            self._membership.raise_revision(sg_id, gateway.pn_id)
        elif group.state is GroupState.DELETED:
            self._store.set_accepted(sg_id, gateway.pn_id, Position(accepted.revision, accepted.version, False))
        elif group.trust is GroupTrust.END_TO_END:
            if version < group.version:  # each change of the members has made a version
                self._store.set_accepted(sg_id, gateway.pn_id, Position())
        elif version < accepted.version or (named == 0 and self._store.members_in(sg_id, gateway.pn_id)):
            self._lost(gateway, group, version, now)
        elif not named:  # it holds no key and has no members that need one, but may lack the list that says so
            self._store.set_accepted(sg_id, gateway.pn_id, Position())

    def _lost(self, gateway: StoredGateway, group: StoredGroup, version: int, now: Moment) -> None:
        self._store.set_accepted(group.sg_id, gateway.pn_id, Position(0, version, False))
        if version:
            self._alarms.set(
                kinds.LOST_STORE,
                gateway.gateway_id,
                group.sg_id,
                f"PN GW {gateway.gateway_id} went back to version {version_text(version)} of Service Group "
                f"{group.sg_id}: was an old image put back? Then run keycast gateway restore there.",
                now,
            )
        loss = (gateway.pn_id, group.sg_id)
        if self._losses.has_room(loss, now.monotonic):
            self._keys.update_soon(group.sg_id, numbers.REASON_LEAVE, now)
            self._store.after_commit(lambda: self._losses.take(loss, now.monotonic))

    def _report_unknown(self, gateway: StoredGateway, unknown: list[str], now: Moment) -> None:
        if not unknown:
            self._alarms.clear(kinds.UNKNOWN_GROUP, gateway.gateway_id, "")
            return
        self._alarms.set(
            kinds.UNKNOWN_GROUP,
            gateway.gateway_id,
            "",
            f"PN GW {gateway.gateway_id} holds {len(unknown)} Service Groups this Server has never made, the first is "
            f"{unknown[0]!r}. If this Server runs on an old copy of its store, run keycast server restore.",
            now,
        )
