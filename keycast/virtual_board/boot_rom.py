"""What an ESP32 does after a reset, before a program runs: its ROM and boot loader look at the flash, and print.

The lines are those of the real ones, as tools and people read them: why the chip was reset, and why nothing starts.
"""

import hashlib
import struct
from dataclasses import dataclass

from keycast.virtual_board import firmware
from keycast.virtual_board.chips import RomChip
from keycast.virtual_board.flash_chip import FlashChip

POWER_ON = (0x1, "POWERON_RESET")
SOFTWARE = (0xC, "SW_CPU_RESET")
WATCHDOG = (0x8, "TG1WDT_SYS_RESET")
NOTHING_STARTED = (0x10, "RTCWDT_RTC_RESET")
"""Why a chip was reset: the number that its ROM prints, and the name."""

_HEADER = struct.Struct("<BB10xH9xB")
_SEGMENT = struct.Struct("<4xI")
_MAGIC = 0xE9
_CHIP_IDS = {0: "ESP32", 5: "ESP32-C3", 9: "ESP32-S3", 13: "ESP32-C6"}
_ROW = struct.Struct("<HBBII16s4x")
_ROW_MAGIC = 0x50AA
_TABLE_SIZE = 0xC00
_PROJECT_AT = 48  # in the description with which an application begins
_READ_MAX = 1 << 20
_NOT_BOOTABLE = (
    "E (70) boot: Factory app partition is not bootable\n"
    "E (80) boot: No bootable app partitions in the partition table\n"
)


@dataclass(frozen=True)
class Boot:
    """What came of a reset: the printed lines, whether MicroPython starts, and whether the chip is soon reset again."""

    text: str
    starts: bool = False
    again: bool = False


def boot(chip: RomChip, flash: FlashChip, reason: tuple[int, str]) -> Boot:
    """Return what the chip does after a reset for this reason."""
    head = f"{chip.banner}\n\nrst:{reason[0]:#x} ({reason[1]}),boot:{chip.boot_mode:#x} (SPI_FAST_FLASH_BOOT)\n"
    magic = int.from_bytes(flash.read(chip.firmware_offset, 4), "little")
    if magic & 0xFF != _MAGIC:
        return Boot(head + f"invalid header: {magic:#010x}\n" * 3, again=True)
    loader = _program(flash, chip.firmware_offset)
    if isinstance(loader, str) or loader[0] != chip.image_id:
        return Boot(f"{head}{loader if isinstance(loader, str) else 'Invalid image block'}, can't boot.\n", again=True)
    head += f"load:0x3fff0030,len:{len(loader[1])}\nentry 0x400805ac\n"
    at = _application(flash)
    if at is None:
        return Boot(head + "E (30) boot: No bootable app partitions in the partition table\n", again=True)
    application = _program(flash, at)
    if isinstance(application, str):
        return Boot(head + f"E (60) esp_image: {application}\n{_NOT_BOOTABLE}", again=True)
    image_id, segment = application
    if image_id != chip.image_id:
        text = f"E (60) boot_comm: mismatch chip ID, expected {chip.image_id}, found {image_id}\n"
        return Boot(head + text + _NOT_BOOTABLE, again=True)
    if segment[_PROJECT_AT:].partition(b"\0")[0] != firmware.PROJECT:
        return Boot(head + f"This is firmware for a real {_CHIP_IDS[image_id]}: a virtual board cannot run it.\n")
    return Boot(head, starts=True)


def download(chip: RomChip, reason: tuple[int, str]) -> str:
    """Return what the chip prints when its BOOT button was held at a reset."""
    mode = f"boot:{chip.download_mode:#x} (DOWNLOAD(USB/UART0))"
    return f"{chip.banner}\n\nrst:{reason[0]:#x} ({reason[1]}),{mode}\nwaiting for download\n"


def _application(flash: FlashChip) -> int | None:
    """Return the address of the first partition for an application, None if the table has none."""
    for magic, kind, _, offset, size, _ in _ROW.iter_unpack(flash.read(firmware.TABLE_AT, _TABLE_SIZE)):
        if magic != _ROW_MAGIC:
            return None
        if kind == 0 and offset + size <= flash.size:
            return int(offset)
    return None


def _program(flash: FlashChip, at: int) -> tuple[int, bytes] | str:
    """Return the chip and the first segment of the program image at an address, or the fault that it has."""
    octets = flash.read(at, min(_READ_MAX, flash.size - at))
    magic, count, image_id, has_digest = _HEADER.unpack_from(octets)
    if magic != _MAGIC:
        return f"image at {at:#x} has invalid magic byte (nothing flashed here?)"
    first, end = b"", _HEADER.size
    for _ in range(count):
        if end + _SEGMENT.size > len(octets):
            return "Invalid image block"
        begin = end + _SEGMENT.size
        end = begin + _SEGMENT.unpack_from(octets, end)[0]
        first = first or octets[begin:end]
    end = (end | 0xF) + 1
    if has_digest and hashlib.sha256(octets[:end]).digest() != octets[end : end + 32]:
        return "Image hash failed - image is corrupt"
    return image_id, first
