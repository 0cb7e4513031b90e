"""Text forms of dates. Inside of the program a date is a number of seconds since 1970; people and JSON get text.

A key of a JSON object that stands for a date is one of `_KEYS`, or ends in `_at`.
"""

import datetime
from typing import Any

import typer

_KEYS = ("at", "since", "until", "keys_end", "valid_to")
_SUFFIX = "_at"


def dated(value: Any) -> Any:
    """Return the JSON value `value` with all its dates as ISO 8601 in UTC; a date that was never known becomes None."""
    if isinstance(value, dict):
        return {key: _shown(key, of) for key, of in value.items()}
    if isinstance(value, list | tuple):
        return [dated(each) for each in value]
    return value


def iso(unix: float) -> str:
    """Return the moment `unix` (seconds since 1970) as text such as "2026-07-01T18:30:00+00:00"."""
    return datetime.datetime.fromtimestamp(int(unix), datetime.UTC).isoformat()


def local(unix: float) -> str:
    """Return the moment `unix` for a person, such as "2026-07-01 20:30:00" by this machine's clock; "-" for 0."""
    if not unix:
        return "-"
    return datetime.datetime.fromtimestamp(int(unix), datetime.UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def begun(unix: float) -> str:
    """Return "since 2026-07-01 20:30:00: ", which begins a sentence; "" for 0, a moment that is not known."""
    return f"since {local(unix)}: " if unix else ""


def moment(text: str | int) -> int:
    """Return the moment that a person typed, in seconds since 1970.

    The text is ISO 8601, in the zone of this machine if it names none, or a number of seconds since 1970. Raise
    typer.BadParameter for any other.
    """
    try:
        if isinstance(text, int) or text.isdecimal():
            return int(datetime.datetime.fromtimestamp(int(text), datetime.UTC).timestamp())
        return int(datetime.datetime.fromisoformat(text).astimezone().timestamp())
    except (ValueError, OverflowError, OSError):
        raise typer.BadParameter(f"{text!r} is no date: write 2027-01-31T18:00, with +01:00 for a zone") from None


def ago(seconds: float | None) -> str:
    """Return a time span for a person: "12 s ago", "5 min ago", "3 h ago", "9 days ago"; "never" for None."""
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
