"""The images that updates bring: an agent as a ROMFS image of its files, or the application of a firmware."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from key_servers.known_names import require
from keycast.board import image as firmware_image
from keycast.hardware.board import Board, Firmware
from keycast.micropython_vm import board_files, compile, romfs
from keycast.updates.faults import ImageRefused
from private_store import plain_file
from suit import class_id
from suit import numbers as n

MPY = 6
"""The version of .mpy files that MicroPython 1.25 and 1.26 run."""

_COPIED = "mpy"  # the folder in the one of `keycast board files`
_VAL_CLIENT = "device_agent/val_client/__init__.mpy"
_NEEDED = ("start.mpy", "board.mpy")
_HEAD = b"M" + bytes([MPY])
_SMALL_INT_BITS = 31
_FILE_MAX = 1 << 20


class UpdateImage(NamedTuple):
    """An image, and for which boards it is: `kind` and `class_text` as in `suit.build.build`."""

    kind: str
    class_text: str
    octets: bytes


def agent(folder: Path | None, val_client: bool = False) -> UpdateImage:
    """Return the image with the agent in `folder`, which `keycast board files` has written; None: that of this release.

    `val_client`: that of this release for VAL clients; which one a folder holds is seen by its files. Raises
    ImageRefused, whose text names the file that is wrong, and CompileError.
    """
    tree = compile.board_tree(val_client) if folder is None else _tree(folder)
    octets = romfs.image(tree)
    if len(octets) > romfs.IMAGE_MAX:
        raise ImageRefused.too_long(len(octets), romfs.IMAGE_MAX)
    return UpdateImage("agent", class_id.agent(MPY, (tree / _VAL_CLIENT).exists()), octets)


def firmware(path: Path, build: str, boards: Mapping[str, Board]) -> UpdateImage:
    """Return the image with the application of the firmware in the file `path`, for boards with the build `build`.

    The file is a whole firmware image or the application alone. Raises ImageRefused, ImageUnusable, StoreUnusable, and
    Unknown for a build that no file of `boards` names.
    """
    builds = {each.name: (board, each) for board in boards.values() for each in board.firmware}
    updatable = [name for name, (_, each) in builds.items() if len(_slots(each)) > 1]
    require(build, builds, "build of MicroPython", f"With two slots: {', '.join(updatable)}.")
    board, found = builds[build]
    slots = _slots(found)
    if len(slots) < 2:
        raise ImageRefused.one_slot(build, updatable)
    chips = {each.chip.image_id: each.chip for each in boards.values()}
    application = firmware_image.application(path, plain_file.read(path, firmware_image.SIZE_MAX), chips)
    if application.chip != board.chip.name:
        raise ImageRefused.other_chip(path, application.chip, build, board.chip.name)
    if application.layout is not None and firmware_image.layout_of(application.layout, board) != found:
        raise ImageRefused.other_layout(path, build)
    most = min(*slots, n.IMAGE_MAX)
    if len(application.octets) > most:
        raise ImageRefused.too_long(len(application.octets), most)
    return UpdateImage("firmware", class_id.firmware(build), application.octets)


def _slots(firmware: Firmware) -> list[int]:
    return [row.size for row in firmware.partitions if row.name.startswith("ota_")]


def _tree(folder: Path) -> Path:
    tree = folder / _COPIED if (folder / _COPIED).is_dir() else folder
    if not tree.is_dir():
        raise ImageRefused.no_folder(folder)
    names = [_checked(path, tree) for path in _files(tree)]
    for name in _NEEDED:
        if name not in names:
            raise ImageRefused.no_agent(folder, name)
    return tree


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files below `folder`. Raises ImageRefused for a link, which may lead out of it."""
    for path in sorted(folder.iterdir()):
        if path.is_symlink():
            raise ImageRefused.link(path)
        if path.is_dir():
            yield from _files(path)
        else:
            yield path


def _checked(path: Path, tree: Path) -> str:
    name = path.relative_to(tree).as_posix()
    octets = plain_file.read(path, _FILE_MAX)
    if name == board_files.START:
        return name
    if path.suffix != ".mpy":
        raise ImageRefused.no_mpy(path)
    if octets[:2] != _HEAD:
        raise ImageRefused.other_abi(path, MPY)
    if len(octets) < 4 or octets[2] >> 2 or octets[3] > _SMALL_INT_BITS:
        raise ImageRefused.native(path)
    return name
