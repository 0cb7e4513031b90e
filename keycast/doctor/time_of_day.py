"""The check of the clock, by which alarms, logs and deliveries are dated."""

import time
from collections.abc import Iterator

from gateway_agent.clock import synchronised
from gateway_agent.machine_watch import NO_DATE_BEFORE
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
    elif not synchronised():
        yield warning(
            "Nobody keeps the clock of this machine in step (NTP). Keys are active when they arrive, and boards are "
            "told no time.",
            "Switch it on: timedatectl set-ntp true; then: timedatectl",
            _PAGE,
        )
    else:
        yield good(f"the clock is synchronised: {local(now)}")
