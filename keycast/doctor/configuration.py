"""The check of the configuration file."""

from collections.abc import Iterator

from gateway_agent.config.load import UNKNOWN_KEY_CODE
from keycast.doctor.finding import Finding, bad, good, warning
from keycast.doctor.surroundings import Surroundings


def look(here: Surroundings) -> Iterator[Finding]:
    """Yield one finding for each fault of the file, with its line."""
    if here.config is not None:
        for sentence in here.unknown_keys:
            yield warning(
                f"{UNKNOWN_KEY_CODE} {sentence}", "Correct the file, then: keycast gateway check", "docs/gateway.md"
            )
        if not here.unknown_keys:
            yield good(f"{here.config_path} is right")
        return
    if not here.config_path.exists():
        yield bad(f"There is no file {here.config_path}.", "Make one: keycast setup", "docs/operate.md")
        return
    for fault in here.config_error.splitlines():
        yield bad(fault, "Correct the file, then: keycast gateway check", "docs/gateway.md")
