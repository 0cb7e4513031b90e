"""The check of the boards: which were not heard for long."""

from collections.abc import Iterator

from keycast.doctor.finding import Finding, good, warning
from keycast.doctor.surroundings import Surroundings
from keycast.terminal.dates import ago

SILENT_S = 2 * 86_400.0
"""Each board asks for its keys once a day at least."""
_NAMED_MAX = 20


def look(here: Surroundings) -> Iterator[Finding]:
    """Yield how many boards are let in, and those that were silent for two days or never heard."""
    if here.status is None:
        return
    boards = here.status["devices"]
    silent = [each for each in boards if each["age_s"] is not None and each["age_s"] > SILENT_S]
    for each in silent[:_NAMED_MAX]:
        yield warning(
            f"{each['pne_id']} was heard {ago(each['age_s'])}.",
            f"Look at its power and Wi-Fi. If it is gone for good: keycast board retire {each['pne_id']}",
            "docs/boards.md",
        )
    if len(silent) > _NAMED_MAX:
        yield warning(
            f"{len(silent) - _NAMED_MAX} more boards were not heard for two days.",
            "See: keycast status",
            "docs/boards.md",
        )
    never = [each["pne_id"] for each in boards if each["age_s"] is None]
    if never:
        more = f" and {len(never) - _NAMED_MAX} more" if len(never) > _NAMED_MAX else ""
        yield warning(
            f"Let in and never heard: {', '.join(never[:_NAMED_MAX])}{more}.",
            "Switch it on where the Wi-Fi is that it was given. One that runs in no group is heard within an hour.",
            "docs/boards.md",
        )
    if not silent and not never:
        yield good(f"let in: {len(boards)}; each was heard within two days" if boards else "no board is let in")
