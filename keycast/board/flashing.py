"""Flash a board: firmware through its boot loader, then the files of the agent, then the record of its pins.

The identity of the board, its applications and other files stay, unless all of the flash is to be erased.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from keycast.board import agent_files, board_record, image
from keycast.board.faults import ImageUnfit
from keycast.board.image import FirmwareImage
from keycast.board.ports import LEAVE_S, Port, back_again
from keycast.board.provisioning import BLE, WIFI, Wifi, ble_record
from keycast.board.repl import Repl
from keycast.board.rom_loader import ANY_BOARD, BAUD, RomLoader
from keycast.hardware.board import Board, Socket
from keycast.hardware.catalogue import VIRTUAL, usb_matches

HEAP_IS_SHORT = (
    "this board has no PSRAM and its firmware no partition for ROMFS: the agent's code takes room in the heap, which "
    "leaves the radio little memory, and a key may be lost. `keycast board list --ask` shows the least that it had; "
    "docs/boards.md says which firmware has such a partition."
)


class FlashOrder(NamedTuple):
    """What is to be done with each board.

    `images` are the firmware images, of which a board gets the one for its chip; without any it keeps its firmware.
    `tree` is the folder with the agent's files. `board` is the name of a hardware file, or None to find it out;
    `revision` that of the board, or "". With `erase` all of the flash is erased first. `baud` is the speed of writing.
    `app` is the source of an application to be copied too, or None. `wifi` is the access point for a board that will be
    paired, and `company_id` that of the adverts which it is to hear; None to keep what it has.
    """

    images: tuple[FirmwareImage, ...]
    tree: Path
    board: str | None = None
    revision: str = ""
    erase: bool = False
    baud: int = BAUD
    app: Path | None = None
    wifi: Wifi | None = None
    company_id: int | None = None


class Told(NamedTuple):
    """Functions that are called while a board is flashed.

    `doing` gets what is done now, in words for a person; `progress` the part of that which is done, 0 to 1; `warn` a
    sentence that a person must know.
    """

    doing: Callable[[str], None]
    progress: Callable[[float], None]
    warn: Callable[[str], None]


class Flashed(NamedTuple):
    """A board that was flashed: its port now, the name of its hardware file, its MicroPython.

    `pairing` is what `agent_files.ready_to_pair` returned.
    """

    port: Port
    board: str
    running: agent_files.Running
    pairing: tuple[str, str] | None = None


def flash(port: Port, order: FlashOrder, boards: Mapping[str, Board], told: Told) -> Flashed:
    """Flash the board on `port`, which nobody else uses meanwhile. `boards` are all by the names of their files.

    Raises BoardFault, OSError for the port.
    """
    name = None
    if order.images:
        port, name = _write_firmware(port, order, boards, told)
    told.doing("waiting for its prompt")
    repl = Repl(port)
    with repl:
        running = agent_files.look(repl)
    if name is None:
        name = name_of(repl.port, order.board, running.chip, boards)
    agent_files.require_usable(running, boards[name], order.tree, order.app)
    if running.code == "heap" and not running.has_psram:
        told.warn(HEAP_IS_SHORT)
    told.doing("removing older files" if running.is_frozen and not running.has_slots else "copying files")
    agent_files.put(repl, running, order.tree, told.progress, order.app)
    told.doing("starting")
    with repl:
        repl.restart()
        agent_files.run_these(repl)
        agent_files.save_record(repl, board_record.RECORD, board_record.pack(name, boards[name], order.revision))
        if order.wifi is not None:
            agent_files.save_record(repl, WIFI, order.wifi.record())
        if order.company_id is not None:
            agent_files.save_record(repl, BLE, ble_record(order.company_id))
        pairing = agent_files.ready_to_pair(repl)
        repl.start()
    return Flashed(repl.port, name, running, pairing)


def name_of(port: Port, wanted: str | None, chip: str, boards: Mapping[str, Board]) -> str:
    """Return the name of the board's file: the one that is `wanted`, or the only one with this chip and USB id.

    Raises ImageUnfit if there is none, or several.
    """
    if wanted is not None:
        if boards[wanted].chip.name != chip:
            raise ImageUnfit.other_board(wanted, boards[wanted].chip.name, chip)
        return wanted
    if port.is_virtual:
        return VIRTUAL
    of_chip = [name for name, board in boards.items() if board.chip.name == chip and name != VIRTUAL]
    seen = {match.file for match in usb_matches(port.usb_id or "", dict(boards))}
    choices = [name for name in of_chip if name in seen] or of_chip
    if len(choices) != 1:
        raise ImageUnfit.board(chip, choices)
    return choices[0]


def _write_firmware(port: Port, order: FlashOrder, boards: Mapping[str, Board], told: Told) -> tuple[Port, str]:
    """Write the image for the board's chip. Return the port of the board, which starts then, and its name."""
    told.doing("entering the boot loader")
    loader = RomLoader(port, *_socket(port, order.board, boards))
    chip = loader.enter()
    try:
        name = name_of(port, order.board, chip.name, boards)
        chosen = next((each for each in order.images if each.chip == chip.name), order.images[0])
        image.require_fit(chosen, boards[name], chip.name, chip.flash_octets)
        if not order.erase:
            image.require_same_place(chosen, loader.read(image.TABLE_AT, image.TABLE_SIZE))
    except ImageUnfit:
        loader.leave()
        raise
    loader.socket, loader.how = _socket(port, name, boards)
    told.doing(f"writing MicroPython {chosen.version}".strip())
    loader.write(chip, chosen.parts, erase=order.erase, baud=order.baud, progress=told.progress)
    is_native = loader.socket is not None and loader.socket.kind == "native"
    return back_again(loader.port, leave_s=LEAVE_S if is_native else 0.0), name


def _socket(port: Port, name: str | None, boards: Mapping[str, Board]) -> tuple[Socket | None, str]:
    """Return the socket at which the board is, None if unknown, and how a person leads it into its boot loader."""
    matches = [match for match in usb_matches(port.usb_id or "", dict(boards)) if name in (None, match.file)]
    names = {match.file for match in matches} if name is None else {name}
    how = {boards[each].enter_boot_loader for each in names}
    return matches[0].socket if matches else None, how.pop() if len(how) == 1 else ANY_BOARD
