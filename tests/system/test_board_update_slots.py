"""Virtual boards whose agent or firmware is on trial: the real agent in a slot, and a boot loader that goes back."""

import hashlib
import json
import random
import re
import shutil

import pytest

from cpns import cborlite
from device_agent.key_store import KeyStore
from device_agent.update import key as update_key
from device_agent.update import slot_record
from device_agent.update.places import PartitionPlace
from device_agent.update.slots import AGENT, FIRMWARE, SEAL, FlashUpdates
from keycast.micropython_vm import board_files, compile, romfs
from keycast.virtual_board.board import RESET_CODE, VirtualBoard
from suit import numbers as n
from suit.coded import CodedImage

HALF = 0x30000  # octets of a place
SECTOR = 4096
HEAP_KIB = 80  # what the agent needs, too
LOST = 0.25  # of all frames
POWER_ON, HARD, WATCHDOG = "1", "2", "3"  # causes of a reset


class Octets:
    """A partition in a file, with the block device protocol."""

    def __init__(self, path):
        self.path = path
        self.octets = bytearray(path.read_bytes())

    def ioctl(self, operation, sector):
        assert operation == 6
        self.writeblocks(sector, b"\xff" * SECTOR, 0)

    def writeblocks(self, sector, octets, at):
        self.octets[sector * SECTOR + at : sector * SECTOR + at + len(octets)] = octets
        self.path.write_bytes(self.octets)


class Flash:
    """The flash of a virtual board that is off, for the same modules as on it."""

    def __init__(self, board):
        self.folder = f"{board.folder}/files/"
        self._partitions = board.folder / "partitions"

    def running(self):
        return 0

    def room(self, kind):
        return HALF - SEAL

    def place(self, slot):
        label = "ota_1" if slot == slot_record.FIRMWARE else "romfs"
        return PartitionPlace(Octets(self._partitions / f"{label}.bin"), 0, HALF)

    def closed(self):
        pass


@pytest.fixture
async def board(tmp_path):
    """A board without a gateway that has made its identity."""
    board = VirtualBoard.create(tmp_path / "board", 1, b"")
    board.have_slots()
    await board.start(up=False)
    assert await board.ended() == RESET_CODE
    yield board
    await board.kill()


def collect(board, kind, image):
    """Have the next start of the board install this image."""
    updates = FlashUpdates(KeyStore(board.nvs), Flash(board))
    fill(updates.begin(kind, 5, len(image), hashlib.sha256(image).digest(), b"envelope"), image)


def fill(collection, image):
    coded = CodedImage(image)
    chance = random.Random(5)
    for index in range(coded.code.frames):
        if chance.random() > LOST:
            collection.put(index, coded.frame(index))
    collection.full()


def record(board):
    return slot_record.load(KeyStore(board.nvs.snapshot()))


async def up(board):
    """Switch the board on until its agent runs, and off again."""
    since = len(board.events)
    await start(board)
    await board.event("up", since=since)
    await board.kill()


async def start(board):
    """Switch the board on, or let it go on after a reset of its own."""
    await board.start(up=False, heap_kib=HEAP_KIB, more={"BOARD_RESET_CAUSE": HARD})


async def cut(board, cause):
    """Start a board on trial for this cause, and cut its power at once."""
    since = len(board.events)
    await board.start(up=False, heap_kib=HEAP_KIB, more={"BOARD_RESET_CAUSE": cause})
    await board.line("keycast: update trial ", since=since)
    await board.kill()


async def test_the_agent_runs_out_of_a_slot_on_trial_and_goes_back_after_three_starts(board):
    image = compile.BOARD_IMAGE.read_bytes()
    collect(board, AGENT, image)
    await start(board)
    assert await board.ended() == RESET_CODE
    assert (board.folder / "partitions" / "romfs.bin").read_bytes().startswith(image)
    assert record(board).trial == 1 and record(board).starts == 3
    for left in (2, 1, 0):
        await up(board)
        assert record(board).starts == left
    await up(board)
    back = record(board)
    assert (back.good, back.trial, back.wanted, back.reason) == (0, 0, 5, n.NOT_CONFIRMED)
    assert await board.line("keycast: update fell-back ") == f"5 {n.NOT_CONFIRMED}"


async def test_an_agent_that_does_not_run_is_started_three_times_and_the_one_before_runs_again(board, tmp_path):
    """Without a minute of waiting, and without a tool; then the one before has its own three starts."""
    tree = tmp_path / "tree"
    shutil.copytree(compile.BOARD_TREE, tree)
    (tmp_path / "board.py").write_text("raise ValueError\n")
    compile.compile_file("board.py", tmp_path / "board.py", tree / "board.mpy", 2)
    collect(board, AGENT, romfs.image(tree))
    for _ in range(4):  # the first one installs it
        await start(board)
        assert await board.ended() == RESET_CODE
    assert record(board).trial == 1 and record(board).starts == 0
    await up(board)
    assert (record(board).trial, record(board).reason) == (0, n.CRASHED)
    _, starts, error = cborlite.decode(KeyStore(board.nvs.snapshot()).load("last"))
    assert starts == 1 and error.endswith("ValueError")


@pytest.mark.req("SEC-30")
async def test_the_watchdog_that_ends_a_trial_is_told(board):
    collect(board, AGENT, compile.BOARD_IMAGE.read_bytes())
    await start(board)
    assert await board.ended() == RESET_CODE
    await up(board)
    await cut(board, WATCHDOG)
    assert (record(board).trial, record(board).reason) == (1, n.CRASHED)


async def test_a_switch_that_is_flipped_does_not_end_a_trial(board):
    collect(board, AGENT, compile.BOARD_IMAGE.read_bytes())
    await start(board)
    assert await board.ended() == RESET_CODE
    await up(board)
    for _ in range(4):
        await cut(board, POWER_ON)
    assert record(board).trial == 1 and record(board).starts == 1


@pytest.mark.parametrize("image", [b"\0", bytes(1024), b"\xd2\xcd\x31\xff\xff\x7f" + b"\x04\x7f/" * 1000])
async def test_a_signed_image_that_is_none_is_left_at_once(board, image):
    collect(board, AGENT, image)
    for _ in range(2):  # the first one installs it
        await start(board)
        assert await board.ended() == RESET_CODE
    await up(board)
    assert (record(board).trial, record(board).reason) == (0, n.NO_AGENT)


@pytest.mark.req("SEC-30")
@pytest.mark.parametrize("lacks", ["start", "board", "watch", "pne_agent", "describe", "cpns/__init__"])
async def test_an_agent_of_whose_modules_one_would_be_of_slot_0_is_left_at_once(board, tmp_path, lacks):
    """Also one that is loaded seldom, or later."""
    tree = tmp_path / "tree"
    shutil.copytree(compile.BOARD_TREE, tree)
    (tree / f"{lacks}.mpy").unlink()
    collect(board, AGENT, romfs.image(tree))
    for _ in range(2):  # the first one installs it
        await start(board)
        assert await board.ended() == RESET_CODE
    await up(board)
    assert (record(board).good, record(board).trial, record(board).reason) == (0, 0, n.NO_AGENT)


@pytest.mark.parametrize("manifest", [board_files.MANIFEST, board_files.VAL_CLIENT_MANIFEST])
def test_an_agent_knows_its_own_modules(manifest):
    """Those that are no part of a package, as those in one come with it."""
    names = {name.removesuffix(".py") for name in board_files.listed(manifest)} | board_files.BUNDLES.keys()
    wanted = {name for name in names if "/" not in name.removesuffix("/__init__")}
    (own,) = re.findall(r"_OWN = \((.*?)\n\)", (board_files.FOLDER / "start.py").read_text(), re.DOTALL)
    (more,) = re.findall(r"_OWN_OF_VAL_CLIENT = (.*)", (board_files.FOLDER / "start.py").read_text())
    told = " ".join(re.findall(r'"(.*)"', own)) + (json.loads(more) if manifest != board_files.MANIFEST else "")
    assert set(told.split()) == wanted - {"main"}


async def test_a_trial_in_safe_mode_ends_at_once(board):
    collect(board, AGENT, compile.BOARD_IMAGE.read_bytes())
    await start(board)
    assert await board.ended() == RESET_CODE
    KeyStore(board.nvs).save("last", cborlite.encode([1, 3, "an error"]))
    await start(board)
    assert await board.ended() == RESET_CODE
    assert (record(board).trial, record(board).reason) == (0, n.NOT_CONFIRMED)
    await up(board)


async def test_an_image_that_was_changed_in_the_flash_does_not_run(board):
    collect(board, AGENT, compile.BOARD_IMAGE.read_bytes())
    await start(board)
    assert await board.ended() == RESET_CODE
    flash = Octets(board.folder / "partitions" / "romfs.bin")
    flash.writeblocks(10, b"\0" * 8, 0)
    await up(board)
    assert (record(board).trial, record(board).reason) == (0, n.NOT_WHOLE)


async def test_a_firmware_on_trial_is_booted_three_times_and_the_one_before_runs_again(board):
    collect(board, FIRMWARE, b"\xe9" + random.Random(6).randbytes(190_000))
    codes = []
    for _ in range(4):  # install, then the new one, the old one chooses it again, the new one
        since = len(board.events)
        await start(board)
        if codes and len(codes) % 2:
            await board.event("up", since=since)
            await board.kill()
        else:
            await board.ended()
        codes.append(board.exit_code)
    assert codes == [RESET_CODE, -9, RESET_CODE, -9]
    assert record(board).trial == slot_record.FIRMWARE and record(board).starts == 1


@pytest.mark.req("SEC-30")
async def test_a_board_whose_nvs_has_lost_its_records_of_updates_says_so_and_gets_no_floor_of_its_cable(board):
    """Before anything else saves a record: the key that comes by cable would begin the floors anew."""
    collect(board, AGENT, compile.BOARD_IMAGE.read_bytes())
    for name in ("slot", "upkey"):
        KeyStore(board.nvs).erase(name)
    await up(board)
    assert await board.line("keycast: update refused ") == f"0 {n.NO_FLOOR}"
    assert record(board).refusal(False, n.NUMBER_MAX) == n.NO_FLOOR
    update_key.keep(KeyStore(board.nvs), bytes(64))
    await up(board)
    assert record(board).refusal(False, n.NUMBER_MAX) == n.NO_FLOOR
