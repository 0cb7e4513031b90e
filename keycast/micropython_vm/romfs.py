"""Build images of ROMFS, MicroPython's read-only file system, whose .mpy files run in place.

On a board the image is in a partition of the flash that is mapped into memory. Bytecode, constants and names stay there
instead of in the heap, which halves the heap that code needs. The format is that of MicroPython's `vfs.VfsRom`
(1.25 and later): records of (kind, length, payload), numbers in groups of seven bits, highest first.
"""

from pathlib import Path

_MAGIC = b"\xd2\xcd\x31"
_VERBATIM, _DIRECTORY, _FILE = 2, 4, 5


def image(folder: Path) -> bytes:
    """Return the image with the files and folders of `folder`, in the order of their names."""
    content = _content(folder)
    size = _number(len(content))
    if (len(_MAGIC) + len(size) + len(content)) % 2:
        size = b"\x80" + size  # images have an even length
    return _MAGIC + size + content


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
