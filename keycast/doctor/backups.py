"""The check of the backups: how long ago the last one was made."""

import time
from collections.abc import Iterator

from gateway_agent.machine_watch import is_yet_to_come
from keycast.doctor.finding import Finding, good, warning
from keycast.doctor.surroundings import Surroundings
from keycast.terminal.dates import ago, local
from private_store import last_backup

OLD_S = 8 * 86_400.0
"""A timer makes one a day, and some are made by hand once a week."""
_PAGE = "docs/operate.md"
_HOW = "Make one: keycast gateway backup FILE --with-identity"


def look(here: Surroundings) -> Iterator[Finding]:
    """Yield the age of the last backup of this gateway. One that was made elsewhere, by a copy, is not known."""
    if here.state is None or not here.state.exists():
        return
    made_at = last_backup.made_at(here.state)
    if not made_at and here.status is not None and not here.status["devices"]:
        yield good("there is no backup, and no board that a loss of the disk would cost")
        return
    if not made_at:
        yield warning("There is no backup: after a loss of the disk each board must be paired again.", _HOW, _PAGE)
        return
    now = time.time()
    age_s = now - made_at
    if is_yet_to_come(made_at, now):
        yield warning(f"The last backup is dated {local(made_at)}, which is yet to come.", _HOW, _PAGE)
    elif age_s > OLD_S:
        yield warning(f"The last backup was made {ago(age_s)}.", _HOW, _PAGE)
    else:
        yield good(f"the last backup was made {ago(max(age_s, 0.0))}")
