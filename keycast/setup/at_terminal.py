"""Questions to a person at a terminal, by questionary, which takes long to load: only who asks loads this."""

from collections.abc import Callable, Sequence
from typing import Any

import questionary

from keycast.setup.asking import Choice, Problem
from keycast.terminal.options import console


class AtTerminal:
    """Implements `asking.Asking` for a person at a terminal."""

    def text(self, question: str, default: str, problem: Problem) -> str:
        """Ask below what was said before. What is wrong with a text stands at the foot of the terminal."""
        how: dict[str, Any] = {"default": default, "validate": lambda text: problem(text.strip()) or True}
        return str(questionary.text(question, **how).unsafe_ask()).strip()

    def one(self, question: str, choices: Sequence[Choice]) -> str:
        """Let the person choose by the arrow keys."""
        chosen = next((each for each in choices if each.chosen), choices[0])
        shown = [questionary.Choice(each.title, each.value) for each in choices]
        return str(questionary.select(question, shown, default=chosen.value).unsafe_ask())

    def several(self, question: str, choices: Sequence[Choice], problem: Callable[[list[str]], str]) -> list[str]:
        """Let the person mark by the space bar."""
        shown = [questionary.Choice(each.title, each.value, checked=each.chosen) for each in choices]
        how: dict[str, Any] = {"validate": lambda values: problem(values) or True}
        return list(questionary.checkbox(question, shown, **how).unsafe_ask())

    def secret(self, question: str, *, twice: bool = False) -> str:
        """Ask, and show an asterisk for each letter."""
        while True:
            text = str(questionary.password(question).unsafe_ask())
            if not twice or not text or questionary.password("Once more").unsafe_ask() == text:
                return text
            self.say("The two are not the same.")

    def sure(self, question: str, default: bool) -> bool:
        """Ask for y or n, and wait for Enter: it would be the answer to the next question otherwise."""
        return bool(questionary.confirm(question, default=default, auto_enter=False).unsafe_ask())

    def say(self, sentence: str) -> None:
        """Print the sentence."""
        console.print(sentence)
