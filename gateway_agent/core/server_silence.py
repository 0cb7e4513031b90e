"""Notices that the CPNS Server does not answer version lists, and withholds keys then if the policy says so (SEC-28).

Whoever can hold back messages of the Server can hold back the removal of a member. This PN GW then goes on to give that
member the key that it has, and nothing else in the PN shows it.
"""

from collections.abc import Callable

from cpns.errors import Stale
from gateway_agent.core import events
from gateway_agent.core.alarms import SERVER, Alarms
from gateway_agent.core.events import Tell
from gateway_agent.core.ports import Clock

ALARM_AFTER_S = 1800.0
"""Twice the time between two version lists."""


class ServerSilence:
    """Knows when the Server has last answered a version list, or when this PN GW was started if it has not so far."""

    def __init__(
        self,
        *,
        is_elsewhere: bool,
        stale_after_s: float,
        alarms: Alarms,
        clock: Clock,
        withhold: Callable[[], None],
        resume: Callable[[], None],
        tell: Tell,
    ) -> None:
        """`is_elsewhere`: False for a Server in this process, with which nothing can come between.

        `stale_after_s`: seconds of silence after which no key is given out, 0 for never. `withhold` stops the
        deliveries then, and `resume` continues them.
        """
        self._is_elsewhere = is_elsewhere
        self._stale_after_s = stale_after_s
        self._alarms = alarms
        self._clock = clock
        self._withhold = withhold
        self._resume = resume
        self._tell = tell
        self._answered_at = clock.monotonic()
        self._heard = False
        self._up: bool | None = None  # None: neither an answer nor a failure since the start
        self._why = ""
        self._stale = False

    @property
    def is_stale(self) -> bool:
        """True while this PN GW gives out no key, because what it knows of the members may be out of date."""
        return self._stale

    @property
    def age_s(self) -> float | None:
        """Seconds since the last answer, None for none since the start."""
        return self._clock.monotonic() - self._answered_at if self._heard else None

    @property
    def is_up(self) -> bool:
        """True if the Server is in this process, or has answered the last version list."""
        return not self._is_elsewhere or self._up is True

    @property
    def why(self) -> str:
        """Why the Server does not answer now, "" if nothing is known to be wrong."""
        return self._why

    def refuse_if_stale(self) -> None:
        """Raise Stale while this PN GW gives out no key."""
        if self._stale:
            raise Stale("the CPNS Server was not heard for too long; no key is given out until it is")

    def answered(self) -> None:
        """Note that the Server has answered a version list: the alarm ends, and keys are given out again."""
        self._answered_at, self._heard, self._why = self._clock.monotonic(), True, ""
        self._alarms.clear(SERVER)
        if self._is_elsewhere and not self._up:
            self._up = True
            self._tell(events.UplinkUp())
        if self._stale:
            self._stale = False
            self._tell(events.KeysResumed())
            self._resume()

    def failed(self, why: str) -> None:
        """Note why the Server has not answered, for people."""
        self._why = why
        if self._is_elsewhere and self._up is not False:
            self._up = False
            self._tell(events.UplinkDown(why))

    def check(self) -> None:
        """Raise the alarm, and withhold keys, if the Server has been silent for so long."""
        silent_s = self._clock.monotonic() - self._answered_at
        if not self._is_elsewhere or silent_s < ALARM_AFTER_S:
            return
        if self._stale_after_s and silent_s >= self._stale_after_s and not self._stale:
            self._stale = True
            self._withhold()
            self._tell(events.KeysWithheld(silent_s))
        so_now = (
            "no key is given out until it answers" if self._stale else "a board that was removed may still get keys"
        )
        why = f" ({self._why})" if self._why else ""
        self._alarms.set(
            SERVER,
            f"The CPNS Server has not answered this gateway for {int(silent_s // 60)} minutes{why}: {so_now}. "
            "See whether it runs, and whether a line, a firewall or a broker (keycast gateway check) is in the way.",
        )
