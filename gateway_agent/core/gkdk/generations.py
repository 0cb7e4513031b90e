"""The rules by which a generation of the tree begins and ends, as pure functions.

Ages are seconds of running, which the store counts. A wall clock that jumps, forged or wrong, can therefore neither
begin one of the 65,535 generations nor end one. Time while the gateway is off does not count, as nothing is broadcast
then.
"""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway_agent.store.slot_table import Generation

DAY_S = 86_400
LIFE_S = 365 * DAY_S
"""A generation lasts at most a year, which limits what a stolen GKDK opens."""
OLD_LIFE_S = 30 * DAY_S
"""The generation before lives at most this much longer. PNEs that still have no newer GKDK are then reached by
unicast."""
SHORT_OF_SLOTS = 0.10
"""A new generation begins when a smaller share of the slots is FREE, or a larger share RETIRED."""
HEIGHT_MIN = 2
HEIGHT_MAX = 11
"""2,048 slots: the largest tree whose indexes have 2 octets; larger ones are not on the air yet."""
RESTORE_STEP = 256
"""A restored gateway skips this many generations, so that it does not reuse one that it has forgotten (SEC-02)."""
_SINCE_UNIT_S = 4
GENERATION_MAX = 0xFFFF
USED_UP = "all generations of the tree of this PN are used up: its gateway must be set up anew"


def replaced_s(generation: "Generation") -> float:
    """Return the seconds of running (SEC-36) since the next generation began; 0.0 for the current one."""
    return generation.lived_s - (generation.replaced_lived_s or 0.0) if generation.replaced else 0.0


def why_new(current: "Generation", active: int, retired: int) -> str | None:
    """Return why a new generation should begin now (SEC-07), or None."""
    if current.lived_s >= LIFE_S:  # SEC-36
        return "it is a year old"
    if retired > SHORT_OF_SLOTS * current.size:
        return f"{retired} of {current.size} slots are retired"
    free = current.size - active - retired
    gains = retired > 0 or height_for(active, current.height) > current.height
    if free < SHORT_OF_SLOTS * current.size and gains:
        return f"only {free} of {current.size} slots are free"
    return None


def restored(known: int, times: int = 1, since_s: int = 0) -> int:
    """Return the first generation of a restored gateway that knows generations up to `known` (SEC-02).

    `times`: how often this copy was put back, this time included; `since_s`: seconds since the copy was made, 0 if not
    known. Of two restores of one copy the later one must get the higher number, as boards refuse to go back. The number
    grows with the square root of the time: restores that follow each other soon differ, and a copy that is a year old
    uses less than 3,000 numbers.
    """
    return known + RESTORE_STEP * times + math.isqrt(max(0, since_s) // _SINCE_UNIT_S)


def has_ended(old: "Generation", missing: int) -> bool:
    """Return True if a generation is to be forgotten (SEC-07). `missing`: how many PNEs lack the current GKDK."""
    return old.replaced and (missing == 0 or replaced_s(old) >= OLD_LIFE_S)


def height_for(active: int, configured: int) -> int:
    """Return the height of a new tree: at least `configured`, with two slots for each of `active` PNEs if HEIGHT_MAX
    allows it."""
    height = configured
    while (1 << height) < 2 * active and height < HEIGHT_MAX:
        height += 1
    return height
