"""Firmware images for tests, in the formats of Espressif's ROM and partition table, for any board of `hw_configs/`."""

import hashlib
import struct
from collections.abc import Sequence
from functools import reduce
from operator import xor

from keycast.hardware.board import Board, Partition

TABLE_AT, TABLE_SIZE = 0x8000, 0xC00
_APP, _DATA = 0, 1
_SUBTYPES = {"nvs": 2, "otadata": 0, "phy_init": 1, "factory": 0, "ota_0": 0x10, "ota_1": 0x11, "vfs": 0x81}


def program(
    image_id: int, payload: bytes = b"code", *, flash: int = 2, digest: bool = True, version: str = ""
) -> bytes:
    """A boot loader, or with `version` an application, for the chip `image_id`. `flash` is the code of its size."""
    description = struct.pack("<I12x32s208x", 0xABCD5432, version.encode()) if version else b""
    segments = [description + payload, payload[::-1]]
    body = struct.pack("<BBBBI4xHBHH4xB", 0xE9, len(segments), 2, flash << 4, 0x40080000, image_id, 0, 0, 99, digest)
    for each in segments:
        body += struct.pack("<II", 0x3F400000, len(each)) + each
    body += bytes(15 - len(body) % 16) + bytes([reduce(xor, b"".join(segments), 0xEF)])
    return body + (hashlib.sha256(body).digest() if digest else b"")


def table(rows: Sequence[Partition], digest: bool = True) -> bytes:
    """A partition table as it stands in the flash."""
    out = b""
    for row in rows:
        kind = _APP if row.type == "app" else _DATA
        name = row.name.encode()
        out += struct.pack("<HBBII16sI", 0x50AA, kind, _SUBTYPES.get(row.name, 0x40), row.offset, row.size, name, 0)
    if digest:
        out += b"\xeb\xeb" + b"\xff" * 14 + hashlib.md5(out).digest()
    return out.ljust(TABLE_SIZE, b"\xff")


def image(board: Board, number: int = 0, payload: bytes = b"code", version: str = "v1.25.0") -> bytes:
    """An image of firmware `number` of the board, as its maker would publish it."""
    rows = [row for row in board.firmware[number].partitions if not row.may_lack]
    chip, start = board.chip.image_id, board.chip.firmware_offset
    out = program(chip).ljust(TABLE_AT - start, b"\xff") + table(rows)
    first = next(row for row in rows if row.type == "app")
    return out.ljust(first.offset - start, b"\xff") + program(chip, payload, version=version)
