"""`keycast board flash`: firmware and the agent's files onto boards on this computer."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keycast.commands.board.label_option import LabelOption, is_file, require_kind, show
from keycast.commands.board.port_option import PortOption
from keycast.commands.board.wifi_option import PasswordFileOption, WifiOption, wifi_of
from keycast.terminal import completion, extras
from keycast.terminal.options import answer, complain, refusal, refuse, remark, sentences, wants_json
from keycast.terminal.work_lines import WorkLine, work_lines

if TYPE_CHECKING:
    from gateway_agent.errors import GatewayError
    from keycast.board.flashing import Flashed, FlashOrder
    from keycast.board.image import FirmwareImage
    from keycast.board.ports import Port
    from keycast.hardware.board import Board


def command(
    images: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[IMAGE]...",
            readable=False,
            show_default=False,
            help="Firmware (.bin) from micropython.org/download, or one that you built; one for each kind of chip. "
            "Virtual boards have their own.",
        ),
    ] = None,
    port: PortOption = None,
    every: Annotated[bool, typer.Option("--all", help="Flash all boards on this computer, at once.")] = False,
    board: Annotated[
        str | None,
        typer.Option(
            help="Which board it is, a name of docs/boards.md; default: found out by its chip and its USB socket.",
            autocompletion=completion.hardware,
            show_default=False,
        ),
    ] = None,
    revision: Annotated[
        str,
        typer.Option(help="Revision that is printed on the board, if its light depends on that.", show_default=False),
    ] = "",
    files_only: Annotated[
        bool, typer.Option("--files-only", help="Leave the MicroPython that is on the board; copy the files only.")
    ] = False,
    app: Annotated[
        Path | None,
        typer.Option(readable=False, help="Your application, which becomes app.py on the board.", show_default=False),
    ] = None,
    val_client: Annotated[bool, typer.Option("--val-client", help="Copy the files of a VAL client.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Trust an image that no list of keycast knows.")] = False,
    sha256: Annotated[
        str | None, typer.Option(metavar="HEX", help="Digest of the image by its maker.", show_default=False)
    ] = None,
    erase: Annotated[
        bool, typer.Option("--erase", help="Erase all of the flash first, with the board's identity and files.")
    ] = False,
    wifi: WifiOption = None,
    password_file: PasswordFileOption = None,
    ble: Annotated[
        int | None,
        typer.Option(
            metavar="COMPANY_ID",
            min=0,
            max=0xFFFF,
            help="Let the board use Bluetooth LE, with the company_id of the gateway's [ble], also to be paired.",
            show_default=False,
        ),
    ] = None,
    label: LabelOption = None,
    baud: Annotated[int | None, typer.Option(min=9600, help="Speed of writing.", show_default=False)] = None,
) -> None:
    """Put MicroPython and the agent's files onto boards. The identity of a board and your own files on it stay.

    The image is checked before anything is written. A board that has MicroPython 1.25 or newer needs none. With a Wi-Fi
    or Bluetooth a board can be paired without a cable afterwards: keycast board pair.

    Example: keycast board flash ESP32_GENERIC-20250415-v1.25.0.bin --yes
    """
    extras.require("board")
    from keycast.board.flashing import FlashOrder
    from keycast.board.rom_loader import BAUD
    from keycast.hardware.catalogue import VIRTUAL, all_boards, virtual_board
    from keycast.micropython_vm import compile

    if images and files_only:
        raise typer.BadParameter("name an image or take --files-only, not both")
    if every and port:
        raise typer.BadParameter("--port names one board, --all takes all that are there")
    boards = {**all_boards(), VIRTUAL: virtual_board()}
    if board is not None and board not in boards:
        raise typer.BadParameter(f"{board!r} is none of {', '.join(sorted(boards))}")
    if not images and not files_only:
        images = [_of_virtual_boards(port, boards)]
    if every and is_file(label):
        raise typer.BadParameter("with --all the labels are for the terminal: --label -")
    access_point = wifi_of(wifi, password_file)
    with sentences():
        require_kind(label)
        if app is not None:
            app.read_bytes()  # what can be read now can be copied later
        found = _images(images or [], boards, sha256, yes)
        ports = _ports(port, every, boards)
        order = FlashOrder(
            found, compile.board_tree(val_client), board, revision, erase, baud or BAUD, app, access_point, ble
        )
        results = _flash_each(ports, order, boards)
    _answer([port.name for port in ports], results, label, "pair" if access_point or ble is not None else "provision")


def _of_virtual_boards(name: str | None, boards: "dict[str, Board]") -> Path:
    """Return the image of virtual boards, for which nobody has to name it. Raises BadParameter if others are meant."""
    from keycast.board.ports import ports_of_boards
    from keycast.virtual_board.serial_board import firmware_image

    meant = [port for port in ports_of_boards(boards) if name in (None, port.name, port.device)]
    if not meant or not all(port.is_virtual for port in meant):
        raise typer.BadParameter("name an image, or take --files-only for a board that has MicroPython already")
    return firmware_image()


def _images(
    paths: list[Path], boards: "dict[str, Board]", sha256: str | None, yes: bool
) -> "tuple[FirmwareImage, ...]":
    """Return the images. Raises ImageUnusable for a file that is none, or that nobody vouches for."""
    from keycast.board import image

    found = tuple(image.read(path, boards) for path in paths)
    for each in found:
        image.require_known(each, boards, sha256, yes)
        if sha256 is None and not image.is_listed(each, boards):
            remark(f"{each.path}: nobody has vouched for it but you. Its SHA-256 is {each.sha256}.")
    return found


def _ports(name: str | None, every: bool, boards: "dict[str, Board]") -> "list[Port]":
    """Return the port of the board, or with `every` those of all boards. Raises NoPort, PortTaken."""
    from keycast.board import ports

    there = ports.ports_of_boards(boards)
    if every and there:
        return there
    if not there and name is None:
        remark(f"Waiting up to {ports.CABLE_S:.0f} s for a board to be connected ...")
    return [ports.chosen(name, boards, ports.CABLE_S)]


def _flash_each(ports: "list[Port]", order: "FlashOrder", boards: "dict[str, Board]") -> "list[Flashed | GatewayError]":
    """Flash the boards on `ports` at once, with a line for each. Return what came of each: a board or a fault."""
    from concurrent.futures import ThreadPoolExecutor

    from gateway_agent.errors import GatewayError
    from keycast.board.flashing import Told, flash
    from keycast.board.ports import locked

    def one(port: "Port", line: WorkLine) -> "Flashed | GatewayError":
        try:
            with locked(port, "keycast board flash"):
                return flash(port, order, boards, Told(line.doing, line.progress, line.warn))
        except GatewayError as fault:
            return fault

    with work_lines([port.name for port in ports]) as lines, ThreadPoolExecutor(len(ports)) as pool:
        return list(pool.map(one, ports, lines))


def _answer(names: list[str], results: "list[Flashed | GatewayError]", label: str | None, after: str) -> None:
    """Answer with what came of each board; a fault is the answer of its own for a board alone. Ends with 1 if any.

    `after` is the command that comes next for a board without identity.
    """
    from gateway_agent.errors import GatewayError, code_of

    for each in results:
        if isinstance(each, GatewayError):
            continue
        if each.pairing is not None:
            with sentences():
                show(label, *each.pairing)
        elif label is not None:
            remark(
                f"{each.port.name}: no label. It has a gateway already, or it has no memory to make its secret beside "
                "the tool: then it makes it at its next start and says it, see keycast board monitor."
            )
    faults = [(name, each) for name, each in zip(names, results, strict=True) if isinstance(each, GatewayError)]
    if faults and len(names) == 1:
        refuse(str(faults[0][1]), code_of(faults[0][1]))
    shown = [_sentence(each, after) for each in results if not isinstance(each, GatewayError)]
    answer([_json(name, each) for name, each in zip(names, results, strict=True)], *shown)
    if faults:
        if not wants_json():
            for name, fault in faults:
                complain(f"{name}: {fault}", code_of(fault))
        raise typer.Exit(1)


def _json(name: str, result: "Flashed | GatewayError") -> dict[str, Any]:
    from gateway_agent.errors import GatewayError, code_of

    if isinstance(result, GatewayError):
        return {"device": name, **refusal(str(result), code_of(result))}
    running = result.running
    return {
        "device": result.port.name,
        "hardware": result.board,
        "micropython": running.version,
        "runs_from": running.code,
    }


def _sentence(result: "Flashed", after: str) -> str:
    code = {"flash": "the flash", "heap": "the heap"}[result.running.code]
    return (
        f"{result.port.name}: {result.board} with MicroPython {result.running.version}, our code runs from {code}. "
        f"Next, if it has no identity: keycast board {after} NAME"
        + (f" --port {result.port.name}" if after == "provision" else "")
    )
