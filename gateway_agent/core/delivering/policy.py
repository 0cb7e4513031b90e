"""Unicast or broadcast: the PN GW's choice (CPNS-GKM-11..13, -31, -67), open to the operator's policy."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from math import ceil

from cpns import tuning


class Method(StrEnum):
    """How a Group Key goes to those members that have a GKDK. The others always get it by unicast (Q-20)."""

    UNICAST = "unicast"
    BROADCAST = "broadcast"


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """What the operator decides. `method` "auto", "unicast" or "broadcast"."""

    method: str = "auto"
    unicast_up_to: int = 2
    """auto: so few members with a session are reached by unicast where Wi-Fi carries both."""
    datagrams_max: int = 8
    """auto: datagrams of one broadcast round on Wi-Fi."""
    ble_round_max_s: float = 15.0
    """auto: time of one broadcast round on BLE."""
    leisure_ms_per_pne: float = 1.0
    """confirmations are spread over this many milliseconds for each member."""

    def __post_init__(self) -> None:
        if self.method not in ("auto", "unicast", "broadcast"):
            raise ValueError(f"method is auto, unicast or broadcast, not {self.method!r}")


_OBJECT_OCTETS = 105  # the signed frame without entries
_ENTRY_OCTETS = 18
_FRAME_OCTETS = 22  # of an object in one advertisement
_EVENT_S = 0.025  # advertising interval of 20 ms and its random delay
_FRAMES_PER_FRAME = 2.0  # sent until decoded at 30 % loss, p95


def choose(
    policy: DeliveryPolicy, *, media: Collection[str], with_gkdk: int, without_session: int, entries: Collection[int]
) -> Method:
    """Pick the method for the `with_gkdk` members that hold a GKDK.

    `media`: names of the broadcast media that can send now, empty if there is none (CPNS-GKM-12); `without_session`:
    how many of these members could not be reached by unicast at once; `entries`: size of the cover of each generation
    in use.
    """
    if not media or not with_gkdk or policy.method == "unicast":
        return Method.UNICAST
    if policy.method == "broadcast":
        return Method.BROADCAST
    if "wifi" in media:
        if with_gkdk <= policy.unicast_up_to and not without_session:
            return Method.UNICAST
        datagrams = sum(ceil(size / tuning.ENTRIES_PER_OBJECT) for size in entries)
        return Method.BROADCAST if datagrams <= policy.datagrams_max else Method.UNICAST
    # BLE alone: a GATT connection costs about a second, so broadcast wins from one member on
    frames = sum(ceil((_OBJECT_OCTETS + size * _ENTRY_OCTETS) / _FRAME_OCTETS) for size in entries)
    return Method.BROADCAST if frames * _EVENT_S * _FRAMES_PER_FRAME <= policy.ble_round_max_s else Method.UNICAST


def leisure_ms(policy: DeliveryPolicy, members: int) -> int:
    """Milliseconds over which a group of `members` spreads its confirmations (RFC 7252 section 8.2)."""
    return min(ceil(members * policy.leisure_ms_per_pne), 60_000)
