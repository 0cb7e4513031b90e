"""Remarks about names that look like others. Such names are allowed; the person who types one is told to look twice."""

from collections.abc import Iterable

from cpns.name_rule import doubts
from keycast.terminal.options import remark


def point_out(name: str, others: Iterable[str]) -> None:
    """Print a remark for each of `others` that `name` could be mistaken for, and for letters of it that look alike."""
    for doubt in doubts(name, sorted(others)):
        remark(f"Look twice: {doubt}")
