"""The facts that a backup states about itself, and the check that it is the right one.

This module needs no extra of keycast, so that a backup can be made and checked where one is missing.
"""

import datetime
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from gateway_agent.machine_watch import NO_DATE_BEFORE
from keycast.terminal.dates import iso
from private_store.errors import Fault

SINCE_MAX_S = 10 * 365 * 86_400
"""Limit of `since`: versions and revisions grow by it, and a clock that is decades ahead must not use too many up."""


def made() -> dict[str, str]:
    """Return the date and the version of keycast at which a backup is made."""
    return {"made": iso(time.time()), "keycast": version("keycast")}


def since(about: Mapping[str, str]) -> int:
    """Return the seconds since a backup was made, 0 if the date is lost: they tell two restores of one backup apart."""
    try:
        moment = datetime.datetime.fromisoformat(about.get("made", "")).timestamp()
    except (ValueError, OverflowError, OSError):
        return 0
    return min(max(0, int(time.time() - moment)), SINCE_MAX_S) if moment >= NO_DATE_BEFORE else 0


def require(path: Path, about: Mapping[str, str], wanted: Mapping[str, str], fault: Fault) -> None:
    """Raise `fault` unless the backup `path` states the `wanted` facts: `of`, its kind, and perhaps `id` and `pn`."""
    for key, value in wanted.items():
        if about.get(key) != value:
            found = " ".join(filter(None, (about.get("of"), about.get("id"))))
            raise fault(
                f"{path} is a backup of the {found}"
                + (f" of the PN {about['pn']}" if "pn" in about else "")
                + f", and not of {' '.join(wanted.values())}.",
                "Take the right one, or correct the configuration.",
            )


def require_members(
    path: Path, members: Mapping[str, bytes], wanted: set[str], known: tuple[str, ...], fault: Fault
) -> None:
    """Raise `fault` unless the backup has all `wanted` members, and no member that is not among the `known` ones."""
    if not members.keys() <= set(known):
        raise fault(f"{path} was written by a newer keycast.", "Install that version.")
    missing = wanted - members.keys()
    if missing:
        raise fault(
            f"{path} has no {', '.join(sorted(missing))}.", "Take the right backup, or check the configuration."
        )
