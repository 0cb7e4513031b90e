"""`keycast board run`: a virtual board, with a port as a board on USB has one."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keycast.commands.board.newcomer import Newcomer
from keycast.terminal import completion, extras
from keycast.terminal.logs import LogOption, begin_log, ready
from keycast.terminal.options import DEFAULT_CONFIG, ConfigOption, refuse, remark, sentences, wants_json

if TYPE_CHECKING:
    import asyncio

    from keycast.virtual_board.serial_board import SerialBoard

PRESS_S = 1.0
_LOOPBACK = "lo"


def command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the virtual board, which stands for its port.")],
    erase: Annotated[bool, typer.Option("--erase", help="Begin with a blank flash.")] = False,
    join: Annotated[
        str | None,
        typer.Option(
            metavar="GROUP",
            help="Let the board in at the running gateway, under its name, and join a Service Group, which is made if "
            "there is none. Nothing else is needed.",
            autocompletion=completion.groups,
            show_default=False,
        ),
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    log: LogOption = None,
) -> None:
    """Run a virtual board until it is interrupted, which cuts its power: MicroPython with the heap of an ESP32.

    It is flashed, provisioned, watched and paired as a board on USB is, with its name as the port. Its flash is kept.
    It hears one access point and, if there is a configuration, the gateway of that on this computer.

    Examples: keycast board run porch, keycast board run porch --join home/lights
    """
    extras.require("board")
    import asyncio

    from keycast.micropython_vm.compile import CompileError
    from keycast.micropython_vm.vm import NoVm

    begin_log(log)
    with sentences(), contextlib.suppress(KeyboardInterrupt):
        try:
            asyncio.run(_run(name, erase, config, join))
        except (NoVm, CompileError) as problem:
            refuse(str(problem))


async def _run(name: str, erase: bool, config: Path, join: str | None) -> None:
    import asyncio

    from gateway_agent.config.load import load
    from keycast.services.supervisor import interrupted
    from keycast.virtual_board import named_board, ready_made
    from keycast.virtual_board.serial_board import firmware_image

    named_board.require_name(name)
    ports = {}
    if config.exists():
        loaded = load(config)
        ports = {"port": loaded.message_plane.port, "broadcast_port": loaded.broadcast.port}
        if _LOOPBACK not in loaded.broadcast.interfaces:
            remark(
                f"The gateway of {config} does not broadcast to virtual boards: "
                f'add "{_LOOPBACK}" to its interfaces, as `keycast setup --virtual-boards` does'
            )
    newcomer = None if join is None else Newcomer(name, join, config)
    app = None if join is None else ready_made.joining(join)
    async with named_board.plugged_in(name, erase=erase, app=app, **ports) as board:
        ended = asyncio.create_task(interrupted(board.failed))
        await asyncio.sleep(0)  # it is ready to be interrupted before it says so
        ready(
            {"name": name, "port": board.line.device, "firmware": str(firmware_image()), "is_blank": board.is_blank}
            | {"wifi": {"name": named_board.WIFI_NAME, "password": named_board.WIFI_PASSWORD}},
            f"{name} is plugged in: its port is {board.line.device}; Ctrl-C unplugs it",
        )
        if newcomer is not None:
            await _brought_in(newcomer, ended)
        elif board.is_blank:
            remark(f"Its flash is blank. In another terminal: keycast board flash --port {name}")
        else:
            remark("In another terminal: keycast board list")
        if newcomer is None:
            remark(f"Its Wi-Fi is '{named_board.WIFI_NAME}', with the password '{named_board.WIFI_PASSWORD}'")
        with _buttons(board):
            await ended


async def _brought_in(newcomer: Newcomer, ended: "asyncio.Task[None]") -> None:
    """Wait until a board is in, or until it is unplugged. Raises what hinders it."""
    import asyncio

    begun = asyncio.create_task(asyncio.to_thread(newcomer.begin))
    try:
        await asyncio.wait([begun, ended], return_when=asyncio.FIRST_COMPLETED)
    finally:
        newcomer.end()
    if begun.done():
        begun.result()


@contextlib.contextmanager
def _buttons(board: "SerialBoard") -> Iterator[None]:
    """Press the buttons of the board by lines that a person types, while the `with` block runs."""
    if wants_json() or not _is_listened_to():
        yield
        return
    import asyncio

    remark("Its buttons: type reset, boot (a reset with BOOT held down), or press (BOOT for a second)")
    loop = asyncio.get_running_loop()

    def typed() -> None:
        line = sys.stdin.readline() if _is_listened_to() else ""
        word = line.strip()
        if not line:  # Ctrl-D, or this command goes on in the background
            loop.remove_reader(sys.stdin)
        elif word in ("reset", "boot"):
            board.reset(into_loader=word == "boot")
        elif word == "press":
            board.press(down=True)
            loop.call_later(PRESS_S, lambda: board.press(down=False))
        elif word:
            remark("Type reset, boot or press; Ctrl-C unplugs the board")

    loop.add_reader(sys.stdin, typed)
    try:
        yield
    finally:
        loop.remove_reader(sys.stdin)


def _is_listened_to() -> bool:
    """Return True if the person types to this process. One in the background would be stopped if it read."""
    if not sys.stdin.isatty():
        return False
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except OSError:  # not the terminal that controls this process
        return True
