"""The check of the MQTT brokers on the way to the CPNS Server."""

from collections.abc import Iterator

from keycast.doctor.finding import Finding, bad, good, warning
from keycast.doctor.surroundings import Surroundings

_PAGE = "docs/operators.md"


def look(here: Surroundings) -> Iterator[Finding]:
    """Yield each broker that the running gateway uses, and what is wrong with it."""
    found = [] if here.status is None else here.status["brokers"]
    connected = [each for each in found if each["connected"]]
    for each in found:
        problem = each["problem"]
        if each["connected"] and not problem:
            yield good(f"{each['url']} is connected")
        elif connected and problem:  # any one is enough
            yield warning(f"{each['url']}: {problem}", "See: keycast gateway check", _PAGE)
        elif connected:
            yield good(f"{each['url']} is not needed now")
        else:
            yield bad(f"{each['url']}: {problem or 'not connected'}", "See: keycast gateway check", _PAGE)
