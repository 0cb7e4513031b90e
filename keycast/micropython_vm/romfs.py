"""Build images of ROMFS, MicroPython's read-only file system, whose .mpy files run in place.

On a board the image is in a partition of the flash that is mapped into memory. Bytecode, constants and names stay there
instead of in the heap, which halves the heap that code needs. The format is that of MicroPython's `vfs.VfsRom`
(1.25 and later): records of (kind, length, payload), numbers in groups of seven bits, highest first.
"""

import hashlib
from pathlib import Path

SLOT = 0x30000
"""Size of a slot of the partition `romfs` in our own firmware (micropython/firmware, rom_slots.py)."""

_SLOT_MAGIC = b"keycast slot 1\0\0"
_SEAL = 64
_MAGIC = b"\xd2\xcd\x31"
_VERBATIM, _DIRECTORY, _FILE = 2, 4, 5


def image(folder: Path) -> bytes:
    """Return the image with the files and folders of `folder`, in the order of their names."""
    content = _content(folder)
    size = _number(len(content))
    if (len(_MAGIC) + len(size) + len(content)) % 2:
        size = b"\x80" + size  # images have an even length
    return _MAGIC + size + content


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


def _content(folder: Path) -> bytes:
    records = []
    for path in sorted(folder.iterdir()):
        name = path.name.encode()
        head = _number(len(name)) + name
        if path.is_dir():
            records.append(_record(_DIRECTORY, head + _content(path)))
        else:
            records.append(_record(_FILE, head + _record(_VERBATIM, path.read_bytes())))
    return b"".join(records)


def _record(kind: int, payload: bytes) -> bytes:
    return _number(kind) + _number(len(payload)) + payload


def _number(value: int) -> bytes:
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.insert(0, 0x80 | value & 0x7F)
    return bytes(groups)
