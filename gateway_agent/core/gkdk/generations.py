"""When a generation of the tree begins and ends : pure rules.

Ages are seconds of running, counted in the store: a wall clock that jumps, forged or wrong, neither begins a
generation, of which there are 65,535, nor ends one. Nothing is broadcast under a generation while the gateway is off,
so that time does not count.
"""

import math

from gateway_agent.store.slot_table import Generation

DAY_S = 86_400
LIFE_S = 365 * DAY_S
"""A generation lasts at most a year: it bounds what a stolen GKDK opens."""
OLD_LIFE_S = 30 * DAY_S
"""The one before lives at most this much longer; then its stragglers are reached by unicast."""
SHORT_OF_SLOTS = 0.10
"""A new generation begins when fewer slots are FREE, or more RETIRED."""
HEIGHT_MIN = 2
HEIGHT_MAX = 11
"""2,048 slots: the largest tree whose indexes have 2 octets; larger ones are not on the air yet."""
RESTORE_STEP = 256
"""A restored gateway skips so many generations that it meets none it has forgotten (SEC-02)."""
_SINCE_UNIT_S = 4
GENERATION_MAX = 0xFFFF
USED_UP = "all generations of the tree of this PN are used up: its gateway must be set up anew"


def replaced_s(generation: Generation) -> float:
    """Seconds of running (SEC-36) since the next generation began; 0.0 for the current one."""
    return generation.lived_s - (generation.replaced_lived_s or 0.0) if generation.replaced else 0.0


def why_new(current: Generation, active: int, retired: int) -> str | None:
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
    """Return the generation of a restored gateway that knows those up to `known` (SEC-02).

    `times`: 1, or more for a copy that was put back before; `since_s`: seconds since it was made, 0 = not known. Of one
    copy the later restore has the higher number, as boards go back to none. It grows with the root of the time: what
    follows soon is told apart in minutes, and a copy that is a year old costs less than 3,000.
    """
    return known + RESTORE_STEP * times + math.isqrt(max(0, since_s) // _SINCE_UNIT_S)


def has_ended(old: Generation, missing: int) -> bool:
    """Return True if an old generation is to be forgotten (SEC-07). `missing` PNEs lack the GKDK of the current one."""
    return old.replaced and (missing == 0 or replaced_s(old) >= OLD_LIFE_S)


def height_for(active: int, configured: int) -> int:
    """Height of a new tree: at least `configured`, twice the slots of the PNEs there are, at most HEIGHT_MAX."""
    height = configured
    while (1 << height) < 2 * active and height < HEIGHT_MAX:
        height += 1
    return height
