"""The rules by which a PNE may join a Service Group. Pure functions; the caller reads the store."""

from cpns.errors import NotAllowed
from key_servers.cpns_server.values import JoinPolicy, MemberState, StoredGroup, StoredMember


def admit(group: StoredGroup, member: StoredMember | None, pne_id: str, pn_is_open: bool, is_bound: bool) -> None:
    """Raise NotAllowed unless the PNE may join the living group.

    The owner may join, and a PNE that a person permitted; by policy OPEN every PNE of a PN that the group is open to
    may join too (`pn_is_open`). An expelled PNE may not join until a person permits it again, whatever the policy is. A
    permission is for a name: it holds only where the name means one PNE, in a PN that the group is open to or that the
    PNE was bound to before (`is_bound`). Otherwise another PN GW could use the permission under that name (SEC-16).
    """
    if member is not None:
        if member.state is MemberState.MEMBER or (member.state is MemberState.PERMITTED and (pn_is_open or is_bound)):
            return
        if member.state is MemberState.EXPELLED:
            raise NotAllowed(f"board {pne_id} was expelled from Service Group {group.sg_id}")
    if pne_id == group.owner or (group.policy is JoinPolicy.OPEN and pn_is_open):
        return
    raise NotAllowed(
        f"Service Group {group.sg_id} is not open to board {pne_id}; an operator can permit it, or open it to its PN"
    )
