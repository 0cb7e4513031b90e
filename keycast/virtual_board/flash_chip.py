"""The flash of a virtual board: octets at addresses, some of which are files that the running board has open, too.

A range of it that is no such file is one named by its address, such as `flash-000000.bin`. The partition `vfs` is a
folder: its octets do not change with its files, but when its first sector is erased, so are these.

A flash that is made new is erased: all its bits are 1.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from private_store import folders

SECTOR = 4096
ERASED = b"\xff"
_PLACE = "flash-*.bin"


class OtherLayout(Exception):
    """The files of a flash are those of other partitions, as earlier releases had them. The text names one."""


@dataclass(frozen=True)
class Part:
    """A partition that is a file, `path` relative to the board's folder."""

    path: str
    offset: int
    size: int

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.offset + self.size


class FlashChip:
    """The flash in `folder`, which is made if need be. Raises OtherLayout, StoreUnusable, OSError.

    `parts` must not overlap. `vfs` is the partition whose files are a folder of the host.
    """

    def __init__(self, folder: Path, size: int, parts: tuple[Part, ...], vfs: Part) -> None:
        folders.make(folder)
        self.size = size
        self._folder = folder
        self._parts = sorted((*parts, *_rest(size, parts)), key=lambda part: part.offset)
        self._vfs = vfs
        self._require_layout()
        for part in self._parts:
            path = folder / part.path
            if not path.exists():
                folders.make(path.parent)
                path.touch(mode=0o600)
                path.write_bytes(ERASED * part.size)
        folders.make(self.vfs)

    @property
    def vfs(self) -> Path:
        """The folder that is the file system of the board."""
        return self._folder / self._vfs.path

    def path(self, name: str) -> Path:
        """Return the file of the part `name`."""
        return self._folder / name

    def read(self, address: int, size: int) -> bytes:
        """Return octets. Raises ValueError if some are outside of the flash."""
        found = b""
        for path, at, length in self._pieces(address, size):
            with open(path, "rb") as file:
                file.seek(at)
                found += file.read(length)
        return found

    def write(self, address: int, octets: bytes) -> None:
        """Program octets: bits change from 1 to 0, never back. Raises ValueError if some are outside of the flash."""
        done = 0
        for path, at, length in self._pieces(address, len(octets)):
            with open(path, "r+b") as file:
                file.seek(at)
                held = file.read(length)
                file.seek(at)
                both = int.from_bytes(held, "big") & int.from_bytes(octets[done : done + length], "big")
                file.write(both.to_bytes(length, "big"))
            done += length

    def erase(self, address: int, size: int) -> None:
        """Erase all sectors that have octets in this range. Raises ValueError if some are outside of the flash."""
        if not size:
            return
        begin, end = address // SECTOR * SECTOR, -(-(address + size) // SECTOR) * SECTOR
        for path, at, length in self._pieces(begin, end - begin):
            with open(path, "r+b") as file:
                file.seek(at)
                file.write(ERASED * length)
        if begin <= self._vfs.offset < end:  # where a file system has its first block
            shutil.rmtree(self.vfs)
            folders.make(self.vfs)

    def _require_layout(self) -> None:
        known = {self._folder / part.path: part.size for part in self._parts}
        for path in sorted({*known, *self._folder.glob(_PLACE)}):
            if path.exists() and path.stat().st_size != known.get(path):
                raise OtherLayout(path.name)

    def _pieces(self, address: int, size: int) -> Iterator[tuple[Path, int, int]]:
        """Yield file, place in it and length of each piece of a range, in order."""
        if not 0 <= address <= address + size <= self.size:
            raise ValueError(f"{size} octets at {address:#x} are not in a flash of {self.size}")
        for part in self._parts:
            begin, end = max(address, part.offset), min(address + size, part.end)
            if begin < end:
                yield self._folder / part.path, begin - part.offset, end - begin


def _rest(size: int, parts: tuple[Part, ...]) -> Iterator[Part]:
    """Yield the ranges between `parts`, each a file named by its address."""
    begin = 0
    for part in (*sorted(parts, key=lambda part: part.offset), Part("", size, 0)):
        if begin < part.offset:
            yield Part(f"flash-{begin:06x}.bin", begin, part.offset - begin)
        begin = part.end
