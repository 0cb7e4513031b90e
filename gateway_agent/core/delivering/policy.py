"""The PN GW's choice between unicast and broadcast (CPNS-GKM-11..13, -31, -67), by the section `[delivery]`."""

from collections.abc import Collection
from enum import StrEnum
from math import ceil
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field

from gateway_agent.config.section import Section

if TYPE_CHECKING:
    from gateway_agent.core.ports import Cost

ROUND_MAX_S = 15.0
"""Longest time of one broadcast round, on the quickest medium, for which "auto" chooses broadcast in any case.

A longer one is chosen if connections to all of the PNEs would take even longer on the same radio."""


STALE_MIN_S = 1800
"""Least `stale_after_s`: the Server is asked every quarter of an hour, and one answer may be lost."""


def _stale_after(seconds: int) -> int:
    if 0 < seconds < STALE_MIN_S:
        raise ValueError(f"0 for never, or at least {STALE_MIN_S} s, as the Server is asked every quarter of an hour")
    return seconds


class Method(StrEnum):
    """How a Group Key is sent to the members that have a GKDK. The others always get it by unicast (Q-20)."""

    UNICAST = "unicast"
    BROADCAST = "broadcast"


class DeliveryPolicy(Section):
    """How Group Keys reach the members (CPNS-GKM-11..13, 67)."""

    method: Literal["auto", "unicast", "broadcast"] = Field(
        "auto", description="unicast, broadcast, or auto: the cheaper of them for each delivery"
    )
    unicast_up_to: Annotated[int, Field(ge=0, le=64)] = Field(
        2, description="auto: so many members or fewer get a key by unicast, if that takes no longer"
    )
    datagrams_max: Annotated[int, Field(ge=1, le=1024)] = Field(
        8, description="auto: a key that needs more datagrams for a broadcast goes by unicast"
    )
    leisure_ms_per_pne: Annotated[float, Field(gt=0, le=1000)] = Field(
        1.0, description="confirmations are spread over this many milliseconds for each member"
    )
    stale_after_s: Annotated[int, Field(ge=0), AfterValidator(_stale_after)] = Field(
        0, description="give out no key while a CPNS Server elsewhere is silent for so many seconds; 0 = never stop"
    )


def choose(
    policy: DeliveryPolicy, *, costs: "Collection[Cost]", datagrams: int, with_gkdk: int, without_session: int
) -> Method:
    """Return the method for the members that hold a GKDK, whose number is `with_gkdk`.

    `datagrams`: how many datagrams one broadcast round has; `costs`: what that round costs on each medium that is up,
    empty if none is (CPNS-GKM-12); `without_session`: how many of these members unicast could not reach at once.
    """
    if not costs or not with_gkdk or policy.method == "unicast":
        return Method.UNICAST
    if policy.method == "broadcast":
        return Method.BROADCAST
    is_few = with_gkdk <= policy.unicast_up_to and not without_session
    if is_few and any(with_gkdk * cost.unicast_s <= cost.round_s for cost in costs):
        return Method.UNICAST  # connecting to each of them takes no longer than the broadcast
    is_quick = any(cost.round_s <= max(ROUND_MAX_S, with_gkdk * cost.unicast_s) for cost in costs)
    return Method.BROADCAST if datagrams <= policy.datagrams_max and is_quick else Method.UNICAST


def leisure_ms(policy: DeliveryPolicy, members: int) -> int:
    """Return the milliseconds over which a group of `members` spreads its confirmations (RFC 7252 section 8.2)."""
    return min(ceil(members * policy.leisure_ms_per_pne), 60_000)
