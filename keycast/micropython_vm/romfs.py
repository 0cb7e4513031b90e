"""Build images of ROMFS, MicroPython's read-only file system, whose .mpy files run in place.

On a board the image is in a partition of the flash that is mapped into memory. Bytecode, constants and names stay there
instead of in the heap, which halves the heap that code needs. The format is that of MicroPython's `vfs.VfsRom`
(1.25 and later): records of (kind, length, payload), numbers in groups of seven bits, highest first.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

SLOT = 0x30000
"""Size of a slot of the partition `romfs` in our own firmware (micropython/firmware, slot_images.py)."""

_SLOT_MAGIC = b"keycast slot 1\0\0"
_SEAL = 64
IMAGE_MAX = SLOT - _SEAL
"""Octets of an image that has room in a slot."""

MAGIC = b"\xd2\xcd\x31"
_VERBATIM, _DIRECTORY, _FILE = 2, 4, 5
_DEPTH_MAX = 8


def image(folder: Path) -> bytes:
    """Return the image with the files and folders of `folder`, in the order of their names."""
    content = _content(folder)
    size = _number(len(content))
    if (len(MAGIC) + len(size) + len(content)) % 2:
        size = b"\x80" + size  # images have an even length
    return MAGIC + size + content


def files(image: bytes) -> dict[str, int]:
    """Return the files in an image, path -> octets. Raises ValueError if it is none, or does not end where it says."""
    if not image.startswith(MAGIC):
        raise ValueError("no ROMFS image")
    size, at = _read_number(image, len(MAGIC))
    if len(image) - at != size:
        raise ValueError("a ROMFS image with another length")
    return dict(_files(image, at, len(image), "", _DEPTH_MAX))


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


def _files(image: bytes, at: int, end: int, folder: str, depth: int) -> Iterator[tuple[str, int]]:
    while at < end:
        kind, at = _read_number(image, at)
        length, at = _read_number(image, at)
        after = at + length
        if after > end or not depth:
            raise ValueError("a ROMFS record that is longer than its folder, or too deep")
        if kind in (_DIRECTORY, _FILE):
            size, begin = _read_number(image, at)
            inside = begin + size
            name = folder + image[begin:inside].decode()
            if inside > after:
                raise ValueError("a ROMFS name that is longer than its record")
            if kind == _DIRECTORY:
                yield from _files(image, inside, after, f"{name}/", depth - 1)
            else:
                _, inside = _read_number(image, inside)
                size, _ = _read_number(image, inside)
                yield name, size
        at = after


def _read_number(image: bytes, at: int) -> tuple[int, int]:
    value = 0
    while at < len(image):
        value = value << 7 | image[at] & 0x7F
        at += 1
        if not image[at - 1] & 0x80:
            return value, at
    raise ValueError("a ROMFS image that ends within a number")


def _record(kind: int, payload: bytes) -> bytes:
    return _number(kind) + _number(len(payload)) + payload


def _number(value: int) -> bytes:
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.insert(0, 0x80 | value & 0x7F)
    return bytes(groups)
