"""Build images of ROMFS, MicroPython's read-only file system, whose .mpy files run in place.

On a board the image is in a partition of the flash that is mapped into memory. Bytecode, constants and names stay there
instead of in the heap, which halves the heap that code needs. The format is in `suit/image.py`.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from suit.image import DIRECTORY, FILE, MAGIC, VERBATIM

SLOT = 0x30000
"""Size of a slot of the partition `romfs` in our own firmware (micropython/firmware, slot_images.py)."""

_SLOT_MAGIC = b"keycast slot 1\0\0"
_SEAL = 64
IMAGE_MAX = SLOT - _SEAL
"""Octets of an image that has room in a slot."""


def image(folder: Path) -> bytes:
    """Return the image with the files below `folder`."""
    paths = sorted(path for path in folder.rglob("*") if not path.is_dir())
    return image_of({path.relative_to(folder).as_posix(): path.read_bytes() for path in paths})


def image_of(files: Mapping[str, bytes]) -> bytes:
    """Return the image with `files`, path -> octets, in the order of their names."""
    content = _content(files)
    size = _number(len(content))
    if (len(MAGIC) + len(size) + len(content)) % 2:
        size = b"\x80" + size  # images have an even length
    return MAGIC + size + content


def slot(image: bytes, generation: int, size: int = SLOT) -> bytes:
    """Return the octets of a whole slot with `image`, for the partition `romfs` of our own firmware.

    A board runs the image of its two slots that has the higher `generation`, 1..2**32-1. Raises ValueError if the image
    is too large.
    """
    if len(image) > size - _SEAL:
        raise ValueError(f"the image has {len(image)} octets, and a slot has room for {size - _SEAL}")
    seal = _SLOT_MAGIC + generation.to_bytes(4, "big") + len(image).to_bytes(4, "big")
    seal += hashlib.sha256(image + seal).digest()
    return image.ljust(size - _SEAL, b"\xff") + seal.ljust(_SEAL, b"\xff")


def _content(files: Mapping[str, bytes]) -> bytes:
    folders: dict[str, dict[str, bytes]] = {}
    for path, octets in files.items():
        name, _, rest = path.partition("/")
        folders.setdefault(name, {})[rest] = octets
    records = []
    for name, inside in sorted(folders.items()):
        head = _number(len(name.encode())) + name.encode()
        if "" in inside:
            records.append(_record(FILE, head + _record(VERBATIM, inside[""])))
        else:
            records.append(_record(DIRECTORY, head + _content(inside)))
    return b"".join(records)


def _record(kind: int, payload: bytes) -> bytes:
    return _number(kind) + _number(len(payload)) + payload


def _number(value: int) -> bytes:
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.insert(0, 0x80 | value & 0x7F)
    return bytes(groups)
