"""`keycast board flash`: firmware and the agent's files onto virtual boards, with esptool and mpremote as programs."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from cpns import cborlite
from device_agent import provisioning
from device_agent.update import slot_record
from gateway_agent import pairing_secret
from keycast.board import agent_files, flashing, image, tool
from keycast.board.board_record import RECORD
from keycast.board.faults import FilesNotCopied, ImageUnfit
from keycast.board.flashing import Flashed, FlashOrder, Told
from keycast.board.ports import Port
from keycast.board.provisioning import Wifi
from keycast.board.repl import BoardAnswered, Repl
from keycast.hardware.catalogue import VIRTUAL, all_boards, virtual_board
from keycast.micropython_vm import compile, romfs
from keycast.virtual_board import firmware
from keycast.virtual_board.chips import CHIPS
from keycast.virtual_board.serial_board import SerialBoard
from tests.system.serial_tools import mpremote, plugged_in

pytestmark = pytest.mark.real_time

BOARDS = {**all_boards(), VIRTUAL: virtual_board()}
READ = "import nvs_store\nfrom device_agent.key_store import KeyStore\nprint(KeyStore(nvs_store.NvsStore()).load({!r}))"


class Watched:
    """What a person sees while a board is flashed."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.progress: list[float] = []
        self.warnings: list[str] = []
        self.told = Told(self.words.append, self.progress.append, self.warnings.append)


@pytest.fixture(scope="module")
def tree() -> Path:
    compile.compile_board()
    return compile.BOARD_TREE


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> image.FirmwareImage:
    path = tmp_path_factory.mktemp("image") / "virtual.bin"
    path.write_bytes(firmware.image(CHIPS["esp32"], virtual_board().firmware[0]))
    found = image.read(path, BOARDS)
    image.require_known(found, BOARDS, None, trusted=False)  # the hardware file of virtual boards lists it
    return found


def port_of(board: SerialBoard) -> Port:
    return Port(board.line.device, None, None, "lamp")


async def flashed(board: SerialBoard, order: FlashOrder, watched: Watched | None = None) -> Flashed:
    """Flash while the board goes on."""
    return await asyncio.to_thread(flashing.flash, port_of(board), order, BOARDS, (watched or Watched()).told)


async def printed(board: SerialBoard, program: str) -> str:
    """What a program prints on the board."""

    def run() -> str:
        with Repl(port_of(board)) as repl:
            return repl.run(program)

    return await asyncio.to_thread(run)


async def test_a_blank_board_gets_firmware_files_and_the_record_of_its_pins(
    tmp_path: Path, tree: Path, good: image.FirmwareImage
) -> None:
    watched = Watched()
    async with plugged_in(tmp_path / "board", flashed=False) as board:
        done = await flashed(board, FlashOrder((good,), tree), watched)
        assert (done.board, done.running.code, done.running.version) == (VIRTUAL, "flash", "1.25.0")
        writing = ["entering the boot loader", "writing MicroPython 1.25.0"]
        assert watched.words == [*writing, "waiting for its prompt", "copying files", "starting"]
        assert not watched.warnings and max(watched.progress) == 1.0
        assert [path.name for path in board.flash.vfs.iterdir()] == ["main.py"]
        octets = tree.with_suffix(".romfs").read_bytes()
        assert board.flash.read(0x1E0000, len(octets)) == octets
        record = await printed(board, READ.format(RECORD))
        assert cborlite.decode(eval(record))[:2] == [1, VIRTUAL]


async def test_identity_and_own_files_stay_when_a_board_is_flashed_again(
    tmp_path: Path, tree: Path, good: image.FirmwareImage
) -> None:
    async with plugged_in(tmp_path / "board", flashed=False) as board:
        await flashed(board, FlashOrder((good,), tree))
        (board.flash.vfs / "app.py").write_text("own = 1\n")
        await printed(board, READ.format("none").replace("print(", "").replace(".load('none'))", ".save('mine', b'5')"))
        await flashed(board, FlashOrder((good,), tree))
        assert "b'5'" in await printed(board, READ.format("mine"))
        assert (board.flash.vfs / "app.py").exists()
        await flashed(board, FlashOrder((good,), tree, erase=True))
        assert "None" in await printed(board, READ.format("mine"))
        assert not (board.flash.vfs / "app.py").exists()


@pytest.mark.req("SEC-30")
async def test_files_that_are_flashed_run_in_place_of_an_update_and_its_number_stays_the_floor(
    tmp_path: Path, tree: Path, good: image.FirmwareImage
) -> None:
    async with plugged_in(tmp_path / "board", flashed=False) as board:
        await flashed(board, FlashOrder((good,), tree))
        updated = slot_record.SlotRecord()
        updated.begin(1, 7)
        updated.confirm()
        save = READ.replace("print(", "").replace(".load({!r}))", ".save({!r}, {!r})")
        await printed(board, save.format(slot_record.RECORD, updated.pack()))
        for name in ("agent.1", "update.suit"):
            (board.flash.vfs / name).write_bytes(b"from the air")
        await flashed(board, FlashOrder((good,), tree))
        left = slot_record.SlotRecord(eval(await printed(board, READ.format(slot_record.RECORD))))
        assert (left.good, left.agent_number, left.slot()) == (0, 7, 0)
        assert [path.name for path in board.flash.vfs.iterdir()] == ["main.py"]


@pytest.mark.req("SEC-20")
async def test_a_board_without_gateway_has_its_pairing_secret_and_its_wifi_from_flashing_on(
    tmp_path: Path, tree: Path
) -> None:
    async with plugged_in(tmp_path / "board") as board:
        first = await flashed(board, FlashOrder((), tree, wifi=Wifi("my home", "open sesame"), company_id=0x1234))
        assert first.pairing is not None
        name, secret = first.pairing
        assert name.startswith("board-") and len(pairing_secret.octets(secret)) == 10
        assert (await flashed(board, FlashOrder((), tree))).pairing == first.pairing  # a label stays true
        assert cborlite.decode(eval(await printed(board, READ.format("wifi")))) == [1, "my home", "open sesame"]
        assert cborlite.decode(eval(await printed(board, READ.format("ble")))) == [1, 0x1234]
        identity = provisioning.parse(eval(await printed(board, READ.format(provisioning.RECORD))))
        assert (identity.pne_id, identity.paired) == (name, False)


async def test_into_our_own_firmware_the_image_comes_as_a_whole_slot(
    tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs in place of the frozen files, which may be older."""
    image = tree.with_suffix(".romfs").read_bytes()
    deployed: list[bytes] = []
    look, deploy = agent_files.look, agent_files._deploy

    def write(port: Port, octets: bytes, progress: Callable[[float], None]) -> None:
        deployed.append(octets)
        deploy(port, image, progress)  # the partition of virtual boards has no room for a slot

    async with plugged_in(tmp_path / "board") as board:
        ours = {"romfs": 2 * romfs.SLOT, "is_frozen": True}
        monkeypatch.setattr(agent_files, "look", lambda repl: look(repl)._replace(**ours))
        monkeypatch.setattr(agent_files, "_deploy", write)
        await flashed(board, FlashOrder((), tree))
    assert deployed[0].startswith(image) and len(deployed[0]) == romfs.SLOT
    assert b"keycast slot 1" in deployed[0][-64:]


async def test_files_only_leaves_the_firmware(tmp_path: Path, tree: Path) -> None:
    watched = Watched()
    async with plugged_in(tmp_path / "board") as board:
        (board.flash.vfs / "board.py").write_text("older = 1\n")
        await flashed(board, FlashOrder((), tree), watched)
        assert watched.words[0] == "waiting for its prompt"
        assert [path.name for path in board.flash.vfs.iterdir()] == ["main.py"]


def cut_at(patch: pytest.MonkeyPatch, step: int) -> None:
    """Have the cable come out at this step: each program that copies is one, and each call of the board is, too."""
    run, ask, left = tool.run, Repl.run, [step]

    def cut() -> bool:
        left[0] -= 1
        return left[0] < 0

    def copied(module: str, arguments: list[str], told: Callable[[str], None]) -> Any:
        return tool.Ended(False, ["mpremote: device disconnected\n"]) if cut() else run(module, arguments, told)

    def asked(repl: Repl, program: str, *rest: Any) -> str:
        if cut():
            raise BoardAnswered("OSError: the cable is out")
        return ask(repl, program, *rest)

    patch.setattr(tool, "run", copied)
    patch.setattr(Repl, "run", asked)


@pytest.mark.long
@pytest.mark.req("SEC-30")
async def test_a_cable_that_comes_out_leaves_a_board_that_is_flashed_again(
    tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each step of `flash --files-only`, on a board with an update; its floor stays."""
    updated = slot_record.SlotRecord()
    updated.begin(1, 7)
    updated.confirm()
    save = READ.replace("print(", "").replace(".load({!r}))", ".save({!r}, {!r})")
    async with plugged_in(tmp_path / "board") as board:
        await flashed(board, FlashOrder((), tree))
        is_cut, step = True, 0
        while is_cut:
            await printed(board, save.format(slot_record.RECORD, updated.pack()))
            (board.flash.vfs / "agent.1").write_bytes(b"from the air")
            with monkeypatch.context() as patch:
                cut_at(patch, step)
                try:
                    await flashed(board, FlashOrder((), tree))
                    is_cut = False
                except FilesNotCopied as said:
                    assert "keycast board flash" in str(said)
            await board.power_off()
            await board.power_on()
            if is_cut:
                await flashed(board, FlashOrder((), tree))
            left = slot_record.SlotRecord(eval(await printed(board, READ.format(slot_record.RECORD))))
            assert (left.slot(), left.trial, left.agent_number) == (0, 0, 7), step
            assert [path.name for path in board.flash.vfs.iterdir()] == ["main.py"]
            step += 1
    assert step > 5


@contextlib.asynccontextmanager
async def without_romfs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SerialBoard]:
    """A board whose firmware has no partition for ROMFS, as the published ones."""
    look = agent_files.look
    monkeypatch.setattr(flashing.agent_files, "look", lambda repl: look(repl)._replace(romfs=0))
    async with plugged_in(folder) as board:
        yield board


async def test_single_files_are_warned_of_first_and_main_py_comes_last(
    tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched()
    names = {path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()}
    async with without_romfs(tmp_path / "board", monkeypatch) as board:
        vfs = board.flash.vfs
        (vfs / "board.py").write_text("older = 1\n")
        (vfs / "app.py").write_text("own = 1\n")
        run = tool.run
        with monkeypatch.context() as cut:
            words: list[str] = []

            def cable_out(module: str, arguments: list[str], told: Callable[[str], None]) -> Any:
                words.extend(arguments)
                assert watched.warnings == [flashing.HEAP_IS_SHORT]
                run(module, arguments[: arguments.index("+")], told)
                return tool.Ended(False, ["mpremote: device disconnected\n"])

            cut.setattr(tool, "run", cable_out)
            with pytest.raises(FilesNotCopied, match=r"device disconnected\..*keycast board flash --files-only"):
                await flashed(board, FlashOrder((), tree), watched)
            assert not (vfs / "main.py").exists() and (vfs / "board.mpy").exists()
        await flashed(board, FlashOrder((), tree), watched)
        there = {path.relative_to(vfs).as_posix() for path in vfs.rglob("*") if path.is_file()}
        assert there == names | {"app.py"}
        assert len(set(watched.progress)) > 10 and watched.progress[-1] == 1.0


async def test_firmware_with_the_agent_in_it_keeps_its_own_files(
    tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older files would be found first: they go. No board for which this is true can be run here."""
    async with plugged_in(tmp_path / "board") as board:
        for name in ("board.py", "main.py", "nvs_store.mpy", "app.py"):
            (board.flash.vfs / name).write_text("older = 1\n")
        look = agent_files.look

        def put(repl: Repl) -> None:
            with repl:
                running = look(repl)
            agent_files.put(repl, running._replace(is_frozen=True), tree)

        await asyncio.to_thread(put, Repl(port_of(board)))
        assert [path.name for path in board.flash.vfs.iterdir()] == ["app.py"]


async def test_a_storage_that_is_full(tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with without_romfs(tmp_path / "board", monkeypatch) as board:
        look = flashing.agent_files.look
        with monkeypatch.context() as small:
            small.setattr(flashing.agent_files, "look", lambda repl: look(repl)._replace(free=8192))
            with pytest.raises(
                FilesNotCopied, match=r"storage of the board is full: the agent needs \d+ KiB, and 8 KiB"
            ):
                await flashed(board, FlashOrder((), tree))
        assert not list(board.flash.vfs.iterdir())
        full = tool.Ended(False, ["cp a :a\n", "mpremote: cp: 28: No space left on device.\n"])
        monkeypatch.setattr(tool, "run", lambda *_: full)
        with pytest.raises(FilesNotCopied, match="storage of the board is full"):
            await flashed(board, FlashOrder((), tree))


async def test_micropython_that_is_too_old(tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with plugged_in(tmp_path / "board") as board:
        look = agent_files.look
        monkeypatch.setattr(flashing.agent_files, "look", lambda repl: look(repl)._replace(version="1.9.4"))
        with pytest.raises(FilesNotCopied, match=r"has MicroPython 1\.9\.4; the agent needs 1\.25\.0 or newer"):
            await flashed(board, FlashOrder((), tree))


async def test_an_image_for_another_chip_is_not_written_and_the_board_starts_again(
    tmp_path: Path, tree: Path, good: image.FirmwareImage
) -> None:
    async with plugged_in(tmp_path / "board") as board:
        with pytest.raises(ImageUnfit, match="is for the chip esp32c3; this board has the chip esp32"):
            await flashed(board, FlashOrder((good._replace(chip="esp32c3"),), tree))
        with pytest.raises(ImageUnfit, match=r"is no xiao-esp32c3: .* Leave out --board"):
            await flashed(board, FlashOrder((good,), tree, board="xiao-esp32c3"))
        with pytest.raises(ImageUnfit, match="needs 16 MiB of flash; this board has 4 MiB"):
            await flashed(board, FlashOrder((good._replace(flash_octets=16 << 20),), tree))
        assert await mpremote(board, "exec", "print(6 * 7)") == "42\r\n"


async def test_each_of_several_boards_gets_the_image_for_its_chip(
    tmp_path: Path, tree: Path, good: image.FirmwareImage
) -> None:
    kind = all_boards()["esp32-c3-devkitm-1"]
    path = tmp_path / "c3.bin"
    path.write_bytes(firmware.image(CHIPS["esp32c3"], virtual_board().firmware[0]))
    images = (good, image.read(path, BOARDS))
    async with (
        plugged_in(tmp_path / "one", flashed=False) as one,
        plugged_in(tmp_path / "two", kind, flashed=False) as two,
    ):
        wanted = [FlashOrder(images, tree), FlashOrder(images, tree, board="esp32-c3-devkitm-1")]
        done = await asyncio.gather(flashed(one, wanted[0]), flashed(two, wanted[1]))
    assert [each.board for each in done] == [VIRTUAL, "esp32-c3-devkitm-1"]


@pytest.mark.parametrize(
    ("usb_id", "chip", "name"),
    [("10c4:ea60", "esp32", "esp32-devkitc"), ("303a:1001", "esp32c3", "xiao-esp32c3"),
     ("10c4:ea60", "esp32c6", "esp32-c6-devkitc-1"), ("303a:4001", "esp32s3", "esp32-s3-devkitc-1"),
     (None, "esp32s3", "esp32-s3-devkitc-1")],
)  # fmt: skip
def test_a_board_is_known_by_its_chip_and_its_usb_id(usb_id: str | None, chip: str, name: str) -> None:
    assert flashing.name_of(Port("/dev/x", usb_id, None, "/dev/x"), None, chip, BOARDS) == name


def test_a_board_that_may_be_several_is_asked_for() -> None:
    with pytest.raises(
        ImageUnfit, match=r"chip esp32\. Say which it is: --board esp32-devkitc or --board m5stack-atom"
    ):
        flashing.name_of(Port("/dev/x", "0403:6001", None, "/dev/x"), None, "esp32", BOARDS)
    with pytest.raises(ImageUnfit, match="keycast knows no board with that chip"):
        flashing.name_of(Port("/dev/x", "10c4:ea60", None, "/dev/x"), None, "esp32p4", BOARDS)
