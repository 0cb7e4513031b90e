"""The check whether the gateway runs and answers."""

from collections.abc import Iterator

from keycast.doctor.finding import Finding, bad, good, warning
from keycast.doctor.surroundings import Surroundings


def look(here: Surroundings) -> Iterator[Finding]:
    """Yield whether a gateway runs with this configuration."""
    if here.config is None:
        return
    if here.status is not None:
        yield good(f"{here.status['gateway_id']} runs (process {here.pid}) and serves {here.status['pn_id']}")
    elif here.pid is not None:
        yield bad(
            f"The gateway runs (process {here.pid or 'unknown'}) and does not answer: {here.silence or 'it is busy'}.",
            "Look at its log, and restart it if that lasts.",
            "docs/troubleshooting.md",
        )
    else:
        yield warning(
            "No gateway runs with this configuration, so its uplink, alarms and boards are not known.",
            f"Start it: keycast gateway run -c {here.config_path}",
            "docs/operate.md",
        )
