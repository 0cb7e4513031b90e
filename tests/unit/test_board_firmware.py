"""Definitions for a firmware of one's own: partition table, manifest, sizes, and in the VM the mounting of slots."""

import csv
import re
import subprocess
from pathlib import Path

import pytest

from keycast.hardware import catalogue
from keycast.micropython_vm import board_files, compile, romfs, vm
from keycast.places import SITE
from tests.waiting import PATIENCE_S

FIRMWARE = board_files.FIRMWARE
TABLE = FIRMWARE / "partitions-4MiB.csv"
FLASH, SECTOR, PAGE = 0x400000, 0x1000, 0x10000
DEFINITIONS = {
    "KEYCAST_ESP32": ("esp32", "ESP32_GENERIC"),
    "KEYCAST_ESP32C3": ("esp32c3", "ESP32_GENERIC_C3"),
    "KEYCAST_ESP32C6": ("esp32c6", "ESP32_GENERIC_C6"),
    "KEYCAST_ESP32S3": ("esp32s3", "ESP32_GENERIC_S3"),
}


def partitions():
    """The rows of the table as (name, type, subtype, offset, size)."""
    lines = [line for line in TABLE.read_text().splitlines() if not line.startswith("#")]
    rows = [[cell.strip() for cell in row] for row in csv.reader(lines)]
    return [(name, kind, subtype, int(at, 16), int(size, 16)) for name, kind, subtype, at, size in rows]


def boards():
    return catalogue.all_boards().items()


def test_the_partitions_are_aligned_fit_the_flash_and_leave_no_gap():
    end = 0x9000
    for _, kind, _, offset, size in partitions():
        assert offset == end and not offset % SECTOR and not size % SECTOR
        assert kind != "app" or not offset % PAGE
        end = offset + size
    assert end == FLASH
    names = [row[0] for row in partitions()]
    assert len(set(names)) == len(names) and max(map(len, names)) < 17
    kinds = {(name, kind, subtype) for name, kind, subtype, _, _ in partitions()}
    assert kinds >= {("nvs", "data", "nvs"), ("factory", "app", "factory"), ("vfs", "data", "fat")}


def test_a_board_keeps_its_key_store_when_it_changes_to_this_firmware():
    (own,) = (row for row in partitions() if row[0] == "nvs")
    published = [each for _, board in boards() for each in board.firmware if each.origin == "published"]
    found = {(row.offset, row.size) for each in published for row in each.partitions if row.name == "nvs"}
    assert (own[3], own[4]) in found


def test_the_two_slots_are_halves_of_romfs_that_can_be_mapped_and_the_images_fit_in_one():
    (row,) = (row for row in partitions() if row[0] == "romfs")
    assert row[4] == 2 * romfs.SLOT and not row[3] % PAGE and not romfs.SLOT % PAGE
    compile.compile_board()
    compile.compile_val_client_board()
    for image in (compile.BOARD_IMAGE, compile.VAL_CLIENT_IMAGE):
        slot = romfs.slot(image.read_bytes(), 1)
        assert len(slot) == romfs.SLOT and slot.startswith(image.read_bytes())
    with pytest.raises(ValueError, match="room for"):
        romfs.slot(bytes(romfs.SLOT - 63), 1)


def test_each_definition_is_one_for_its_chip_with_rom_and_the_table():
    assert {path.name for path in FIRMWARE.iterdir() if path.is_dir()} == set(DEFINITIONS)
    common = (FIRMWARE / "keycast.cmake").read_text()
    assert TABLE.name in common and "sdkconfig.keycast" in common and "/manifest.py" in common
    for name, (chip, generic) in DEFINITIONS.items():
        folder = FIRMWARE / name
        cmake = (folder / "mpconfigboard.cmake").read_text().splitlines()
        assert cmake[0] == f"include(boards/{generic}/mpconfigboard.cmake)"
        assert cmake[-1] == "include(${MICROPY_BOARD_DIR}/../keycast.cmake)"
        defined = dict(re.findall(r'^#define (\w+) \(?"?([^")]*)', (folder / "mpconfigboard.h").read_text(), re.M))
        assert defined["MICROPY_VFS_ROM"] == defined["MICROPY_VFS_ROM_IOCTL"] == "1"
        assert defined["MICROPY_HW_MCU_NAME"].lower() == chip  # radio_reserve.py knows the chip by it
        for file in re.findall(r"MICROPY_BOARD_DIR}/([\w./-]+)", "\n".join(cmake) + common):
            assert (folder / file).resolve().is_file()


def test_no_file_of_a_definition_names_a_place_of_this_machine():
    for path in board_files.definitions(board_files.VAL_CLIENT_MANIFEST).values():
        assert str(SITE) not in path.read_text() and "/home/" not in path.read_text()


@pytest.mark.parametrize("of", ["manifest.py", "manifest_val_client.py"])
@pytest.mark.parametrize("place", ["checkout", "files"])
def test_the_manifest_freezes_every_file_of_a_board(of, place):
    """As MicroPython's build reads it: from the folder of the manifest, with what it includes."""
    listed = board_files.listed(board_files.FOLDER / of)
    if place == "files":
        val_client = of != board_files.MANIFEST.name
        compile.compile_val_client_board() if val_client else compile.compile_board()
        tree = compile.VAL_CLIENT_TREE if val_client else compile.BOARD_TREE
        base = compile.SOURCES / tree.name / board_files.FOLDER_IN_SOURCES / "firmware"
        listed = [*listed, *(f"{name}.py" for name in board_files.BUNDLES)]
    else:
        base = FIRMWARE
    frozen, ports = [], []

    def run(path):
        def include(name):
            ports.append(name) if name.startswith("$(PORT_DIR)/") else run((path.parent / name).resolve())

        def module(name, base_path=".", opt=None):
            assert (path.parent / base_path / name).is_file() and opt == board_files.LEVEL
            frozen.append(name)

        def package(name, files, base_path=".", opt=None):
            assert all((path.parent / base_path / name / file).is_file() for file in files)
            frozen.extend(f"{name}/{file}" for file in files)

        exec(path.read_text(), {"include": include, "module": module, "package": package})

    run(base / of)
    assert ports == ["$(PORT_DIR)/boards/manifest.py"]  # the port's own modules, asyncio among them
    assert sorted(frozen) == sorted(listed) and len(set(frozen)) == len(frozen)


def test_every_firmware_of_ones_own_is_one_of_these():
    table = [(name, kind, offset, size) for name, kind, _, offset, size in partitions()]
    for name, board in boards():
        for each in board.firmware:
            if each.origin == "own":
                assert DEFINITIONS[each.name][0] == board.chip.name, name
                assert [(row.name, row.type, row.offset, row.size) for row in each.partitions] == table, name


# The slots, in the VM


PROGRAM = """
import sys
import rom
rom.mount({image!r}, "/rom")
sys.path[:] = ["/rom", {folder!r}, ".frozen"]
class Nvs:  # an NVS without a record
    def __init__(self, namespace):
        pass
    def get_blob(self, name, buffer):
        raise OSError(-0x1102)
esp32 = Nvs(None)
esp32.NVS = Nvs
sys.modules.update({{"esp32": esp32, "machine": None, "network": None}})
import slot_images
loaded = len(sys.modules)
with open({partition!r}, "rb") as file:
    octets = memoryview(file.read())
slot_images.mapped = lambda: octets
import agent_slots
print(slot_images.state(octets), agent_slots.mount(), len(sys.modules) - loaded)
try:
    import agent_of_slot
    print(agent_of_slot.of_slot, sys.path[0])
except ImportError:
    print("frozen", sys.path[0])
"""
SIZE = 0x1000


@pytest.fixture(scope="module")
def rom(tmp_path_factory):
    """Run what `main.py` does with a partition, as MicroPython would, and return what it prints."""
    compile.compile_board()
    folder = tmp_path_factory.mktemp("rom")

    def run(*slots):
        partition = folder / "partition"
        partition.write_bytes(b"".join(slots))
        code = PROGRAM.format(folder=str(folder), partition=str(partition), image=str(compile.BOARD_IMAGE))
        command = vm.ensure().command("-c", compile.program_for_board(code), heap_kib=128)
        environment = {"MICROPYPATH": str(compile.ON_VM)}
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=environment)
        assert not done.returncode, done.stderr + done.stdout
        return done.stdout.split("\n")[:2]

    return run


def slot(tmp_path: Path, name: str, generation: int) -> bytes:
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    (folder / "agent_of_slot.py").write_text(f"of_slot = {name!r}\n")
    return romfs.slot(romfs.image(folder), generation, SIZE)


BLANK = b"\xff" * SIZE


def test_the_newest_whole_image_runs_and_what_chose_it_leaves_the_heap(rom, tmp_path):
    old, new = slot(tmp_path, "old", 1_700_000_000), slot(tmp_path, "new", 4_000_000_000)
    assert rom(old, new) == ["[1700000000, 4000000000] False 0", "new /agent2"]
    assert rom(new, old) == ["[4000000000, 1700000000] False 0", "new /agent1"]
    assert rom(BLANK, old) == ["[0, 1700000000] False 0", "old /agent2"]


def test_an_image_that_came_over_the_air_does_not_run_without_the_record(rom, tmp_path):
    assert rom(slot(tmp_path, "old", 1), slot(tmp_path, "air", 0)) == ["[1, 0] False 0", "old /agent1"]
    assert rom(slot(tmp_path, "air", 0), BLANK)[1].startswith("frozen ")


def test_without_a_whole_image_the_files_of_the_firmware_run(rom):
    for octets in (BLANK, bytes(SIZE), b"\xd2\xcd\x31" + bytes(SIZE - 3)):
        assert rom(octets, BLANK)[1].startswith("frozen ")


@pytest.mark.parametrize("damage", ["image", "seal", "length", "generation", "cut"])
def test_a_slot_that_is_not_whole_does_not_count(rom, tmp_path, damage):
    old, new = slot(tmp_path, "old", 1), bytearray(slot(tmp_path, "new", 2))
    if damage == "cut":
        new[SIZE // 2 :] = BLANK[SIZE // 2 :]
    else:
        at = {"image": 20, "seal": SIZE - 64, "length": SIZE - 64 + 20, "generation": SIZE - 64 + 19}[damage]
        new[at] ^= 0x41
    assert rom(old, bytes(new)) == ["[1, 0] False 0", "old /agent1"]
