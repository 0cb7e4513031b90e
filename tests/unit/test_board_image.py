"""A firmware image is written only if it is whole, for this board, and vouched for; the identity of a board stays."""

import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from keycast.board import image
from keycast.board.faults import ImageUnfit, ImageUnusable
from keycast.board.image import FirmwareImage
from keycast.hardware.board import Image
from keycast.hardware.catalogue import all_boards
from tests.unit import firmware_images

BOARDS = all_boards()
ESP32 = BOARDS["esp32-devkitc"]
GOOD = firmware_images.image(ESP32)
CHIPS = {board.chip.image_id: board.chip for board in BOARDS.values()}
EACH_FIRMWARE = [(name, number) for name, board in BOARDS.items() for number in range(len(board.firmware))]
MIB = 1024 * 1024


def parse(octets: bytes) -> FirmwareImage:
    return image.parse(Path("fw.bin"), octets, CHIPS)


@pytest.mark.parametrize(("name", "number"), EACH_FIRMWARE)
def test_an_image_of_each_firmware_that_we_know(name: str, number: int, tmp_path: Path) -> None:
    board = BOARDS[name]
    path = tmp_path / "fw.bin"
    path.write_bytes(firmware_images.image(board, number))
    found = image.read(path, BOARDS)
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest() and found.version == "v1.25.0"
    assert image.layout_of(found, board) == board.firmware[number]
    assert found.has_romfs == (board.firmware[number].code == "flash")
    image.require_fit(found, board, board.chip.name, board.flash_mib * MIB)
    assert [part.offset for part in found.parts][:2] == [board.chip.firmware_offset, 0x8000]


def test_what_is_written_leaves_the_identity_of_a_board_alone() -> None:
    """The file has 0xFF where the flash of a board has NVS."""
    nvs = next(row for row in ESP32.firmware[0].partitions if row.name == "nvs")
    over_nvs = GOOD[: nvs.offset - 0x1000] + b"\0" * nvs.size + GOOD[nvs.end - 0x1000 :]
    for octets in (GOOD, over_nvs):
        for part in parse(octets).parts:
            assert part.offset + len(part.octets) <= nvs.offset or part.offset >= nvs.end, part.name


def test_the_application_of_the_image_starts_and_not_the_one_of_another_slot() -> None:
    ota = next(number for number, each in enumerate(ESP32.firmware) if each.name.endswith("-OTA"))
    parts = {part.name: part for part in parse(firmware_images.image(ESP32, ota)).parts}
    assert parts["otadata"].octets == b"\xff" * 0x2000 and parts["ota_0"].offset == 0x10000 and "ota_1" not in parts


def test_an_image_carries_its_romfs() -> None:
    romfs = next(number for number, each in enumerate(ESP32.firmware) if each.code == "flash")
    row = next(row for row in ESP32.firmware[romfs].partitions if row.name == "romfs")
    octets = firmware_images.image(ESP32, romfs).ljust(row.offset - 0x1000, b"\xff") + b"\xd2\xcd\x31"
    assert parse(octets).parts[-1] == ("romfs", row.offset, b"\xd2\xcd\x31")


@pytest.mark.parametrize(
    ("octets", "is_what"),
    [(b"", "empty"), (b"<!DOCTYPE html>", "a web page"), (b"\x7fELF", "an ELF file"), (b"UF2\n", "a UF2 file"),
     (b"\n <html>", "a web page"), (b"PK\3\4", "a ZIP archive"), (b"hello", "something else")],
)  # fmt: skip
def test_a_file_that_is_no_image_is_named_for_what_it_is(octets: bytes, is_what: str) -> None:
    with pytest.raises(ImageUnusable, match=rf"fw\.bin is no firmware image but {is_what}\. Take the file ending in"):
        parse(octets)


def test_a_file_that_ends_early_says_so_wherever_it_ends() -> None:
    ends = [*range(1, 200), 0x6FFF, 0x7001, 0x7BFF, 0x7C00, 0xEFFF, *range(0xF001, len(GOOD))]
    for end in ends:
        with pytest.raises(ImageUnusable) as caught:
            parse(GOOD[:end])
        assert "ends within" in str(caught.value) or "holds no application" in str(caught.value), end


def test_an_octet_that_changed_is_noticed_wherever_something_is() -> None:
    flags = (0x17, 0xF017)  # a digest follows; without it the checksum counts alone
    changed = [at for at, octet in enumerate(GOOD) if octet != 0xFF and at not in flags]
    for at in changed[:: max(1, len(changed) // 500)]:
        octets = bytearray(GOOD)
        octets[at] ^= 1
        with pytest.raises(ImageUnusable):
            parse(bytes(octets))


def test_an_application_alone_is_refused() -> None:
    alone = firmware_images.program(0, bytes(0x9000), version="v1.25.0")
    with pytest.raises(ImageUnusable, match=r"the application only.*not the one ending in \.app-bin"):
        parse(alone)


def test_a_chip_that_no_board_has_is_refused() -> None:
    with pytest.raises(ImageUnusable, match=r"chip that keycast does not know \(chip id 18\)"):
        parse(firmware_images.program(18))


def test_an_application_for_another_chip_than_its_boot_loader_is_refused() -> None:
    with pytest.raises(ImageUnusable, match="for another chip than its boot loader"):
        parse(GOOD[:0xF000] + firmware_images.program(9, version="v1"))


def test_a_file_larger_than_any_flash_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "SIZE_MAX", len(GOOD) - 1)
    (tmp_path / "fw.bin").write_bytes(GOOD)
    with pytest.raises(ImageUnusable, match="larger than any flash"):
        image.read(tmp_path / "fw.bin", BOARDS)


def test_wrong_chip_and_a_flash_that_is_too_small() -> None:
    found = parse(GOOD)
    image.require_fit(found, ESP32, "esp32", None)
    with pytest.raises(ImageUnfit, match="is for the chip esp32; this board has the chip esp32s3"):
        image.require_fit(found, ESP32, "esp32s3", None)
    with pytest.raises(ImageUnfit, match="needs 4 MiB of flash; this board has 2 MiB"):
        image.require_fit(found, ESP32, "esp32", 2 * MIB)
    eight = firmware_images.program(0, flash=3)
    with pytest.raises(ImageUnfit, match="needs 8 MiB of flash; this board has 4 MiB"):
        image.require_fit(parse(eight + GOOD[len(eight) :]), ESP32, "esp32", 4 * MIB)


def test_firmware_that_looks_for_the_identity_elsewhere_is_refused() -> None:
    ota = next(number for number, each in enumerate(ESP32.firmware) if each.name.endswith("-OTA"))
    found = parse(firmware_images.image(ESP32, ota))
    for harmless in (b"\xff" * 0xC00, b"\0" * 0xC00, firmware_images.table(ESP32.firmware[ota].partitions)):
        image.require_same_place(found, harmless)
    with pytest.raises(ImageUnfit, match=r"another place for the partition nvs.*--erase"):
        image.require_same_place(found, firmware_images.table(ESP32.firmware[0].partitions))


def test_a_file_that_nobody_vouched_for_is_never_written_silently() -> None:
    found = parse(GOOD)
    with pytest.raises(ImageUnusable, match=f"in no list of keycast.* --yes.* --sha256 {found.sha256}"):
        image.require_known(found, BOARDS, None, trusted=False)
    image.require_known(found, BOARDS, None, trusted=True)
    image.require_known(found, BOARDS, found.sha256.upper(), trusted=False)
    for trusted in (True, False):
        with pytest.raises(ImageUnusable, match=f"its SHA-256 is {found.sha256}, not {'0' * 64}"):
            image.require_known(found, BOARDS, "0" * 64, trusted)


def test_a_digest_that_a_hardware_file_lists_is_enough() -> None:
    found = parse(GOOD)
    firmware = ESP32.firmware[0].model_copy(update={"images": (Image(version="1.25.0", sha256=found.sha256),)})
    image.require_known(found, {"x": ESP32.model_copy(update={"firmware": (firmware,)})}, None, trusted=False)


@dataclass
class Row:
    """A row of a partition table that no hardware file may have."""

    name: str = "factory"
    type: str = "app"
    offset: int = 0x10000
    size: int = 0x10000


@pytest.mark.parametrize(
    "row",
    [Row(offset=0x8000), Row(offset=0x10800), Row(size=0x10800), Row(offset=0xFFFFF000, size=0xFFFFF000),
     Row(name="\x1b[2J"), Row(size=0)],
)  # fmt: skip
def test_a_partition_table_that_contradicts_itself_is_refused(row: Any) -> None:
    octets = GOOD[:0x7000] + firmware_images.table([row]) + GOOD[0x7C00:]
    with pytest.raises(ImageUnusable):
        parse(octets)


def test_a_partition_table_without_checksum_is_read() -> None:
    rows = [row for row in ESP32.firmware[0].partitions if not row.may_lack]
    assert parse(GOOD[:0x7000] + firmware_images.table(rows, digest=False) + GOOD[0x7C00:]).rows == parse(GOOD).rows


def test_the_layout_of_an_unknown_firmware_is_none_of_a_board() -> None:
    rows: list[Any] = [*ESP32.firmware[0].partitions[:3], Row("mine", "data", 0x300000)]
    assert image.layout_of(parse(GOOD[:0x7000] + firmware_images.table(rows) + GOOD[0x7C00:]), ESP32) is None


def test_a_program_without_a_digest_is_checked_by_its_checksum() -> None:
    loader = firmware_images.program(0, digest=False)
    octets = loader + b"\xff" * (0x7000 - len(loader)) + GOOD[0x7000:]
    assert parse(octets).version == "v1.25.0"
    with pytest.raises(ImageUnusable, match="does not have the checksum"):
        parse(octets.replace(b"code", b"cod3", 1))


def test_a_length_that_points_anywhere_is_not_trusted() -> None:
    for length in (0x7FFFFFFF, 0xFFFFFFFF, 0x10000):
        octets = bytearray(GOOD)
        struct.pack_into("<I", octets, 28, length)
        with pytest.raises(ImageUnusable):
            parse(bytes(octets))


def test_boards_of_one_chip_share_where_an_image_begins() -> None:
    assert all(CHIPS[board.chip.image_id].firmware_offset == board.chip.firmware_offset for board in BOARDS.values())
