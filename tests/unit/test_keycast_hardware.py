"""The hardware files: complete, without contradiction, and in step with what the programs and docs/boards.md say."""

import re
from itertools import combinations
from pathlib import Path

import pytest

from cpns import cborlite
from keycast.board import board_record, image
from keycast.hardware.board import Board
from keycast.hardware.catalogue import (
    VIRTUAL,
    BadHardwareFile,
    all_boards,
    all_hardware,
    load,
    usb_matches,
    virtual_board,
)
from keycast.hardware.gateway import Gateway
from keycast.places import HW_CONFIGS
from keycast.virtual_board import board as commanded_board
from keycast.virtual_board import firmware, vm_process
from keycast.virtual_board.chips import CHIPS as ROM_CHIPS
from tools import PROJECT, boards_page

HARDWARE = all_hardware()
BOARDS = all_boards()
BOARD = HW_CONFIGS / "boards" / "esp32-c3-devkitm-1.toml"

# The chip id of an image, the address that the ROM starts from, and the pins that choose how: by the data sheets.
CHIPS = {
    "esp32": (0, 0x1000, (0, 2, 5, 12, 15)),
    "esp32s3": (9, 0x0, (0, 3, 45, 46)),
    "esp32c3": (5, 0x0, (2, 8, 9)),
    "esp32c6": (13, 0x0, (4, 5, 8, 9, 15)),
}
BRIDGES = {"10c4:ea60", "1a86:7523", "1a86:55d4", "0403:6001", "0403:6010"}
each_board = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)


def test_the_folder_holds_the_boards_and_gateways_that_we_support():
    assert BOARDS.keys() >= {
        "esp32-devkitc",
        "esp32-s3-devkitc-1",
        "esp32-c3-devkitm-1",
        "esp32-c6-devkitc-1",
        "m5stack-atom",
        "xiao-esp32c3",
    }
    gateways = {name for name, each in HARDWARE.items() if isinstance(each, Gateway)}
    assert gateways >= {"debian", "rpi3bplus", "rpi4", "rpi5", "zero2w"}
    assert len(HARDWARE) == len(list(HW_CONFIGS.rglob("*.toml")))


def test_the_virtual_board_has_the_heap_its_file_says():
    assert virtual_board().memory.heap_kib == commanded_board.HEAP_KIB == vm_process.HEAP_KIB


def test_the_image_for_virtual_boards_is_the_known_one_and_fits():
    board = virtual_board()
    (layout,) = board.firmware
    octets = firmware.image(ROM_CHIPS[board.chip.name], layout)
    found = image.parse(Path("image"), octets, {board.chip.image_id: board.chip})
    image.require_fit(found, board, board.chip.name, None)
    image.require_known(found, {VIRTUAL: board}, None, trusted=False)
    assert image.layout_of(found, board) == layout
    assert found.version == layout.images[0].version == firmware.VERSION


def test_the_simulated_rom_has_the_chips_of_the_boards():
    assert {board.chip.name for board in (*BOARDS.values(), virtual_board())} <= ROM_CHIPS.keys()
    for board in BOARDS.values():
        rom = ROM_CHIPS[board.chip.name]
        assert (rom.image_id, rom.firmware_offset) == (board.chip.image_id, board.chip.firmware_offset)


@each_board
def test_a_board_has_what_its_chip_has(board: Board):
    assert (board.chip.image_id, board.chip.firmware_offset, board.chip.strapping_pins) == CHIPS[board.chip.name]


@each_board
def test_a_person_finds_the_buttons_in_the_words_for_the_boot_loader(board: Board):
    """Only printed names can be found; a board without a BOOT button says so."""
    boots = [button for button in board.buttons if button.does == "boot"]
    for button in (*boots, *(each for each in board.buttons if each.does == "reset")):
        assert re.search(rf"\b{button.label}\b", board.enter_boot_loader)
    assert boots or "no BOOT button" in board.enter_boot_loader
    assert all((button.pin is None) == (button.does == "reset") for button in board.buttons)


@each_board
def test_light_button_and_uart_have_a_pin_each(board: Board):
    pins = [each.pin for each in (*board.buttons, *board.leds) if each.pin is not None]
    assert len({*pins, board.uart.tx, board.uart.rx}) == len(pins) + 2


@each_board
def test_every_layout_ends_with_the_flash_that_it_is_for(board: Board):
    for each in board.firmware:
        size_mib = board.flash_mib if each.origin == "published" else 4  # ours is one for all
        assert each.partitions[-1].end == size_mib * 1024 * 1024, each.name


@each_board
def test_code_runs_from_flash_where_a_romfs_partition_is(board: Board):
    for each in board.firmware:
        assert (each.code == "flash") == any(row.name == "romfs" for row in each.partitions), each.name


@each_board
def test_a_board_says_where_its_facts_are_from(board: Board):
    assert board.sources and "memory.heap_kib" in board.unverified


RECORDS = {
    "esp32-devkitc": [1, "esp32-devkitc", -1, "plain", 0, [2, 33, 32]],
    "esp32-s3-devkitc-1": [1, "esp32-s3-devkitc-1", 38, "rgb", 0, []],
    "m5stack-atom": [1, "m5stack-atom", 27, "rgb", 39, [1, 10, 9]],
    "xiao-esp32c3": [1, "xiao-esp32c3", -1, "plain", 9, [1, 1, 0]],
}


@pytest.mark.parametrize("name", RECORDS)
def test_the_record_for_a_board_has_its_pins(name: str):
    assert cborlite.decode(board_record.pack(name, BOARDS[name])) == RECORDS[name]


def test_the_record_has_the_light_of_the_revision():
    name = "esp32-s3-devkitc-1"
    assert cborlite.decode(board_record.pack(name, BOARDS[name], "v1.0"))[2] == 48


def test_a_usb_id_is_that_of_a_bridge_or_of_a_chip():
    by_kind = {kind: {each for each in usb_ids() if kind in kinds(each)} for kind in ("bridge", "native")}
    assert by_kind == {"bridge": BRIDGES, "native": {"303a:1001", "303a:4001"}}
    assert usb_matches("1234:5678", BOARDS) == []


def usb_ids() -> set[str]:
    return {each for board in BOARDS.values() for socket in board.sockets for _, ids in socket.usb_ids for each in ids}


def kinds(usb_id: str) -> set[str]:
    return {seen.socket.kind for seen in usb_matches(usb_id, BOARDS)}


def test_boards_of_one_chip_show_the_same_native_ids():
    native = [
        (board.chip.name, socket.usb_ids)
        for board in BOARDS.values()
        for socket in board.sockets
        if socket.kind == "native"
    ]
    assert all(one[1] == other[1] for one, other in combinations(native, 2) if one[0] == other[0])


def test_micropython_on_an_s3_is_told_from_its_boot_rom():
    (s3,) = usb_matches("303a:4001", BOARDS)
    assert (s3.file, s3.socket.label, s3.states) == ("esp32-s3-devkitc-1", "USB", ("micropython",))
    by_file = {seen.file: seen.states for seen in usb_matches("303a:1001", BOARDS)}
    assert by_file["esp32-s3-devkitc-1"] == ("boot_rom",)
    assert by_file["xiao-esp32c3"] == ("boot_rom", "micropython")
    assert "esp32-c3-devkitm-1" not in by_file  # its socket is a bridge's


def test_no_original_esp32_has_extended_advertising():
    for board in BOARDS.values():
        if board.chip.name == "esp32":
            assert "No original ESP32 has hardware for extended advertising." in board.notes


def test_the_readme_says_which_micropython_is_old_enough_for_all_boards():
    (said,) = set(re.findall(r"MicroPython (1\.\d+) or newer", (PROJECT / "README.md").read_text()))
    assert {each.oldest_micropython for each in BOARDS.values()} == {f"{said}.0"}


def test_the_page_of_boards_is_current():
    assert boards_page.PAGE.read_text(encoding="utf-8") == boards_page.page(), "run: python -m tools.boards_page"


def test_the_page_names_everything_in_doubt():
    page = boards_page.page()
    assert all(f"`{file}`" in page for file, each in HARDWARE.items())
    for board in BOARDS.values():
        assert all(f"`{place}`: {doubt}" in page for place, doubt in board.unverified.items())


STRAPPING = 'strapping = "The board\'s light is wired to GPIO8; drive it only when the program runs already."\n'
DIGEST = "images = [{ version = '1.25.0', sha256 = 'abc' }]"


@pytest.mark.parametrize(
    ("change", "line_with", "complaint"),
    [
        (("heap_kib = 96", "heap_kib = 1"), "heap_kib", "memory.heap_kib: Input should be greater than or equal to 32"),
        (('"esp32c3"', '"z80"'), 'name = "z80"', "chip.name: Input should be 'esp32'"),
        (("flash_mib = 4", "flash_mib = 4\ncolour = 1"), "colour", "colour: Extra inputs are not permitted, found 1"),
        (("tx = 21", "tx = 2"), "tx = 2", "uart.tx: a UART on a strapping pin"),
        (("rx = 20", "rx = 12"), "rx = 12", "uart.rx: a UART on a strapping pin, or on one of flash or PSRAM"),
        (("pin = 8", "pin = 15"), "pin = 15", "leds.0.pin: a strapping pin, and no other"),
        ((f"pin = 8\n{STRAPPING}", "pin = 15\n"), "pin = 15", "leds.0.pin: the pin belongs to flash or PSRAM"),
        ((STRAPPING, ""), "pin = 8", "leds.0.pin: a strapping pin, and no other, has a reason in `strapping`"),
        (("tx = 10", "tx = 21"), "reserve", "memory.reserve.tx: the pin has another use on this board"),
        (("reserve =", "# reserve ="), "[memory]", "memory: a board without PSRAM, and no other, has a reserve"),
        (('code = "flash"', 'code = "heap"'), "[memory]", 'memory: without PSRAM the code must run from the "flash"'),
        (("usb_ids.always", "usb_ids.boot_rom"), "[[sockets]]", 'sockets.0: a bridge has usb_ids "always" and no'),
        (('"10c4:ea60",', '"10C4:EA60",'), "usb_ids", "sockets.0.usb_ids.always.0: String should match pattern"),
        (("offset = 0x200000", "offset = 0x1ff000"), "partitions", "vfs at 0x1ff000 begins before the end of factory"),
        (("size = 0x200000", "size = 0x201000"), "partitions", "the partitions are larger than the flash"),
        (('name = "nvs"', 'name = "nvs2"'), "partitions", 'each name stands once, and one is "nvs"'),
        (("images = []", DIGEST), "images", "firmware.0.images.0.sha256: String should match pattern"),
        (
            ('"buttons.0.label" =', '"buttons.7.label" ='),
            "[unverified]",
            "unverified: nothing stands at 'buttons.7.label'",
        ),
        (("flash_mib = 4\n", ""), "kind", "flash_mib: Field required"),
        (('kind = "board"', 'kind = "toaster"'), "kind", "toaster"),
        (("flash_mib = 4", "flash_mib ="), "flash_mib", "Invalid value"),
        (("ESP32-C3-DevKitM-1", "ESP32\ud800"), "name", "not UTF-8"),
    ],
)
def test_a_bad_file_is_refused_with_line_place_and_reason(tmp_path: Path, change, line_with, complaint):
    text = BOARD.read_text()
    assert change[0] in text
    text = text.replace(*change, 1)
    bad = tmp_path / "bad.toml"
    bad.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(BadHardwareFile) as caught:
        load(bad)
    (number,) = re.findall(r"line (\d+)", str(caught.value))
    assert str(bad) in str(caught.value) and complaint in str(caught.value)
    assert line_with in text.splitlines()[int(number) - 1]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (('label = "USB"', 'label = "UART"'), "sockets: two sockets need two labels"),
        (('label = "USB"', 'label = ""'), "sockets: two sockets need two labels"),
        (
            ("usb_ids.boot_rom", "usb_ids.always"),
            'sockets.1: a native socket has usb_ids for "boot_rom" and "micropyth',
        ),
        (('code = "heap"\npart', 'code = "flash"\npart'), "memory.code: no firmware in this file runs our code from"),
        (("offset = 0x10000, size = 0x1f0000", "offset = 0x11000, size = 0x1ef000"), "does not begin at a multiple of"),
    ],
)
def test_a_board_with_two_sockets_and_psram_may_not_contradict_itself(tmp_path: Path, change, complaint):
    text = (HW_CONFIGS / "boards" / "esp32-s3-devkitc-1.toml").read_text()
    assert change[0] in text
    bad = tmp_path / "bad.toml"
    bad.write_text(text.replace(*change, 1))
    with pytest.raises(BadHardwareFile) as caught:
        load(bad)
    assert complaint in str(caught.value)


def test_a_file_that_is_no_description_is_not_read_whole(tmp_path: Path):
    bad = tmp_path / "bad.toml"
    bad.write_text("# " + "x" * 70_000)
    with pytest.raises(BadHardwareFile, match="longer than 65536 octets"):
        load(bad)
