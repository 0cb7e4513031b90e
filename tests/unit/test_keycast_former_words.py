"""Words of the former release are understood, and the new word is printed beside the answer."""

import pytest
import typer
from typer.testing import CliRunner

from keycast.commands import server
from keycast.commands.board import list_boards, retire
from keycast.program import program

RENAMED = [
    ("device list", "board list", "`keycast device` is `keycast board` now"),
    ("device retire lamp", "board retire lamp", "`keycast device` is `keycast board` now"),
    ("server admit-pne lamp home", "server admit-board lamp home", "`keycast server admit-board` now"),
    ("server move-pne lamp home", "server move-board lamp home", "`keycast server move-board` now"),
]


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The commands that a running gateway was asked for."""
    questions: list[object] = []

    def ask(config: object, state: object, do: str, /, **arguments: object) -> list[object]:
        questions.append((do, arguments))
        return []

    for module in (retire, server):
        monkeypatch.setattr(module, "ask", ask)
    monkeypatch.setattr(list_boards, "asked", ask)
    monkeypatch.setattr(list_boards, "_here", lambda _: [])
    return questions


@pytest.mark.parametrize(("former", "new", "sentence"), RENAMED)
def test_a_former_word_does_what_the_new_one_does(former: str, new: str, sentence: str, asked: list[object]) -> None:
    runs = [CliRunner().invoke(program(line.split()), line.split()) for line in (former, new)]
    assert [run.exit_code for run in runs] == [0, 0]
    assert asked[0] == asked[1] and runs[0].stdout == runs[1].stdout
    assert sentence in runs[0].stderr and runs[1].stderr == ""


@pytest.mark.parametrize(("former", "new", "sentence"), RENAMED)
def test_a_program_is_told_nothing_beside_the_answer(former: str, new: str, sentence: str) -> None:
    words = [*former.split(), "--json"]
    run = CliRunner().invoke(program(words), words)
    assert run.exit_code == 0 and run.stderr == ""


@pytest.mark.parametrize("word", ["", "server"])
def test_help_shows_the_new_words_only(word: str) -> None:
    command = typer.main.get_command(program([word]))
    for each in word.split():
        command = command.commands[each]  # type: ignore[attr-defined]
    shown = {name for name, each in command.commands.items() if not each.hidden}  # type: ignore[attr-defined]
    assert not shown & {"device", "admit-pne", "move-pne"} and shown & {"board", "admit-board"}
