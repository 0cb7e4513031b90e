"""`keycast board monitor`: the serial line of a board."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer
from rich.text import Text

from keycast.board.serial_port import opened
from keycast.commands.board.port_option import PortOption
from keycast.terminal import extras
from keycast.terminal.options import console, remark, sentences, wants_json

if TYPE_CHECKING:
    from keycast.board.monitor import Seen


def command(
    port: PortOption = None,
    save: Annotated[
        Path | None,
        typer.Option(
            readable=False, help="New file for the lines too, with pairing secrets covered.", show_default=False
        ),
    ] = None,
    seconds: Annotated[float | None, typer.Option(min=0, help="End after so many seconds; default: Ctrl-C.")] = None,
) -> None:
    """Show what a board writes on its serial line, with the time, and what resets and known errors mean.

    The port may go away and come back, as that of a chip's own USB does at each reset. With --json each line is one
    object. Nothing is sent to the board.

    Example: keycast board monitor --save porch.log
    """
    extras.require("board")
    from keycast.board.monitor import POLL_S, watch
    from keycast.board.ports import chosen, device_now, locked
    from keycast.hardware.catalogue import all_boards

    with sentences():
        board = chosen(port, all_boards())
        with locked(board, "keycast board monitor"), _file(save) as file:
            remark(f"Lines of {board.name}; Ctrl-C ends this.")
            end = None if seconds is None else time.monotonic() + seconds
            with suppress(KeyboardInterrupt):
                for seen in watch(lambda: device_now(board), lambda device: opened(device, POLL_S)):
                    if seen is not None:
                        _tell(seen, file)
                    if end is not None and time.monotonic() >= end:
                        return


@contextmanager
def _file(path: Path | None) -> Iterator[TextIO | None]:
    """Open the new file, which only this user can read, for the `with` block; None without a path. Raises OSError."""
    if path is None:
        yield None
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8", buffering=1) as file:
        yield file


def _tell(seen: "Seen", file: TextIO | None) -> None:
    """Print what was seen, and write it to the file."""
    from keycast.board.monitor import without_secrets

    now = datetime.now().astimezone()
    text, meaning = _words(seen)
    if wants_json():
        typer.echo(json.dumps({"time": now.isoformat(timespec="milliseconds"), "line": text, "remark": meaning}))
    else:
        time_shown = f"{now:%H:%M:%S}.{now.microsecond // 1000:03d}"
        console.print(Text.assemble((time_shown, "dim"), " ", text or "", (meaning and f"  <- {meaning}", "yellow")))
    if file:
        remark_shown = f"  <- {meaning}" if meaning else ""
        file.write(f"{now.isoformat(timespec='milliseconds')} {without_secrets(text or '')}{remark_shown}\n")


def _words(seen: "Seen") -> tuple[str | None, str]:
    """Return the text of the line, or None if it is news of the port, and the remark."""
    from keycast.board.monitor import Away, Here
    from keycast.micropython_vm.traces import readable

    if isinstance(seen, Here):
        return None, f"{seen.device} is open"
    if isinstance(seen, Away):
        return None, f"the port is away{f' ({seen.why})' if seen.why else ''}; waiting for it"
    return readable(seen.text), seen.remark
