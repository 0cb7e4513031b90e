"""The rules of offers: which of them stand, and which board is offered which update. No I/O and no clock."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from cpns.errors import NotAllowed
from gateway_agent.updates.reports import UpdateReport
from suit import numbers as n

OFFERS_MAX = 8
"""Updates that are offered at the same time; each image is kept in memory."""


@dataclass(frozen=True, slots=True)
class UpdateOffer:
    """One update and the boards that it is for: `boards` by name, and the members of `groups`; all if both are empty.

    `number`: its sequence number; `kind`: "agent" or "firmware"; `class_id`: which boards can run it, 16 octets.
    `by_broadcast`: it is broadcast, under the key of the group `sealed_for` or, if that is "", in clear; `position`
    datagrams of that have been sent. `offered_at`: Unix seconds.
    """

    update_id: bytes
    number: int
    kind: str
    class_id: bytes
    boards: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    by_broadcast: bool = False
    sealed_for: str = ""
    position: int = 0
    offered_at: int = 0

    @property
    def to_all(self) -> bool:
        """True if it is for every board of its class."""
        return not self.boards and not self.groups

    def is_for(self, pne_id: str, groups: Collection[str]) -> bool:
        """Return True if it is for this board, which is a member of `groups`, whatever its class is."""
        return self.to_all or pne_id in self.boards or not self.groups.isdisjoint(groups)


def added(standing: Iterable[UpdateOffer], new: UpdateOffer) -> list[UpdateOffer]:
    """Return the offers that stand once `new` was added. Of one update there is one offer, which grows.

    An older update is offered no more to whom the new one is for. Raises NotAllowed if `new` is older than what is
    offered there, if it is to be sealed and stands open for all boards, or if there are too many.
    """
    same = [each for each in standing if each.class_id == new.class_id]
    kept = [each for each in standing if each.class_id != new.class_id]
    for each in same:
        if each.update_id == new.update_id:
            if new.sealed_for and each.to_all:  # all boards may pull it, and the first broadcast was in clear
                raise NotAllowed(
                    f"update {new.number} is offered to all boards already, which can read it: to seal it, first stop "
                    f"that: keycast update withdraw {new.number}"
                )
            new = _grown(each, new)
        elif each.number == new.number:
            raise NotAllowed(f"another update with number {new.number} is offered: sign this one with a higher number")
        elif each.number > new.number and _covers(each, new):
            raise NotAllowed(
                f"update {each.number} is offered there, which is newer than {new.number}: sign this one with a higher "
                f"number, or withdraw that one: keycast update withdraw {each.number}"
            )
    for each in same:
        if each.update_id != new.update_id:
            left = each if each.number > new.number else _without(each, new)
            kept += [] if left is None else [left]
    if len(kept) >= OFFERS_MAX:
        raise NotAllowed(f"{OFFERS_MAX} updates are offered already: withdraw one first: keycast update withdraw")
    return [*kept, new]


def without(
    standing: Iterable[UpdateOffer], *, boards: Collection[str] = (), groups: Collection[str] = ()
) -> list[UpdateOffer]:
    """Return the offers that stand once these boards and groups are gone. An offer that was for nobody else ends."""
    left = (each if each.to_all else _narrowed(each, boards, groups) for each in standing)
    return [each for each in left if each is not None]


def offered(
    standing: Iterable[UpdateOffer], pne_id: str, groups: Collection[str], report: UpdateReport
) -> UpdateOffer | None:
    """Return the update that a board is offered now, None for none. `report` is what the board has said last.

    It is the newest one of a kind that is newer than what the board has, the agent first. One from which the board went
    back is not offered; one that it refused is, and the board knows it.
    """
    wanted = [
        each
        for each in standing
        if each.class_id in report.class_ids
        and each.is_for(pne_id, groups)
        and each.number > report.number(each.kind)
        and not (report.state == n.FELL_BACK and report.wanted == each.number)
    ]
    return max(wanted, key=lambda each: (each.kind == "agent", each.number), default=None)


def _grown(old: UpdateOffer, new: UpdateOffer) -> UpdateOffer:
    """Return one offer for all boards of both. A broadcast begins anew if it is asked for again."""
    to_all = old.to_all or new.to_all
    return replace(
        old,
        boards=frozenset() if to_all else old.boards | new.boards,
        groups=frozenset() if to_all else old.groups | new.groups,
        by_broadcast=old.by_broadcast or new.by_broadcast,
        sealed_for=new.sealed_for if new.by_broadcast else old.sealed_for,
        position=0 if new.by_broadcast else old.position,
        offered_at=new.offered_at,
    )


def _covers(old: UpdateOffer, new: UpdateOffer) -> bool:
    return old.to_all or (not new.to_all and new.boards <= old.boards and new.groups <= old.groups)


def _without(old: UpdateOffer, new: UpdateOffer) -> UpdateOffer | None:
    """Return what is left of an older offer, None for nothing."""
    if new.to_all:
        return None
    if old.to_all:
        return old
    return _narrowed(old, new.boards, new.groups)


def _narrowed(old: UpdateOffer, boards: Collection[str], groups: Collection[str]) -> UpdateOffer | None:
    """Return what is left of an offer to some boards and groups without these, None for nothing.

    A broadcast that was sealed for one of these groups ends, as no board is left that could read it.
    """
    left = replace(old, boards=old.boards.difference(boards), groups=old.groups.difference(groups))
    if left.sealed_for and left.sealed_for not in left.groups:
        left = replace(left, by_broadcast=False, sealed_for="", position=0)
    return None if left.to_all else left
