"""The virtual boards of a user, each with a name: their flash outlasts them, and tools find the port of one that runs.

    boards/NAME/ in the user's state folder      the flash, and the number that the board's addresses are made of
    boards/NAME in the user's runtime folder     a link to the pseudo-terminal, while the board runs

Their network is the loopback network of this computer, in which each has an address; no two that run have the same one,
whosever they are. Their Bluetooth is the air of a gateway on this computer whose configuration has `sender = "virtual"`
in `[ble]`.
"""

import contextlib
import os
import re
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from cpns import numbers
from gateway_agent.errors import GatewayError
from gateway_agent.radios.virtual_air.place import default_socket
from keycast.board.ports import front_file
from keycast.claims import claim
from keycast.free_ports import free_port
from keycast.places import RUN, STATE
from keycast.virtual_board.board import Network
from keycast.virtual_board.flash_chip import OtherLayout
from keycast.virtual_board.ready_made import make_ready
from keycast.virtual_board.serial_board import SerialBoard
from private_store import files, folders
from private_store.errors import Faults
from private_store.folder_lock import FolderLock

FLASHES = STATE / "boards"
PORTS = RUN / "boards"
WIFI_NAME, WIFI_PASSWORD = "virtual", "virtual password"
"""The only access point that these boards hear."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_LOCK, _NUMBER = "lock", "number"
_NUMBERS = range(1, 250)


class VirtualBoardRefused(GatewayError):
    """A virtual board cannot be run under this name, or not now."""

    word = "virtual-board"


_FAULTS = Faults(VirtualBoardRefused, VirtualBoardRefused, VirtualBoardRefused)


def require_name(name: str) -> None:
    """Raise VirtualBoardRefused if the text is no name of a virtual board."""
    if not _NAME.fullmatch(name):
        raise VirtualBoardRefused(
            f"{name!r} is no name for a virtual board.", "Use letters, digits, '.', '-' and '_', such as: porch"
        )


@asynccontextmanager
async def plugged_in(
    name: str,
    *,
    erase: bool = False,
    app: str | None = None,
    port: int = numbers.PORT_COAP,
    broadcast_port: int = numbers.PORT_BROADCAST,
) -> AsyncIterator[SerialBoard]:
    """Run the board `name` while the context lasts; a new one has a blank flash, and an old one too if `erase`.

    With the text of an application, a board with a blank flash begins with everything but an identity. `port` and
    `broadcast_port` are those of the gateway on this computer. Raises VirtualBoardRefused if the text is no name or a
    process runs this board already, NoVm, CompileError, OSError.
    """
    require_name(name)
    folder = FLASHES / name
    lock = FolderLock(
        folder,
        _LOCK,
        what="the virtual board",
        remedy="End it there with Ctrl-C, or run one of another name.",
        faults=_FAULTS,
    )
    with contextlib.ExitStack() as stack:
        stack.callback(lock.release)
        number = _number(folder, stack)
        if erase:
            _erase(folder)
        try:
            board = SerialBoard(folder, _environment(Network.loopback(number).address, number, port, broadcast_port))
        except OtherLayout as found:
            raise VirtualBoardRefused(
                f"The flash of {name} has other partitions than virtual boards have now ({found}).",
                f"Begin with a blank one, which forgets what is in it: keycast board run {name} --erase",
            ) from None
        if app is not None:
            make_ready(board, app, (WIFI_NAME, WIFI_PASSWORD))
        await board.power_on()
        try:
            link = _publish(name, board.line.device)
            try:
                yield board
            finally:
                link.unlink(missing_ok=True)
                front_file(link).unlink(missing_ok=True)
        finally:
            await board.power_off()


def _number(folder: Path, stack: contextlib.ExitStack) -> int:
    """Return the number of the board in `folder`, which no other board that runs on this computer has.

    The number is claimed until `stack` is closed. A new board gets the lowest that is free, and so does an old one when
    a board of another user, or with another state folder, runs under its number.
    """
    own = folder / _NUMBER
    former = _stored(own)
    if former is not None and _is_claimed(former, stack):
        return former
    lock = FolderLock(FLASHES, _LOCK, what="the virtual boards in", remedy="Try again.", faults=_FAULTS)
    try:
        taken = {_stored(other) for other in FLASHES.glob(f"*/{_NUMBER}")}
        free = next((number for number in _NUMBERS if number not in taken and _is_claimed(number, stack)), None)
        if free is None:
            raise VirtualBoardRefused(
                f"All {len(_NUMBERS)} addresses of virtual boards on this computer are taken.",
                f"Remove some of the boards in {FLASHES}, or end some that others run.",
            )
        own.unlink(missing_ok=True)
        files.write_new(own, b"%d\n" % free, VirtualBoardRefused)
        return free
    finally:
        lock.release()


def _stored(path: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_text())
    return None


def _is_claimed(number: int, stack: contextlib.ExitStack) -> bool:
    """Claim a number until `stack` is closed; return whether it is this board's now."""
    held = claim(f"virtual board {number}")
    if held is not None:
        stack.enter_context(held)
    return held is not None


def _erase(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name not in (_LOCK, _NUMBER):
            entry.unlink()


def _publish(name: str, device: str) -> Path:
    folders.make(PORTS, VirtualBoardRefused)
    link = PORTS / name
    link.unlink(missing_ok=True)  # of a process that was killed
    front_file(link).write_text(str(os.getpid()))
    link.symlink_to(device)
    return link


def _environment(address: str, number: int, port: int, broadcast_port: int) -> Mapping[str, str]:
    return {
        "BOARD_ADDRESS": address,
        "BOARD_NETMASK": "255.0.0.0",
        "BOARD_PORT": str(port),
        "BOARD_OWN_PORT": str(free_port()),  # not the gateway's, which may have that one at all addresses
        "BOARD_BROADCAST_PORT": str(broadcast_port),
        "BOARD_MAC": f"02{number:010x}",
        "BOARD_BLE": str(default_socket()),
        "BOARD_WIFI_NAME": WIFI_NAME,
        "BOARD_WIFI_PASSWORD": WIFI_PASSWORD,
    }
