"""Unicast or broadcast: the PN GW's choice (CPNS-GKM-11..13, -31, -67), open to the operator's policy."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from math import ceil

from gateway_agent.core.ports import Cost


class Method(StrEnum):
    """How a Group Key goes to those members that have a GKDK. The others always get it by unicast (Q-20)."""

    UNICAST = "unicast"
    BROADCAST = "broadcast"


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """What the operator decides. `method` "auto", "unicast" or "broadcast"."""

    method: str = "auto"
    unicast_up_to: int = 2
    """auto: so few members with a session are reached by unicast where a medium carries both."""
    datagrams_max: int = 8
    """auto: datagrams of one broadcast round."""
    round_max_s: float = 15.0
    """auto: time of one broadcast round on the quickest medium."""
    leisure_ms_per_pne: float = 1.0
    """confirmations are spread over this many milliseconds for each member."""

    def __post_init__(self) -> None:
        if self.method not in ("auto", "unicast", "broadcast"):
            raise ValueError(f"method is auto, unicast or broadcast, not {self.method!r}")


def choose(
    policy: DeliveryPolicy, *, costs: Collection[Cost], datagrams: int, with_gkdk: int, without_session: int
) -> Method:
    """Pick the method for the `with_gkdk` members that hold a GKDK.

    `costs`: what one round of so many `datagrams` costs on each medium that is up, empty if none is (CPNS-GKM-12);
    `without_session`: how many of these members could not be reached by unicast at once.
    """
    if not costs or not with_gkdk or policy.method == "unicast":
        return Method.UNICAST
    if policy.method == "broadcast":
        return Method.BROADCAST
    is_few = with_gkdk <= policy.unicast_up_to and not without_session
    if is_few and any(with_gkdk * cost.unicast_s <= cost.round_s for cost in costs):
        return Method.UNICAST  # where connecting to each of them takes no longer than the broadcast
    is_affordable = datagrams <= policy.datagrams_max and min(cost.round_s for cost in costs) <= policy.round_max_s
    return Method.BROADCAST if is_affordable else Method.UNICAST


def leisure_ms(policy: DeliveryPolicy, members: int) -> int:
    """Milliseconds over which a group of `members` spreads its confirmations (RFC 7252 section 8.2)."""
    return min(ceil(members * policy.leisure_ms_per_pne), 60_000)
