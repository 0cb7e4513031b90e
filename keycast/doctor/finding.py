"""What a check has found."""

from dataclasses import dataclass
from enum import StrEnum


class Grade(StrEnum):
    """How a finding is to be taken. The worst one decides the exit code of the command: 0, 1 or 2."""

    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"

    @property
    def exit_code(self) -> int:
        """The exit code of an examination whose worst finding has this grade."""
        return list(Grade).index(self)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examination.

    `text`: what was found, in one sentence; `next_step`: what a person can do about it, and `page`: the page of the
    documentation about it, both "" for what is good.
    """

    grade: Grade
    text: str
    next_step: str = ""
    page: str = ""


def good(text: str) -> Finding:
    """Return the finding that something is as it should be."""
    return Finding(Grade.GOOD, text)


def warning(text: str, next_step: str, page: str) -> Finding:
    """Return the finding that something works and will probably not for long, or works badly."""
    return Finding(Grade.WARNING, text, next_step, page)


def bad(text: str, next_step: str, page: str) -> Finding:
    """Return the finding that something does not work."""
    return Finding(Grade.BAD, text, next_step, page)
