"""The check of the alarms of the running gateway."""

from collections.abc import Iterator

from keycast.doctor.finding import Finding, bad, good
from keycast.doctor.surroundings import Surroundings
from keycast.terminal.dates import begun

_PAGE = "docs/troubleshooting.md"


def look(here: Surroundings) -> Iterator[Finding]:
    """Yield each alarm that stands, each held group, and why broadcasts are stopped."""
    status = here.status
    if status is None:
        return
    if status["stopped"]:
        yield bad(f"Broadcasts are stopped: {status['stopped']}", "Do what the sentence says.", _PAGE)
    for alarm in status["alarms"]:
        yield bad(f"{begun(alarm['since'])}{alarm['text']}", "Do what the sentence says; then: keycast status", _PAGE)
    for sg_id in status["held"]:
        yield bad(
            f"{sg_id} is held: it gets no key.",
            f"Look at its members, then: keycast server confirm-members {sg_id}",
            _PAGE,
        )
    if not (status["stopped"] or status["alarms"] or status["held"]):
        yield good("no alarm stands")
