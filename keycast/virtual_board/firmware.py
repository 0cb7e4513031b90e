"""The firmware of virtual boards: an image like those for an ESP32, which a tool checks and writes as any other.

It has a boot loader, a partition table and an application in Espressif's formats; but the programs in it are texts, as
the MicroPython that runs is that of this machine. It is the same octets always, so its digest is in
`hw_configs/boards/virtual.toml`.
"""

import hashlib
import os
import struct
from pathlib import Path

from keycast.hardware.board import Firmware
from keycast.virtual_board.chips import RomChip

VERSION = "1.25.0"
PROJECT = b"keycast virtual board"
TABLE_AT = 0x8000
_ERASED = b"\xff"
_MAGIC = 0xE9
_IMAGE = struct.Struct("<BBBBIB3xHBHH4xB")
_DIO, _SIZE_4_MIB = 2, 0x20
_PINS_OFF = 0xEE
_ANY_REVISION = 0xFFFF
_SEGMENT = struct.Struct("<II")
_LOADED_AT = 0x3FFF0030
_ENTRY = 0x40080400
_CHECKSUM_SEED = 0xEF
_DESCRIPTION = struct.Struct("<II8x32s32s16s16s32s32s20x")
_DESCRIPTION_MAGIC = 0xABCD5432
_DESCRIPTION_SIZE = 256
_ROW = struct.Struct("<HBBII16sI")
_ROW_MAGIC = 0x50AA
_SUM_MAGIC = b"\xeb\xeb" + b"\xff" * 14
_TABLE_SIZE = 0xC00
_SUBTYPES = {"nvs": 2, "phy_init": 1, "otadata": 0, "factory": 0}  # others: 0x81, FAT, which MicroPython has for `vfs`
_SUBTYPE_VFS = 0x81


def image(chip: RomChip, layout: Firmware) -> bytes:
    """Return the image for a `chip`, to be written at its `firmware_offset`, with the partition table of `layout`."""
    loader = _program(chip, b"The boot loader of a virtual board.\n")
    application = next(row for row in layout.partitions if row.type == "app")
    found = loader.ljust(TABLE_AT - chip.firmware_offset, _ERASED) + _table(layout)
    found = found.ljust(application.offset - chip.firmware_offset, _ERASED)
    return found + _program(chip, _description() + b"MicroPython of this machine, as the application.\n")


def write(path: Path, octets: bytes) -> None:
    """Write an image to a file, which appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.write_bytes(octets)
    part.replace(path)


def _program(chip: RomChip, text: bytes) -> bytes:
    segment = text.ljust(-(-len(text) // 4) * 4, b"\0")
    revisions = (0, 0, _ANY_REVISION)
    head = _IMAGE.pack(_MAGIC, 1, _DIO, _SIZE_4_MIB, _ENTRY, _PINS_OFF, chip.image_id, *revisions, 1)
    octets = head + _SEGMENT.pack(_LOADED_AT, len(segment)) + segment
    checksum = _CHECKSUM_SEED
    for octet in segment:
        checksum ^= octet
    octets = octets.ljust(len(octets) | 0xF, b"\0") + bytes([checksum])
    return octets + hashlib.sha256(octets).digest()


def _description() -> bytes:
    return _DESCRIPTION.pack(
        _DESCRIPTION_MAGIC, 0, VERSION.encode(), PROJECT, b"", b"", b"", hashlib.sha256(PROJECT).digest()
    ).ljust(_DESCRIPTION_SIZE, b"\0")


def _table(layout: Firmware) -> bytes:
    rows = b"".join(
        _ROW.pack(
            _ROW_MAGIC,
            row.type == "data",
            _SUBTYPES.get(row.name, _SUBTYPE_VFS),
            row.offset,
            row.size,
            row.name.encode(),
            0,
        )
        for row in layout.partitions
    )
    return (rows + _SUM_MAGIC + hashlib.md5(rows).digest()).ljust(_TABLE_SIZE, _ERASED)
