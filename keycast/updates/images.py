"""The images that updates bring: an agent as a ROMFS image of its files, or the application of a firmware."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from key_servers.known_names import require
from keycast.board import image as firmware_image
from keycast.hardware.board import Board, Firmware
from keycast.micropython_vm import board_files, compile, romfs
from keycast.updates import mpy_file, offline_key
from keycast.updates.faults import ImageRefused
from private_store import plain_file, sealed
from suit import class_id
from suit import numbers as n
from suit.image import DEPTH_MAX, MPY, NEEDED, OF_VAL_CLIENT, wrong_name

_COPIED = "mpy"  # the folder in the one of `keycast board files`
_HEAD = b"M" + bytes([MPY])
_SMALL_INT_BITS = 31
_FILE_MAX = 1 << 20
_KEY_SUFFIXES = (".key", ".pem", ".p8", ".p12", ".pfx")
_PRIVATE = b"PRIVATE KEY-----"  # in a PEM file
_NAMED_MAX = 3


class UpdateImage(NamedTuple):
    """An image, and for which boards it is: `kind` and `class_text` as in `suit.build.build`.

    `doubts`: sentences about what boards take, and what is probably not meant.
    """

    kind: str
    class_text: str
    octets: bytes
    doubts: tuple[str, ...] = ()


def agent(folder: Path | None, val_client: bool = False) -> UpdateImage:
    """Return the image with the agent in `folder`, which `keycast board files` has written; None: that of this release.

    `val_client`: that of this release for VAL clients; which one a folder holds is seen by its files. Raises
    ImageRefused, whose text names the file that is wrong, and CompileError.
    """
    files = _files(compile.board_tree(val_client)) if folder is None else _looked_at(folder)
    is_val_client = OF_VAL_CLIENT in files
    octets = romfs.image_of(files)
    if len(octets) > romfs.IMAGE_MAX:
        raise ImageRefused.too_long(len(octets), romfs.IMAGE_MAX)
    doubts = () if folder is None else tuple(_doubts(folder, files, _files(compile.board_tree(is_val_client))))
    return UpdateImage("agent", class_id.agent(MPY, is_val_client), octets, doubts)


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


def _looked_at(folder: Path) -> dict[str, bytes]:
    """Return the files of the agent in a folder. Raises ImageRefused for what no board would run."""
    tree = folder / _COPIED if (folder / _COPIED).is_dir() else folder
    if not tree.is_dir():
        raise ImageRefused.no_folder(folder)
    if tree != folder and tree.is_symlink():
        raise ImageRefused.link(tree)
    for name in NEEDED:  # first: of another folder nobody shall be told to remove what lies in it
        if not (tree / name).is_file():
            raise ImageRefused.no_agent(folder, name)
    return _files(tree)


def _files(tree: Path) -> dict[str, bytes]:
    """Return the files below a folder, path -> octets, each read once: what is signed is what was looked at."""
    files = {}
    for path in _paths(tree, DEPTH_MAX):  # one after the other: whoever names a wrong folder hears of its first file
        name = path.relative_to(tree).as_posix()
        files[name] = plain_file.read(path, _FILE_MAX)
        _require_code(path, files[name], is_start=name == board_files.START)
    return files


def _paths(folder: Path, depth: int) -> Iterator[Path]:
    """Yield the files below `folder`. Raises ImageRefused for a link, which may lead out of it."""
    inside = sorted(folder.iterdir())
    if not inside:
        raise ImageRefused.no_files(folder)
    for path in inside:
        if path.is_symlink():
            raise ImageRefused.link(path)
        if reason := wrong_name(path.name):
            raise ImageRefused.named(path, reason)
        if not path.is_dir():
            yield path
        elif depth > 1:
            yield from _paths(path, depth - 1)
        else:
            raise ImageRefused.too_deep(path, DEPTH_MAX - 1)


def _require_code(path: Path, octets: bytes, *, is_start: bool) -> None:
    is_sealed = sealed.is_sealed(octets) or sealed.is_sealed(octets, offline_key.WHAT)
    if path.suffix in _KEY_SUFFIXES or _PRIVATE in octets or is_sealed:
        raise ImageRefused.secret(path)
    if not octets:
        raise ImageRefused.empty(path)
    if is_start:
        return
    if path.suffix == ".py":
        raise ImageRefused.source(path)
    if path.suffix != ".mpy":
        raise ImageRefused.no_mpy(path)
    if octets[:2] != _HEAD:
        raise ImageRefused.other_abi(path, MPY)
    if len(octets) < 4 or octets[2] >> 2 or octets[3] > _SMALL_INT_BITS:
        raise ImageRefused.native(path)
    if not mpy_file.is_whole(octets):
        raise ImageRefused.not_whole(path)


def _doubts(folder: Path, files: Mapping[str, bytes], release: Mapping[str, bytes]) -> Iterator[str]:
    lacking = sorted(release.keys() - files.keys())
    if lacking:
        more = f" and {len(lacking) - _NAMED_MAX} more" if len(lacking) > _NAMED_MAX else ""
        yield (
            f"{folder} lacks {', '.join(lacking[:_NAMED_MAX])}{more}, which the agent of this release has: a board "
            "whose agent needs them goes back to the one before."
        )
    start = board_files.START
    if start in files and files[start] != release[start]:
        yield f"{start} of {folder} is another one than that of this release, and no update replaces that of a board."
