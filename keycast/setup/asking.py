"""How a question is put to a person: at a terminal (`at_terminal.py`), or to nobody, when each has its default.

Both have the methods of `Asking`. A default that is no answer is refused where nobody is there to give another one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from cpns.errors import NotAllowed
from keycast.terminal.options import beside

Problem = Callable[[str], str]
"""Returns what is wrong with a text that was typed, in a sentence, and "" for nothing."""


@dataclass(frozen=True)
class Choice:
    """One of the answers to a question: `value` in the file, `title` for a person; `chosen`: it is the default."""

    value: str
    title: str
    chosen: bool = False


class Asking(Protocol):
    """The ways to ask. Each returns the answer, and raises KeyboardInterrupt if the person wants to end."""

    def text(self, question: str, default: str, problem: Problem) -> str:
        """Ask for a text without blanks around it, until `problem` is content with it."""
        ...

    def one(self, question: str, choices: Sequence[Choice]) -> str:
        """Ask for one of `choices`; return its value."""
        ...

    def several(self, question: str, choices: Sequence[Choice], problem: Callable[[list[str]], str]) -> list[str]:
        """Ask for any of `choices`, until `problem` is content with their values."""
        ...

    def secret(self, question: str, *, twice: bool = False) -> str:
        """Ask for a text that is not shown, "" for none; a new password is typed `twice`."""
        ...

    def sure(self, question: str, default: bool) -> bool:
        """Ask for yes or no."""
        ...

    def say(self, sentence: str) -> None:
        """Tell the person something."""
        ...


class NobodyThere:
    """Implements `Asking` without a person: each question has its default. `said` has the sentences."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def text(self, question: str, default: str, problem: Problem) -> str:
        """Return `default`. Raise NotAllowed with what is wrong with it."""
        if wrong := problem(default):
            raise NotAllowed(wrong)
        return default

    def one(self, question: str, choices: Sequence[Choice]) -> str:
        """Return the value of the choice that is the default."""
        return next((each for each in choices if each.chosen), choices[0]).value

    def several(self, question: str, choices: Sequence[Choice], problem: Callable[[list[str]], str]) -> list[str]:
        """Return the values of the choices that are marked; what was found may be absent for the moment only."""
        return [each.value for each in choices if each.chosen]

    def secret(self, question: str, *, twice: bool = False) -> str:
        """Return "", as a secret has no default."""
        return ""

    def sure(self, question: str, default: bool) -> bool:
        """Return `default`."""
        return default

    def say(self, sentence: str) -> None:
        """Print the sentence on standard error, and keep it for the answer."""
        self.said.append(sentence)
        beside(sentence)
