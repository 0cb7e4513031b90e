"""The check of the configuration file."""

from collections.abc import Iterator

from keycast.doctor.finding import Finding, bad, good
from keycast.doctor.surroundings import Surroundings


def look(here: Surroundings) -> Iterator[Finding]:
    """Yield one finding for each fault of the file, with its line."""
    if here.config is not None:
        yield good(f"{here.config_path} is right")
        return
    if not here.config_path.exists():
        yield bad(f"There is no file {here.config_path}.", "Make one: keycast setup", "docs/operate.md")
        return
    for fault in here.config_error.splitlines():
        yield bad(fault, "Correct the file, then: keycast gateway check", "docs/gateway.md")
