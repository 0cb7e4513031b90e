"""`keycast board rescue`: a virtual board that does not start is helped, or forgets everything."""

import asyncio
from pathlib import Path

import pytest

from cpns import cborlite
from device_agent.key_store import KeyStore
from device_agent.update import key as update_key
from device_agent.update import slot_record
from keycast.board import rescue
from keycast.board.ports import Port
from keycast.board.repl import Repl
from keycast.micropython_vm import compile
from keycast.provisioning.board import Trust, new_board
from keycast.virtual_board.nvs_folder import NvsFolder
from keycast.virtual_board.serial_board import SerialBoard
from message_plane import credentials
from suit import numbers as n
from tests.system.serial_tools import Terminal, plugged_in

pytestmark = pytest.mark.real_time

ROMFS = 0x1E0000
ERROR = "board.py 12 run; OSError: 5"


@pytest.fixture(scope="module")
def tree() -> Path:
    compile.compile_board()
    return compile.BOARD_TREE


POINT = bytes.fromhex("6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296")


def in_safe_mode(board: SerialBoard, tree: Path) -> bytes:
    """Put the agent's files and an identity onto a board that has failed to start three times; return its record."""
    board.flash.write(ROMFS, tree.with_suffix(".romfs").read_bytes())
    (board.flash.vfs / "main.py").write_text((tree / "main.py").read_text())
    store = KeyStore(NvsFolder(board.flash.path("nvs")))
    gateway, server = credentials.of("gw.home", "gateway", bytes(range(32))), credentials.of("server", "server", POINT)
    trust = Trust(gateway, bytes(range(64, 128)), 1, "home", server_ccs=server.ccs)
    record, _ = new_board("lamp.porch", trust)
    store.save("prov", record)
    store.save("last", cborlite.encode([1, 3, ERROR]))
    return record


def port_of(board: SerialBoard) -> Port:
    return Port(board.line.device, None, None, "lamp")


def looked(board: SerialBoard) -> rescue.Trouble:
    with Repl(port_of(board)) as repl:
        return rescue.look(repl)


async def test_a_board_in_safe_mode_tells_its_error_and_starts_with_files_that_are_written_anew(
    tmp_path: Path, tree: Path
) -> None:
    async with plugged_in(tmp_path / "board") as board:
        await board.power_off()
        record = in_safe_mode(board, tree)
        await board.power_on()
        health = await asyncio.to_thread(looked, board)
        assert (health.pne_id, health.error, health.broken) == ("lamp.porch", ERROR, "")
        assert health.starts == 3
        await asyncio.to_thread(rescue.put_files, port_of(board), tree, lambda done: None)
        health = await asyncio.to_thread(looked, board)  # which ends the agent, as it runs now
        assert (health.pne_id, health.error, health.starts) == ("lamp.porch", ERROR, 0)
        store = KeyStore(NvsFolder(board.flash.path("nvs")))
        assert store.load("prov") == record


def test_an_agent_that_was_ended_by_a_tool_has_not_failed() -> None:
    class Ended:
        """A board whose agent was ended by Ctrl-C, which the record keeps in the place of the number of starts."""

        def run(self, program: str, timeout_s: float = 0.0) -> str:
            return '{"starts": 255, "error": "", "pne_id": "lamp.porch", "cleared": true}\n'

    assert rescue.look(Ended()).starts == 0  # type: ignore[arg-type]


async def test_a_board_whose_files_are_broken_gets_them_anew(tmp_path: Path, tree: Path) -> None:
    async with plugged_in(tmp_path / "board") as board:
        await board.power_off()
        record = in_safe_mode(board, tree)
        broken = bytearray(tree.with_suffix(".romfs").read_bytes())
        broken[len(broken) // 4 :] = bytes(len(broken) - len(broken) // 4)
        board.flash.write(ROMFS, bytes(broken))
        await board.power_on()
        health = await asyncio.to_thread(looked, board)
        assert health.broken and health.pne_id is None
        await asyncio.to_thread(rescue.put_files, port_of(board), tree, lambda done: None)
        health = await asyncio.to_thread(looked, board)
        assert (health.pne_id, health.broken) == ("lamp.porch", "")
        assert KeyStore(NvsFolder(board.flash.path("nvs"))).load("prov") == record


async def test_a_board_that_is_given_away_keeps_nothing_of_the_home(tmp_path: Path, tree: Path) -> None:
    def erase() -> bool:
        with Repl(port_of(board)) as repl:
            return rescue.erase(repl)

    async with plugged_in(tmp_path / "board") as board:
        await board.power_off()
        record = in_safe_mode(board, tree)
        KeyStore(NvsFolder(board.flash.path("nvs"))).save("wifi", cborlite.encode([1, "my home", "correct horse"]))
        assert b"correct horse" in _octets_of(tmp_path), "the search finds nothing that is there"
        (board.flash.vfs / slot_record.MARK).touch()  # of an update: it would say that the next owner lost something
        await board.power_on()
        assert not await asyncio.to_thread(erase)
        health = await asyncio.to_thread(looked, board)
        assert (health.pne_id, health.error, health.broken) == (None, "", "")
        assert not (board.flash.vfs / slot_record.MARK).exists()
        async with Terminal(board.line.device) as terminal:
            terminal.type(b"import machine; machine.reset()\r")
            await terminal.until(b"keycast: unprovisioned")
    left = _octets_of(tmp_path)
    key = cborlite.decode(record)[2]
    for secret in (key, b"correct horse", b"lamp.porch", ERROR.encode()):
        assert secret not in left


def _octets_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.req("SEC-30")
@pytest.mark.parametrize("state", ["confirmed", "on trial", "lost", "lost altogether"])
async def test_the_files_that_rescue_writes_run_in_place_of_an_update(tmp_path: Path, tree: Path, state: str) -> None:
    """The update's files go; the floor stays, or begins anew if the record is lost, and the trial is over."""
    async with plugged_in(tmp_path / "board") as board:
        await board.power_off()
        in_safe_mode(board, tree)
        nvs = NvsFolder(board.flash.path("nvs"))
        store = KeyStore(nvs)
        update_key.keep(store, bytes(64))
        record = slot_record.load(store)
        record.begin(1, 7)
        record.confirm()
        if state == "on trial":
            record.begin(2, 9)
        slot_record.save(store, record)
        if state == "lost":
            for name in ("slot0", "slot1"):
                nvs.set(name, b"\0" * 40)
            nvs.commit()
            assert slot_record.load(store).reason == n.NO_FLOOR
        if state == "lost altogether":
            for name in (slot_record.RECORD, update_key.RECORD):
                store.erase(name)
        for name in ("agent.1", "agent.2", "update.suit", "update.log", slot_record.MARK):
            (board.flash.vfs / name).write_bytes(b"from the air")
        await board.power_on()
        await asyncio.to_thread(rescue.put_files, port_of(board), tree, lambda done: None)
        await asyncio.to_thread(looked, board)  # which ends the agent
        left = slot_record.load(KeyStore(NvsFolder(board.flash.path("nvs"))))
        assert (left.slot(), left.trial, left.reason) == (0, 0, n.NO_REASON)
        assert left.agent_number == (0 if state.startswith("lost") else 7)
        assert {path.name for path in board.flash.vfs.iterdir()} == {"main.py", slot_record.MARK}
