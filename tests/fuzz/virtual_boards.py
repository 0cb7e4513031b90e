"""Fuzz targets: what a tool sends to the ROM of a virtual board, and what it leaves in the flash."""

import struct
import tempfile
from functools import cache
from pathlib import Path

from keycast.hardware.catalogue import virtual_board
from keycast.virtual_board import firmware
from keycast.virtual_board.boot_rom import POWER_ON, boot
from keycast.virtual_board.chips import CHIPS
from keycast.virtual_board.download_mode import SYNC_FRAME, DownloadMode
from keycast.virtual_board.flash_chip import FlashChip, Part
from tests.fuzz.target import Target

_MAC = bytes(6)
_SMALL, _WHOLE = 1 << 16, 4 << 20
_NEXT = b"|next request|"
_BLOCK = struct.pack("<IIII", 8, 0, 0, 0)
_REQUESTS = (
    b"\x02" + struct.pack("<IIII", 4096, 1, 64, 0x1000),
    b"\x03" + _BLOCK + b"8 octets",
    b"\x10" + struct.pack("<IIII", 4096, 1, 64, 0x1000),
    b"\x11" + _BLOCK + b"\x78\x9c\x03\x00\x00\x00\x00\x01",
    b"\x13" + struct.pack("<IIII", 0, 64, 0, 0),
    b"\x06" + struct.pack("<II", 0, 0x40080000),
    b"\xd2" + struct.pack("<IIII", 0, 256, 64, 1),
    b"\xd1" + struct.pack("<II", 4096, 4096),
    b"\x09" + struct.pack("<IIII", 0x60008098, 1 << 31, 0xFFFFFFFF, 0),
    b"\x0a" + struct.pack("<I", 0x40001000),
)


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


@cache
def _flash(size: int) -> FlashChip:
    return FlashChip(Path(_folder().name) / str(size), size, (), Part("vfs", size // 2, size // 2))


def _frames(data: bytes) -> None:
    """The input is what comes over the line."""
    for chip in CHIPS.values():
        DownloadMode(chip, _flash(_SMALL), _MAC).feed(data)


def _requests(data: bytes) -> None:
    """The input is requests, each a command and data, whose frames are right."""
    loader = DownloadMode(CHIPS["esp32c3"], _flash(_SMALL), _MAC)
    for request in data.split(_NEXT):
        checksum = 0xEF
        for octet in request[17:]:
            checksum ^= octet
        octets = struct.pack("<BBHI", 0, request[0] if request else 0, len(request[1:]) & 0xFFFF, checksum)
        octets += request[1:]
        frame = b"\xc0" + octets.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc") + b"\xc0"
        if len(loader.feed(frame)) > 2 * _SMALL:
            raise AssertionError("the answer is longer than the flash")


def _boot(data: bytes) -> None:
    """The input is a boot loader, a partition table and an application, without the erased flash between them."""
    flash = _flash(_WHOLE)
    flash.erase(0, 0x20000)
    for address, octets in zip((0x1000, 0x8000, 0x10000), data.split(_NEXT), strict=False):
        flash.write(address, octets[:4096])
    boot(CHIPS["esp32"], flash, POWER_ON)


_IMAGE = firmware.image(CHIPS["esp32"], virtual_board().firmware[0])
_PARTS = (_IMAGE[:0x100], _IMAGE[0x7000:0x7100], _IMAGE[0xF000:])

TARGETS = (
    Target("rom-loader-line", _frames, (), (SYNC_FRAME, b"\xc0\x00\x0a\x04\x00\x00\x00\x00\x00\x00\x10\x00\x40\xc0")),
    Target("rom-loader-requests", _requests, (), (_NEXT.join(_REQUESTS), *_REQUESTS)),
    Target("boot-rom", _boot, (), (_NEXT.join(_PARTS),)),
)
