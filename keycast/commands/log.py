"""`keycast log`: the newest lines of the log of a running gateway or CPNS Server, and its level for each area."""

import json
from typing import Annotated, Any

import typer
from rich.text import Text

from keycast.terminal.dates import dated, local
from keycast.terminal.json_option import Answering
from keycast.terminal.options import (
    DEFAULT_CONFIG,
    ConfigOption,
    StateOption,
    answer,
    ask,
    console,
    refuse,
    wants_json,
)

app = typer.Typer(cls=Answering, no_args_is_help=True)

_COLOURS = {"error": "red", "warning": "yellow", "debug": "dim"}
_LEVELS = ("debug", "info", "warning", "error")

LevelOption = Annotated[
    str,
    typer.Option("--level", metavar="LEVEL", help="Show lines of this level and above: debug, info, warning, error."),
]


@app.command()
def show(
    count: Annotated[int, typer.Option("--lines", "-n", min=1, max=2000, help="How many of the newest lines.")] = 100,
    level: LevelOption = "debug",
    config: ConfigOption = DEFAULT_CONFIG,
    state: StateOption = None,
) -> None:
    """Show the newest lines of the log. What runs keeps the last 2,000.

    Example: keycast log show --level warning
    """
    found = _of_level(ask(config, state, "log.recent"), level)[-count:]
    answer(found, *[_line(each) for each in found])


@app.command()
def follow(
    level: LevelOption = "debug",
    config: ConfigOption = DEFAULT_CONFIG,
    state: StateOption = None,
) -> None:
    """Show each line of the log as it is written, until Ctrl-C; with --json one object a line.

    Example: keycast log follow -c keycast.toml
    """
    newest = ask(config, state, "log.recent", count=1)
    number = newest[-1]["number"] if newest else 0
    while True:
        found = ask(config, state, "log.after", number=number)
        for each in _of_level(found, level):
            if wants_json():
                typer.echo(json.dumps(dated(each)))
            else:
                console.print(_line(each))
        number = found[-1]["number"] if found else number


@app.command("level")
def set_level(
    wanted: Annotated[
        list[str] | None,
        typer.Argument(metavar="[AREA=LEVEL]...", help="Such as message_plane=debug or all=warning; none: show them."),
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    state: StateOption = None,
) -> None:
    """Set from which level on each area is logged, until what runs is restarted. `default` undoes it.

    Examples: keycast log level message_plane=debug, keycast log level message_plane=default, keycast log level
    """
    levels: dict[str, str] = {}
    for each in wanted or []:
        area, is_set, level = each.partition("=")
        if not is_set:
            refuse(f"{each!r} says no level. Write: {each}=debug", "not-allowed")
        levels[area.strip()] = level.strip().lower()
    found = ask(config, state, "log.level", levels=levels)
    answer(found, *[f"{each['area']}: {each['level']}" for each in found])


def _of_level(lines: list[dict[str, Any]], level: str) -> list[dict[str, Any]]:
    if level not in _LEVELS:
        refuse(f"{level!r} is no level. Known: {', '.join(_LEVELS)}.", "not-allowed")
    return [each for each in lines if each["level"] in _LEVELS[_LEVELS.index(level) :]]


def _line(each: dict[str, Any]) -> Text:
    code = f"{each['code']} " if each["code"] else ""
    return Text.assemble(
        f"{local(each['at'])} ",
        (each["level"].upper(), _COLOURS.get(each["level"], "")),
        f" {each['area']}: {code}{each['text']}",
    )
