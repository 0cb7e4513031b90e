"""Adds `--json` to every command of a group, so that no command is forgotten. `options.answer` prints accordingly."""

from functools import cache
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from keycast.terminal.options import JsonOption, want_json


class Answering(TyperGroup):
    """A group of commands (`typer.Typer(cls=Answering)`) in which every command, at every depth, accepts `--json`."""

    def __init__(self, **how: Any) -> None:
        super().__init__(**how)
        _give_json(self)


def _give_json(command: Any) -> None:
    if isinstance(command, TyperGroup):
        for each in command.commands.values():
            _give_json(each)
        return
    present = next((parameter for parameter in command.params if "--json" in parameter.opts), None)
    if present is None:
        command.params.append(_option())
    elif present.callback is None:  # a command that shows its JSON itself
        present.callback = lambda context, _, wanted: want_json(context, wanted)


@cache
def _option() -> Any:
    """Return the option, which all commands share: it keeps nothing of a command that is run."""

    def one(as_json: JsonOption = False) -> None:
        """Do nothing: typer makes the option from the parameter of this function."""

    alone = typer.Typer(add_completion=False)
    alone.command()(one)
    command = typer.main.get_command(alone)
    assert isinstance(command, TyperCommand)
    option = command.params[0]
    option.expose_value = False
    return option
