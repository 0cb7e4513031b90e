"""May this PNE join? Pure rules; the store is read by the caller."""

from cpns.errors import NotAllowed
from key_servers.cpns_server.values import Group, JoinPolicy, Member, MemberState


def admit(group: Group, member: Member | None, pne_id: str, pn_is_open: bool) -> None:
    """Raise NotAllowed unless the PNE may join the living group.

    Its owner and a PNE that a person permitted may; by policy OPEN also every PNE of a PN the group is open to
    (`pn_is_open`). Who was expelled may not until a person permits it again, whatever the policy.
    """
    if member is not None:
        if member.state in (MemberState.MEMBER, MemberState.PERMITTED):
            return
        if member.state is MemberState.EXPELLED:
            raise NotAllowed(f"PNE {pne_id} was expelled from Service Group {group.sg_id}")
    if pne_id == group.owner or (group.policy is JoinPolicy.OPEN and pn_is_open):
        return
    raise NotAllowed(f"Service Group {group.sg_id} is not open to PNE {pne_id}; an operator can permit it")
