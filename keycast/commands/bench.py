"""`keycast bench`: checks of a real board, with a person at the desk."""

import json
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from keycast.commands.board.port_option import PortOption
from keycast.terminal import extras
from keycast.terminal.options import answer, console, refuse, remark, sentences, wants_json
from keycast.terminal.tables import show_table

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _bench() -> None:
    """Check a real board, with a person at the desk."""


@app.command()
def hil(
    board: Annotated[str, typer.Option(help="Which board it is: a file of hw_configs/boards, without .toml.")],
    port: PortOption = None,
    image: Annotated[
        Path | None, typer.Option(readable=False, help="Firmware image, for the check that writes it.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Name of a check to do; may be repeated.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="Only show the checks that fit the board.")] = False,
    save: Annotated[
        Path | None, typer.Option(readable=False, help="New file for the results, in JSON.", show_default=False)
    ] = None,
) -> None:
    """Go through the checks that only hardware can pass (hardware in the loop); docs/bench-checklist.md explains each.

    The exit code is 1 if a check failed. A check that was skipped proves nothing.

    Example: keycast bench hil --board esp32-devkitc --only window
    """
    from keycast.hardware.catalogue import all_boards
    from keycast.hardware_bench.checks import checks_for, parts_of

    boards = all_boards()
    if board not in boards:
        refuse(f"there is no board {board} in hw_configs. Name one of {', '.join(boards)}.", "unknown")
    checks = checks_for(parts_of(boards[board], image is not None))
    if strange := set(only or ()) - {check.name for check in checks}:
        refuse(f"{', '.join(sorted(strange))}: no check of this board. Look at them: --list", "unknown")
    checks = tuple(check for check in checks if not only or check.name in only)
    if listed:
        rows = [(check.name, f"{check.minutes} min", check.title) for check in checks]
        answer([check.name for check in checks], lambda: show_table(console, ("check", "takes", "shows"), rows))
        return
    if wants_json():
        refuse("a person answers the questions: leave --json out, and use --save", "usage")

    extras.require("board")
    from keycast.board.ports import chosen, require_free
    from keycast.hardware_bench.walk import walk

    with sentences():
        there = chosen(port, boards)
        require_free(there)
        if save is not None:
            save.touch(mode=0o600, exist_ok=False)
        names = {"PORT": there.device, "BOARD": board, "IMAGE": str(image)}
        results = []
        for result in walk(checks, names, _AtTheDesk(names), lambda seconds: _lines(there, seconds)):
            results.append(result.as_json())
            remark(f"{result.result}{': ' + result.why if result.why else ''}")
            if save is not None:
                save.write_text(json.dumps({"board": board, "results": results}, indent=1))
    counts = {word: sum(each["result"] == word for each in results) for word in ("passed", "failed", "skipped")}
    answer(results, ", ".join(f"{count} {word}" for word, count in counts.items()))
    if counts["failed"]:
        raise typer.Exit(1)


class _AtTheDesk:
    """The person in front of this terminal (`keycast.hardware_bench.walk.Person`)."""

    def __init__(self, names: dict[str, str]) -> None:
        self._names = names

    def ready(self, check: Any) -> bool:
        console.print(f"\n{check.title} ({check.name}, {check.minutes} min)", style="bold")
        console.print(check.do)
        if check.command:
            console.print(f"This runs: {shlex.join(self._names.get(word, word) for word in check.command)}")
        for expected in check.expect:
            console.print(f"Expected: a line with {expected}")
        typed: str = typer.prompt("Enter to begin, s to skip", default="", show_default=False)
        return typed.strip().lower() != "s"

    def confirms(self, question: str) -> bool:
        return typer.confirm(question)

    def reads(self, unit: str) -> str:
        return str(typer.prompt(f"Measured ({unit}), Enter for none", default="", show_default=False)).strip()


def _lines(board: Any, seconds: float) -> Iterator[str]:
    """Yield the lines that the board writes within `seconds`, with pairing secrets covered."""
    from keycast.board.monitor import POLL_S, watch, without_secrets
    from keycast.board.ports import device_now, locked
    from keycast.board.serial_lines import Line
    from keycast.board.serial_port import opened

    end = time.monotonic() + seconds
    with locked(board, "keycast bench hil"):
        for seen in watch(lambda: device_now(board), lambda device: opened(device, POLL_S)):
            if isinstance(seen, Line):
                yield without_secrets(seen.text)
            if time.monotonic() >= end:
                return
