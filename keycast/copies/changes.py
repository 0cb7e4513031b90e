"""What changed between a backup and the state that it would replace: what a restore brings back, and what it takes."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gateway_agent.errors import GatewayError
from gateway_agent.store.store import GatewayStore
from key_servers.cpns_server.store import ServerStore
from key_servers.cpns_server.values import GroupState, MemberState

_SHOWN_MAX = 20


class OlderBackup(GatewayError):
    """The backup is older than the state that it would replace, and a person has not said that this is wanted."""


@dataclass(frozen=True)
class DoneSince:
    """What was done after the backup was made, as far as it can be seen.

    `removed`: what the backup still has, in words ("board lamp"); `added`: what it does not have yet. `went_on`:
    versions or generations of the state are above those of the backup.
    """

    removed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    went_on: bool = False

    def __bool__(self) -> bool:
        return bool(self.removed or self.added or self.went_on)

    def __add__(self, other: "DoneSince") -> "DoneSince":
        return DoneSince(self.removed + other.removed, self.added + other.added, self.went_on or other.went_on)

    def sentences(self) -> list[str]:
        """Return for a person what was done since."""
        told = []
        if self.removed:
            told.append(f"Removed since then, and in the backup: {_some(self.removed)}.")
        if self.added:
            told.append(f"Added since then, and not in the backup: {_some(self.added)}.")
        if self.went_on and not told:
            told.append("Since then keys were made or handed out.")
        return told

    def require(self, is_wanted: bool, path: Path, state: object) -> None:
        """Raise OlderBackup if anything was done since the backup `path`, unless a person wants the older copy."""
        if self and not is_wanted:
            told = " ".join(self.sentences())
            raise OlderBackup(
                f"{path} is older than what is in {state}. {told}", "If it is to replace that, add: --older"
            )


NOTHING = DoneSince()


def between(copy: Iterable[str], state: Iterable[str], went_on: bool = False) -> DoneSince:
    """Return what changed from the names in the backup's `copy` to those in `state`."""
    old, new = set(copy), set(state)
    return DoneSince(tuple(sorted(old - new)), tuple(sorted(new - old)), went_on)


def of_gateway(copy: GatewayStore, state: GatewayStore) -> DoneSince:
    """Return what changed in the boards of a PN GW and in the numbers that it must not use again."""
    then, now = copy.pn.get(), state.pn.get()
    if then is None or now is None:
        return NOTHING
    versions = {group.sg_id: group.version for group in copy.inventory.groups()}
    went_on = now.last_generation > then.last_generation or any(
        group.version > versions.get(group.sg_id, 0) for group in state.inventory.groups()
    )
    return between(map("board {}".format, copy.pn.pnes()), map("board {}".format, state.pn.pnes()), went_on)


def of_server(copy: ServerStore, state: ServerStore) -> DoneSince:
    """Return what changed in the groups, members and gateways of a CPNS Server, and in its versions."""
    versions = {group.sg_id: group.version for group in copy.groups()}
    went_on = state.base_epoch() > copy.base_epoch() or any(
        group.version > versions.get(group.sg_id, 0) for group in state.groups()
    )
    return between(_of_server(copy), _of_server(state), went_on)


def _of_server(store: ServerStore) -> list[str]:
    groups = [group.sg_id for group in store.groups() if group.state is not GroupState.DELETED]
    members = [
        f"member {member.pne_id} of {sg_id}"
        for sg_id in groups
        for member in store.members(sg_id)
        if member.state is MemberState.MEMBER
    ]
    gateways = [f"gateway {gateway.gateway_id}" for gateway in store.gateways() if not gateway.blocked]
    return [*(f"group {sg_id}" for sg_id in groups), *members, *gateways]


def _some(names: tuple[str, ...]) -> str:
    more = len(names) - _SHOWN_MAX
    return ", ".join(names[:_SHOWN_MAX]) + (f" and {more} more" if more > 0 else "")
