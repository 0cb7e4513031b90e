"""The check of the clock, by which alarms, logs and deliveries are dated."""

import contextlib
import time
from collections.abc import Iterator

from gateway_agent.clock import synchronised
from gateway_agent.core.alarms import CLOCK
from gateway_agent.machine_watch import NO_DATE_BEFORE, is_yet_to_come
from keycast.doctor.finding import Finding, bad, good, warning
from keycast.doctor.surroundings import Surroundings
from keycast.terminal.dates import local

_PAGE = "docs/gateway.md"


def look(here: Surroundings) -> Iterator[Finding]:
    """Yield whether the clock has the date and is synchronised."""
    now = time.time()
    if now < NO_DATE_BEFORE:
        yield bad(
            f"The clock of this machine has lost the date: it says {local(now)}.",
            "Connect it to the internet, or set it: timedatectl set-time",
            _PAGE,
        )
    elif not synchronised() and is_yet_to_come(newest := _newest(here), now):
        yield bad(
            f"The clock of this machine was set back: it says {local(now)}, and the gateway was at work on "
            f"{local(newest)}.",
            "Connect it to the internet, or set it: timedatectl set-time",
            _PAGE,
        )
    elif not synchronised():
        lasts = here.has_alarm(CLOCK)  # after a start it takes some minutes
        yield (bad if lasts else warning)(
            "Nobody keeps the clock of this machine in step (NTP). Keys are active when they arrive, and boards are "
            "told no time.",
            "Switch it on: timedatectl set-ntp true; then: timedatectl",
            _PAGE,
        )
    else:
        yield good(f"the clock is synchronised: {local(now)}")


def _newest(here: Surroundings) -> float:
    """Return when something was written last in the state folder, by the clock of that time; 0.0 if that is unknown."""
    newest = 0.0
    if here.state is not None:
        with contextlib.suppress(OSError):
            for each in here.state.rglob("*"):
                newest = max(newest, each.lstat().st_mtime)
    return newest
