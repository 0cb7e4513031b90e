"""What the ROM loaders of ESP32 chips tell a tool about their chip: identity, registers, the id of the flash.

The addresses are those that esptool reads to learn which chip it is connected to. A register that is not listed reads
as 0, which is the state of a new chip in almost all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

_MAGIC_ADDRESS = 0x40001000  # a word of the ROM that differs between the older chips
_FLASH_MAKER, _FLASH_KIND = 0x20, 0x40
_XTAL_MHZ = 40
_ROM_BAUD = 115200


@dataclass(frozen=True)
class SpiRegisters:
    """The controller of the flash: its address, and offsets of the registers by which a tool sends a command."""

    base: int
    user2: int
    data: int


@dataclass(frozen=True)
class RomChip:
    """One kind of chip. `image_id` is that of its firmware images.

    `mac` is where the address of the board is: its last four octets in the register there, the others in the next one.
    `boot_mode` and `download_mode` are the values of the strapping pins that its ROM prints. `has_security_info`: the
    loader knows the command GET_SECURITY_INFO, with the image id in its answer. `watchdog` is the register that starts
    the watchdog, by which tools reset chips with native USB, or None.
    """

    name: str
    image_id: int
    firmware_offset: int
    banner: str
    boot_mode: int
    download_mode: int
    spi: SpiRegisters
    mac: int
    registers: Mapping[int, int]
    has_security_info: bool = True
    watchdog: int | None = None


def flash_id(octets: int) -> int:
    """Return the answer of a flash of this many octets, a power of two, to the command "read identification"."""
    return (octets.bit_length() - 1) << 16 | _FLASH_KIND << 8 | _FLASH_MAKER


def registers(chip: RomChip, mac: bytes) -> dict[int, int]:
    """Return the registers of a chip with this MAC address (6 octets) that do not read as 0."""
    return {**chip.registers, chip.mac: int.from_bytes(mac[2:], "big"), chip.mac + 4: int.from_bytes(mac[:2], "big")}


_ESP32_FUSES = 0x3FF5A000
_ESP32 = RomChip(
    "esp32",
    0,
    0x1000,
    "ets Jul 29 2019 12:21:46",
    0x13,
    0x3,
    SpiRegisters(0x3FF42000, user2=0x24, data=0x80),
    _ESP32_FUSES + 0x4,
    {
        _MAGIC_ADDRESS: 0x00F01D83,
        _ESP32_FUSES + 0xC: 1 << 15,  # revision 3, in three parts
        _ESP32_FUSES + 0x14: 1 << 20,
        0x3FF6607C: 1 << 31,
        _ESP32_FUSES + 0x10: 128,  # with the next one: a crystal of 40 MHz
        0x3FF5F06C: _XTAL_MHZ * 1_000_000 * 40 // (15625 * 128) << 7,
        0x3FF40014: _XTAL_MHZ * 1_000_000 // _ROM_BAUD,
    },
    has_security_info=False,
)
_S3_FUSES = 0x60007000
_ESP32S3 = RomChip(
    "esp32s3",
    9,
    0,
    "ESP-ROM:esp32s3-20210327",
    0x8,
    0x0,
    SpiRegisters(0x60002000, user2=0x20, data=0x58),
    _S3_FUSES + 0x44,
    {_S3_FUSES + 0x58: 1 << 23},
    watchdog=0x60008098,
)
_C3_FUSES = 0x60008800
_ESP32C3 = RomChip(
    "esp32c3",
    5,
    0,
    "ESP-ROM:esp32c3-api1-20210207",
    0xC,
    0x4,
    SpiRegisters(0x60002000, user2=0x20, data=0x58),
    _C3_FUSES + 0x44,
    {_C3_FUSES + 0x50: 1 << 27 | 3 << 18},
    watchdog=0x60008090,
)
_C6_FUSES = 0x600B0800
_ESP32C6 = RomChip(
    "esp32c6",
    13,
    0,
    "ESP-ROM:esp32c6-20220919",
    0xC,
    0x4,
    SpiRegisters(0x60003000, user2=0x20, data=0x58),
    _C6_FUSES + 0x44,
    {_C6_FUSES + 0x54: 1},
)

CHIPS = {chip.name: chip for chip in (_ESP32, _ESP32S3, _ESP32C3, _ESP32C6)}
"""The chips by the name that `hw_configs/` and esptool have for them."""
