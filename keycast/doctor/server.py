"""The check of the way to the CPNS Server, from which the Group Keys come."""

from collections.abc import Iterator

from gateway_agent.core.alarms import SERVER
from keycast.doctor.finding import Finding, bad, good, warning
from keycast.doctor.surroundings import Surroundings
from keycast.terminal.dates import ago

SILENT_S = 1800.0
"""The Server is asked every quarter of an hour, so two questions were not answered after this time."""
_PAGE = "docs/gateway.md"


def look(here: Surroundings) -> Iterator[Finding]:
    """Yield where the CPNS Server is, when it answered last, and why it does not."""
    if here.config is None:
        return
    uplink = here.config.uplink
    if uplink.kind == "embedded":
        yield good("the CPNS Server is in this gateway")
        return
    if here.status is None:
        yield good(
            f"the CPNS Server {uplink.server_id} is elsewhere (uplink {uplink.kind}); keycast gateway check tries it"
        )
        return
    problem, age = here.status["server_problem"], here.status["server_age_s"]
    if problem:
        yield bad(f"The CPNS Server {uplink.server_id}: {problem}.", "Try each step: keycast gateway check", _PAGE)
    elif age is None or age > SILENT_S:
        yield (bad if here.has_alarm(SERVER) else warning)(
            f"The CPNS Server {uplink.server_id} answered {ago(age)}.", "Try each step: keycast gateway check", _PAGE
        )
    else:
        yield good(f"the CPNS Server {uplink.server_id} answered {ago(age)}")
    if here.status["is_withholding"]:
        yield bad(
            "No key is given out until the CPNS Server answers (stale_after_s).",
            "See the uplink and the Server.",
            _PAGE,
        )
