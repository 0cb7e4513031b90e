"""Read a firmware image before it is written to a board: is it whole, for which chip is it, what does it hold?

A firmware image is what the flash holds from the address on from which the chip's ROM starts: a boot loader, at 0x8000
a partition table, and at the address of its partition an application. Boot loader and application are images in the
format of Espressif's ROM: a header, segments, a checksum and, if the header says so, a SHA-256 digest. Each length in a
file is checked before it is used.
"""

import contextlib
import hashlib
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from keycast.board.faults import ImageUnfit, ImageUnusable
from keycast.hardware.board import KIB, SECTOR, Board, Chip, Firmware

SIZE_MAX = 64 * KIB * KIB
"""Octets of a file: the largest flash that a board may have."""
TABLE_AT, TABLE_SIZE = 0x8000, 0xC00
"""Address and octets of the partition table in the flash of every board."""

_HEADER = struct.Struct("<BBxB8xH9xB")  # magic, number of segments, size of the flash, chip, digest follows
_SEGMENT = struct.Struct("<4xI")
_MAGIC = 0xE9
_SEGMENTS_MAX = 16
_FLASH_CODE_MAX = 7  # of 128 MiB
_CHECKSUM_SEED = 0xEF
_DIGEST_SIZE = 32
_ROW = struct.Struct("<HBBII16sI")
_ROW_MAGIC = 0x50AA
_SUM_MAGIC = b"\xeb\xeb" + b"\xff" * 14
_APP, _DATA = 0, 1
_OTA_DATA, _NVS = 0, 2  # subtypes of data
_OF_IDENTITY = ("nvs",)  # partitions
_OTA_DATA_SIZE = 2 * SECTOR
_DESCRIPTION = struct.Struct("<I12x32s")  # of an application: magic, version
_DESCRIPTION_MAGIC = 0xABCD5432
_ERASED = 0xFF
_OTHERS = ((b"\x7fELF", "an ELF file"), (b"UF2\n", "a UF2 file"), (b"<", "a web page"), (b"PK", "a ZIP archive"))


class PartitionRow(NamedTuple):
    """A row of the partition table in an image. `kind` is 0 for an application and 1 for data."""

    name: str
    kind: int
    subtype: int
    offset: int
    size: int

    @property
    def end(self) -> int:
        """The first address behind the partition."""
        return self.offset + self.size


class ImagePart(NamedTuple):
    """Octets that are written to the flash, at the address `offset`."""

    name: str
    offset: int
    octets: bytes


class FirmwareImage(NamedTuple):
    """A firmware image that is whole. `sha256` is the digest of its file, in hexadecimal.

    `chip` is the name of its chip, `flash_octets` the flash that it needs, `version` the one of its application,
    or "". `parts` are what is written to a board: all of the image but the partition nvs, in which a board keeps its
    identity. The partition that says which application starts is erased, so that the one of the image does.
    """

    path: Path
    sha256: str
    chip: str
    flash_octets: int
    rows: tuple[PartitionRow, ...]
    parts: tuple[ImagePart, ...]
    version: str

    @property
    def has_romfs(self) -> bool:
        """True if our code can run from the flash, in a partition for ROMFS."""
        return any(row.name.startswith("romfs") for row in self.rows)


def read(path: Path, boards: Mapping[str, Board]) -> FirmwareImage:
    """Return the firmware image in the file `path`, for a chip of `boards`. Raises ImageUnusable, OSError."""
    with path.open("rb") as file:
        octets = file.read(SIZE_MAX + 1)
    if len(octets) > SIZE_MAX:
        raise ImageUnusable.no_image(path, "larger than any flash")
    return parse(path, octets, {board.chip.image_id: board.chip for board in boards.values()})


def parse(path: Path, octets: bytes, chips: Mapping[int, Chip]) -> FirmwareImage:
    """Return the firmware image in `octets`, the content of the file `path`, for one of `chips`, by their image id.

    Raises ImageUnusable.
    """
    if octets[:1] != bytes([_MAGIC]):
        found = next((name for magic, name in _OTHERS if octets.lstrip().startswith(magic)), "something else")
        raise ImageUnusable.no_image(path, found if octets else "empty")
    loader = _ProgramImage.read(path, octets, "the boot loader")
    chip = chips.get(loader.image_id)
    if chip is None:
        raise ImageUnusable.other_chip(path, loader.image_id)
    start = chip.firmware_offset
    table = octets[TABLE_AT - start :][:TABLE_SIZE]
    if loader.size > TABLE_AT - start:
        raise ImageUnusable.of_application(path)
    if len(table) < TABLE_SIZE:
        raise ImageUnusable.truncated(path, "the partition table")
    rows = tuple(_rows(path, table))
    parts = [ImagePart("boot loader", start, octets[: loader.size]), ImagePart("partition table", TABLE_AT, table)]
    applications = []
    for row in rows:
        inside = octets[row.offset - start : row.end - start]
        if row.kind == _APP and _is_written(inside):
            applications.append(_ProgramImage.read(path, inside, f"the application {row.name}"))
            parts.append(ImagePart(row.name, row.offset, inside[: applications[-1].size]))
        elif row.kind == _DATA and row.subtype == _OTA_DATA:
            parts.append(ImagePart(row.name, row.offset, bytes([_ERASED]) * row.size))
        elif row.kind == _DATA and row.subtype != _NVS and _is_written(inside):
            parts.append(ImagePart(row.name, row.offset, inside))
    if not applications:
        raise ImageUnusable.damaged(path, "it holds no application")
    if any(each.image_id != loader.image_id for each in applications):
        raise ImageUnusable.damaged(path, "its application is for another chip than its boot loader")
    needed = max(loader.flash_octets, rows[-1].end)
    digest = hashlib.sha256(octets).hexdigest()
    version = applications[0].version
    return FirmwareImage(path, digest, chip.name, needed, rows, tuple(parts), version)


class ApplicationImage(NamedTuple):
    """The program in a firmware image: its octets without what fills its partition, its chip, its version.

    `layout` is the whole image that it was in, None for an application alone.
    """

    octets: bytes
    chip: str
    version: str
    layout: FirmwareImage | None


def application(path: Path, octets: bytes, chips: Mapping[int, Chip]) -> ApplicationImage:
    """Return the application in `octets`, the content of the file `path`: a whole firmware image, or it alone.

    `chips` are those that boards have, by their image id. Raises ImageUnusable.
    """
    with contextlib.suppress(ImageUnusable):
        alone = _ProgramImage.read(path, octets, "the application")
        if alone.version and len(octets) == alone.size and alone.image_id in chips:
            return ApplicationImage(octets, chips[alone.image_id].name, alone.version, None)
    image = parse(path, octets, chips)
    names = [row.name for row in image.rows if row.kind == _APP]
    return ApplicationImage(
        next(part.octets for part in image.parts if part.name in names), image.chip, image.version, image
    )


def require_fit(image: FirmwareImage, board: Board, chip: str, flash_octets: int | None) -> None:
    """Raise ImageUnfit unless `image` is for what esptool found of `board`: its chip, and its flash if known."""
    if image.chip != chip:
        raise ImageUnfit.chip(image.path, chip, image.chip)
    has = flash_octets or board.flash_mib * KIB * KIB
    if image.flash_octets > has:
        raise ImageUnfit.flash(image.path, has, image.flash_octets)


def is_listed(image: FirmwareImage, boards: Mapping[str, Board]) -> bool:
    """Return whether a hardware file lists the digest of the image."""
    return any(
        image.sha256 == known.sha256 for board in boards.values() for each in board.firmware for known in each.images
    )


def require_known(image: FirmwareImage, boards: Mapping[str, Board], sha256: str | None, trusted: bool) -> None:
    """Raise ImageUnusable unless somebody vouches for the file.

    That is a hardware file which lists its digest, a person who named the digest `sha256`, or who said `trusted`.
    """
    if sha256 is not None and sha256.lower() != image.sha256:
        raise ImageUnusable.other_digest(image.path, image.sha256, sha256.lower())
    if sha256 is None and not trusted and not is_listed(image, boards):
        raise ImageUnusable.unknown_digest(image.path, image.sha256)


def require_same_place(image: FirmwareImage, table: bytes) -> None:
    """Raise ImageUnfit if the board has its identity elsewhere than the firmware of `image` will look for it.

    `table` is the partition table of the board. A board that has none, or a damaged one, has no identity.
    """
    try:
        present = {row.name: (row.offset, row.size) for row in _rows(image.path, table)}
    except ImageUnusable:
        return
    new = {row.name: (row.offset, row.size) for row in image.rows}
    for name in _OF_IDENTITY:
        if name in present and present[name] != new.get(name):
            raise ImageUnfit.moves_keys(image.path, name)


def layout_of(image: FirmwareImage, board: Board) -> Firmware | None:
    """Return the firmware of `board` that has the partition table of the image, None if none has."""
    found = {(row.name, row.offset, row.size) for row in image.rows}
    for each in board.firmware:
        rows = {(row.name, row.offset, row.size): row.may_lack for row in each.partitions}
        if found <= rows.keys() and all(rows[absent] for absent in rows.keys() - found):
            return each
    return None


class _ProgramImage(NamedTuple):
    """Boot loader or application: the octets of its image, its chip, its flash, and its version or ""."""

    size: int
    image_id: int
    flash_octets: int
    version: str

    @classmethod
    def read(cls, path: Path, octets: bytes, name: str) -> "_ProgramImage":
        """Return what `octets` begin with. `name` is its name for a person. Raises ImageUnusable."""
        if len(octets) < _HEADER.size:
            raise ImageUnusable.truncated(path, name)
        magic, count, flash, image_id, has_digest = _HEADER.unpack_from(octets)
        if magic != _MAGIC or not 0 < count <= _SEGMENTS_MAX:
            raise ImageUnusable.damaged(path, f"{name} has no valid header")
        checksum, at, version = _CHECKSUM_SEED, _HEADER.size, ""
        for _ in range(count):
            begin = at + _SEGMENT.size
            if len(octets) < begin:
                raise ImageUnusable.truncated(path, name)
            at = begin + _SEGMENT.unpack_from(octets, at)[0]
            if len(octets) < at:
                raise ImageUnusable.truncated(path, name)
            checksum ^= _xor(octets[begin:at])
            version = version or _version(octets[begin:at])
        end = at | 0xF  # the checksum is the last octet of a row of 16
        size = end + 1 + (_DIGEST_SIZE if has_digest else 0)
        if len(octets) < size:
            raise ImageUnusable.truncated(path, name)
        digest = hashlib.sha256(octets[: end + 1]).digest()
        if checksum != octets[end] or (has_digest and digest != octets[end + 1 : size]):
            raise ImageUnusable.damaged(path, f"{name} does not have the checksum that it names")
        mib = 1 << (flash >> 4) if flash >> 4 <= _FLASH_CODE_MAX else 0
        return cls(size, image_id, mib * KIB * KIB, version)


def _rows(path: Path, table: bytes) -> Iterator[PartitionRow]:
    """Yield the rows of a partition table, in the order of their offsets. Raises ImageUnusable."""
    end = TABLE_AT + SECTOR
    for at in range(0, TABLE_SIZE, _ROW.size):
        magic, kind, subtype, offset, size, name, _ = _ROW.unpack_from(table, at)
        if magic != _ROW_MAGIC:
            break
        text = name.rstrip(b"\0").decode("ascii", "replace")
        is_placed = not (offset % SECTOR or size % SECTOR) and end <= offset < offset + size <= SIZE_MAX
        is_ota_data = kind == _DATA and subtype == _OTA_DATA
        if not is_placed or not text.isprintable() or (is_ota_data and size != _OTA_DATA_SIZE):
            raise ImageUnusable.damaged(path, "its partition table contradicts itself")
        end = offset + size
        yield PartitionRow(text, kind, subtype, offset, size)
    if table.startswith(_SUM_MAGIC, at):
        if table[at + 16 : at + 32] != hashlib.md5(table[:at]).digest():
            raise ImageUnusable.damaged(path, "its partition table does not have the checksum that it names")
        at += _ROW.size
    if at == 0 or _is_written(table[at:]):
        raise ImageUnusable.damaged(path, "it has no partition table")


def _is_written(octets: bytes) -> bool:
    return octets.count(_ERASED) < len(octets)


def _xor(octets: bytes) -> int:
    """Return all octets XORed with each other."""
    while len(octets) > 1:
        half = (len(octets) + 1) // 2
        folded = int.from_bytes(octets[:half], "little") ^ int.from_bytes(octets[half:], "little")
        octets = folded.to_bytes(half, "little")
    return octets[0] if octets else 0


def _version(segment: bytes) -> str:
    """Return the version in the description with which the first segment of an application begins, "" if none does."""
    if len(segment) < _DESCRIPTION.size:
        return ""
    magic, version = _DESCRIPTION.unpack_from(segment)
    text = version.partition(b"\0")[0].decode("ascii", "replace") if magic == _DESCRIPTION_MAGIC else ""
    return text if text.isprintable() else ""
