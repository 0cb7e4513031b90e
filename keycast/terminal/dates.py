"""Dates as they are shown. Parts hand each other seconds since 1970; nobody is asked to read those.

A key of a JSON object that means a date is one of a few, or ends in `_at`, everywhere.
"""

import datetime
from typing import Any

import typer

_KEYS = ("since", "until", "keys_end", "valid_to")
_SUFFIX = "_at"


def dated(value: Any) -> Any:
    """`value`, what JSON knows, with all its dates as ISO 8601 in UTC; None for one that was never known."""
    if isinstance(value, dict):
        return {key: _shown(key, of) for key, of in value.items()}
    if isinstance(value, list | tuple):
        return [dated(each) for each in value]
    return value


def iso(unix: float) -> str:
    """The moment `unix` (seconds since 1970) as "2026-07-01T18:30:00+00:00"."""
    return datetime.datetime.fromtimestamp(int(unix), datetime.UTC).isoformat()


def local(unix: float) -> str:
    """The moment `unix` for a person: "2026-07-01 20:30:00" by the clock of this machine, "-" if it was never known."""
    if not unix:
        return "-"
    return datetime.datetime.fromtimestamp(int(unix), datetime.UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def moment(text: str | int) -> int:
    """A moment that a person types, in seconds since 1970: ISO 8601, by the clock of this machine if without zone.

    Seconds are taken too. Raises typer.BadParameter.
    """
    try:
        if isinstance(text, int) or text.isdecimal():
            return int(datetime.datetime.fromtimestamp(int(text), datetime.UTC).timestamp())
        return int(datetime.datetime.fromisoformat(text).astimezone().timestamp())
    except (ValueError, OverflowError, OSError):
        raise typer.BadParameter(f"{text!r} is no date: write 2027-01-31T18:00, with +01:00 for a zone") from None


def ago(seconds: float | None) -> str:
    """How long ago for a person: "12 s ago", "5 min ago", "3 h ago", "9 days ago"; "never" for None."""
    if seconds is None:
        return "never"
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit} ago"
    return f"{int(seconds)} s ago"


def _shown(key: Any, of: Any) -> Any:
    is_date = isinstance(key, str) and (key in _KEYS or key.endswith(_SUFFIX))
    if is_date and isinstance(of, int | float) and not isinstance(of, bool):
        return iso(of) if of else None
    return dated(of)
