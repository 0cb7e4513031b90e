"""Pointing out names that a person may take for others, where he types one: they are allowed, and look twice."""

from collections.abc import Iterable

from cpns.name_rule import doubts
from keycast.terminal.options import remark


def point_out(name: str, others: Iterable[str]) -> None:
    """Say, beside the answer of a command, what `name` could be mistaken for among `others`, or in itself."""
    for doubt in doubts(name, sorted(others)):
        remark(f"Look twice: {doubt}")
