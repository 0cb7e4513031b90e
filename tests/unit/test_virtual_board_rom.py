"""The ROM of virtual boards: which flash it starts a program from, and what a tool can make its loader do."""

import struct
from pathlib import Path

import pytest

from keycast.hardware.catalogue import virtual_board
from keycast.virtual_board import firmware
from keycast.virtual_board.boot_rom import POWER_ON, boot
from keycast.virtual_board.chips import CHIPS, RomChip
from keycast.virtual_board.download_mode import SYNC_FRAME, DownloadMode
from keycast.virtual_board.flash_chip import FlashChip, Part

LAYOUT = virtual_board().firmware[0]
VFS = Part("vfs", 0x200000, 0x200000)
MAC = bytes(6)
each_chip = pytest.mark.parametrize("chip", CHIPS.values(), ids=CHIPS)


def flash_in(folder: Path) -> FlashChip:
    return FlashChip(folder / "flash", 4 << 20, (Part("nvs.bin", 0x9000, 0x4000),), VFS)


def request(command: int, data: bytes, checksum: int = 0) -> bytes:
    octets = struct.pack("<BBHI", 0, command, len(data), checksum) + data
    return b"\xc0" + octets.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc") + b"\xc0"


def status(answer: bytes) -> bytes:
    """The status of the only answer of a ROM: whether it refused, and why."""
    assert answer.startswith(b"\xc0") and answer.endswith(b"\xc0")
    return answer[-5:-3]


OK, UNKNOWN, FAILED = b"\0\0", b"\1\5", b"\1\6"


@each_chip
def test_what_is_no_firmware_for_the_chip_does_not_start(tmp_path: Path, chip: RomChip) -> None:
    other = CHIPS["esp32c3" if chip.name != "esp32c3" else "esp32c6"]
    good = firmware.image(chip, LAYOUT)
    application = LAYOUT.partitions[2].offset - chip.firmware_offset

    def booted(octets: bytes) -> tuple[bool, bool, str]:
        flash.erase(0, flash.size)
        flash.write(chip.firmware_offset, octets)
        found = boot(chip, flash, POWER_ON)
        return found.starts, found.again, found.text.rstrip().rpartition("\n")[2]

    flash = flash_in(tmp_path)
    assert booted(good)[:2] == (True, False)
    assert booted(b"") == (False, True, "invalid header: 0xffffffff")
    damaged = bytearray(good)
    damaged[application + 300] ^= 1
    none = "E (80) boot: No bootable app partitions in the partition table"
    assert booted(bytes(damaged)) == (False, True, none)
    mixed = good[:application] + firmware.image(other, LAYOUT)[LAYOUT.partitions[2].offset - other.firmware_offset :]
    assert booted(mixed) == (False, True, none)
    assert booted(good.replace(firmware.PROJECT, b"micropython".ljust(len(firmware.PROJECT), b"\0")))[0] is False


def test_a_flash_turns_bits_from_1_to_0_until_its_sector_is_erased(tmp_path: Path) -> None:
    flash = flash_in(tmp_path)
    flash.write(0x9FFE, b"\x0f\x0f\x0f\x0f")
    flash.write(0x9FFE, b"\xf1\xff\xff\xf1")
    assert flash.read(0x9FFE, 4) == b"\x01\x0f\x0f\x01"
    assert (tmp_path / "flash" / "nvs.bin").read_bytes()[0xFFE:0x1002] == b"\x01\x0f\x0f\x01"
    flash.erase(0x9FFF, 1)
    assert flash.read(0x9FFE, 4) == b"\xff\xff\x0f\x01"
    for outside in (lambda: flash.read(flash.size, 1), lambda: flash.write(-1, b"a"), lambda: flash.erase(0, 5 << 20)):
        with pytest.raises(ValueError, match="are not in a flash of"):
            outside()


def test_the_flash_of_a_board_outlasts_the_board_and_its_files_go_when_their_partition_is_erased(
    tmp_path: Path,
) -> None:
    (flash_in(tmp_path).vfs / "main.py").write_text("1")
    flash_in(tmp_path).write(5, b"octets")
    flash = flash_in(tmp_path)
    assert flash.read(5, 6) == b"octets" and (flash.vfs / "main.py").exists()
    flash.erase(VFS.offset + 4096, 4096)
    assert (flash.vfs / "main.py").exists()
    flash.erase(VFS.offset, 4096)
    assert flash.vfs.is_dir() and not (flash.vfs / "main.py").exists()


def test_the_loader_finds_requests_in_any_pieces_and_among_other_octets(tmp_path: Path) -> None:
    whole = DownloadMode(CHIPS["esp32"], flash_in(tmp_path), MAC).feed(SYNC_FRAME)
    assert whole.count(b"\xc0") == 16
    loader = DownloadMode(CHIPS["esp32"], flash_in(tmp_path), MAC)
    assert b"".join(loader.feed(bytes([octet])) for octet in b"noise" + SYNC_FRAME) == whole


@pytest.mark.parametrize(
    ("command", "data", "told"),
    [
        (0x02, struct.pack("<IIII", 1 << 31, 1, 1024, 0), FAILED),  # erases more than there is
        (0x03, struct.pack("<IIII", 4, 1 << 31, 0, 0) + b"octs", b"\1\7"),  # wrong checksum
        (0x10, b"short", b"\1\x0a"),
        (0x11, struct.pack("<IIII", 4, 0, 0, 0) + b"octs", b"\1\7"),
        (0x13, struct.pack("<IIII", 0, 1 << 31, 0, 0), FAILED),
        (0x14, b"", UNKNOWN),
        (0xD0, b"", UNKNOWN),  # knows only the program that a tool loads
        (0x09, b"123", b"\1\x0a"),
        (0x0D, b"", OK),
    ],
)
def test_a_request_that_cannot_be_met_is_refused(tmp_path: Path, command: int, data: bytes, told: bytes) -> None:
    assert status(DownloadMode(CHIPS["esp32"], flash_in(tmp_path), MAC).feed(request(command, data))) == told


def test_octets_that_do_not_inflate_are_refused_and_a_block_sent_twice_is_written_once(tmp_path: Path) -> None:
    import zlib

    def block(number: int, octets: bytes) -> bytes:
        checksum = 0xEF
        for octet in octets:
            checksum ^= octet
        return request(0x11, struct.pack("<IIII", len(octets), number, 0, 0) + octets, checksum)

    flash = flash_in(tmp_path)
    loader = DownloadMode(CHIPS["esp32"], flash, MAC)
    loader.feed(request(0x10, struct.pack("<IIII", 4096, 2, 64, 0x1000)))
    assert status(loader.feed(block(0, b"no zlib"))) == b"\1\x0b"
    loader.feed(request(0x10, struct.pack("<IIII", 4096, 2, 64, 0x1000)))
    deflated = zlib.compress(bytes(range(200)))
    assert [status(loader.feed(each)) for each in (block(0, deflated[:50]), block(0, deflated[:50]))] == [OK, OK]
    assert status(loader.feed(block(2, deflated[50:]))) == FAILED
    assert status(loader.feed(block(1, deflated[50:]))) == OK
    assert flash.read(0x1000, 200) == bytes(range(200))


def test_a_watchdog_that_a_tool_starts_resets_a_chip_with_usb_of_its_own(tmp_path: Path) -> None:
    loader = DownloadMode(CHIPS["esp32s3"], flash_in(tmp_path), MAC)
    assert not loader.leaves
    loader.feed(request(0x09, struct.pack("<IIII", 0x60008098, 1 << 31, 0xFFFFFFFF, 0)))
    assert loader.leaves
