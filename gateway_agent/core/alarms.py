"""What a person should look at, each thing once, for as long as it is so. `keycast status` shows them (exit code 2)."""

import logging
from dataclasses import dataclass

from gateway_agent.core.ports import Clock

_log = logging.getLogger(__name__)

OLD_COPY = "old-copy"  # PNEs hold what this PN GW never gave
STORE = "store"  # nothing can be written down
NETWORK = "network"  # no broadcast can leave
RADIO = "radio"  # no broadcast can leave by one of several media, or whatever leaves is refused
CLOCK = "clock"  # nobody keeps the clock in step
UNHEARD = "unheard"  # broadcasts that nobody confirms


@dataclass(frozen=True, slots=True)
class Alarm:
    """`sg_id` or `gateway_id` is "" where it is not about one; `since` in Unix seconds, 0 without synchronised clock;
    `text` says what it is and what to do. The CPNS Server's alarms have the same parts, and `count`."""

    kind: str
    gateway_id: str
    sg_id: str
    since: int
    text: str


class Alarms:
    """Alarms that stand until their cause ends; a restart forgets them, and their causes bring them back."""

    def __init__(self, gateway_id: str, clock: Clock) -> None:
        self._gateway_id = gateway_id
        self._clock = clock
        self._standing: dict[tuple[str, str], Alarm] = {}

    def set(self, kind: str, text: str, about: str = "") -> None:
        """Raise an alarm of a kind, `about` one network where several can have it. One that stands keeps its time, has
        the new text and is not logged again."""
        before = self._standing.get((kind, about))
        since = self._clock.unix() if before is None else before.since
        self._standing[kind, about] = Alarm(kind, self._gateway_id, "", since, text)
        if before is None:
            _log.warning("alarm begins: %s", text)

    def clear(self, kind: str, about: str = "") -> None:
        """End an alarm; none there is fine."""
        ended = self._standing.pop((kind, about), None)
        if ended is not None:
            _log.info("alarm ends: %s", ended.text)

    def standing(self) -> tuple[Alarm, ...]:
        """Return all alarms, oldest first."""
        return tuple(self._standing.values())
