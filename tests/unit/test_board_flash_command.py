"""`keycast board flash` as it is typed: what is refused before a board is touched, and what comes of each board."""

import hashlib
import json
import os
import pty
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serial.tools import list_ports
from typer.testing import CliRunner

from keycast.board import flashing, ports
from keycast.board.agent_files import Running
from keycast.board.faults import LoaderFault
from keycast.board.flashing import Flashed, FlashOrder, Told
from keycast.board.ports import Port
from keycast.hardware.catalogue import all_boards
from keycast.micropython_vm import compile
from keycast.program import program
from keycast.terminal.options import console
from tests.unit import firmware_images
from tests.unit.test_board_ports import OPEN, process, seen

BOARDS = all_boards()
REQUIRE_FREE = ports.require_free
ONE = Port("/dev/ttyUSB0", "10c4:ea60", "0001", "/dev/ttyUSB0", "1-1.2")
TWO = ONE._replace(device="/dev/ttyUSB1", name="/dev/ttyUSB1", serial="0002", location="1-1.3")
FLASHED = Flashed(ONE, "esp32-devkitc", Running("1.25.0", "esp32", False, 0, 1 << 20, False))


@pytest.fixture(autouse=True)
def desk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Port]:
    """A computer with the ports of this list, none at first, and with compiled files."""
    there: list[Port] = []
    monkeypatch.setattr(list_ports, "comports", lambda: [seen(port) for port in there])
    monkeypatch.setattr(ports, "VIRTUAL_BOARDS", tmp_path / "boards")
    monkeypatch.setattr(ports, "LOCKS", tmp_path / "locks")
    monkeypatch.setattr(ports, "CABLE_S", 0.01)
    monkeypatch.setattr(ports, "require_free", lambda port: None)
    monkeypatch.setattr(compile, "board_tree", lambda _: tmp_path)
    return there


@pytest.fixture
def orders(monkeypatch: pytest.MonkeyPatch) -> list[FlashOrder]:
    """What boards are flashed with; the second port has a board that does not enter its boot loader."""
    given: list[FlashOrder] = []

    def flash_it(port: Port, order: FlashOrder, boards: Any, told: Told) -> Flashed:
        given.append(order)
        told.doing("entering the boot loader")
        told.progress(0.5)
        told.warn(flashing.HEAP_IS_SHORT)
        if port == TWO:
            raise LoaderFault.not_entered(port.device, BOARDS["esp32-devkitc"].enter_boot_loader)
        return FLASHED

    monkeypatch.setattr(flashing, "flash", flash_it)
    return given


@pytest.fixture
def terminal() -> Iterator[str]:
    """A pseudo-terminal, as a port."""
    front, back = pty.openpty()
    yield os.ttyname(back)
    os.close(front)
    os.close(back)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "ESP32_GENERIC-v1.25.0.bin"
    path.write_bytes(firmware_images.image(BOARDS["esp32-devkitc"]))
    return path


def typed(*words: object) -> Any:
    return CliRunner().invoke(program(["board"]), ["board", "flash", *map(str, words)], env={"COLUMNS": "300"})


def refused(*words: object) -> str:
    """The one sentence of a command that is refused."""
    run = typed(*words)
    assert run.exit_code == 1, run.output
    assert run.stderr.startswith("keycast: ") and run.stderr.count("\n") == 1, run.stderr
    return str(run.stderr)


@pytest.mark.parametrize("words", [(), ("fw.bin", "--files-only"), ("--files-only", "--all", "--port", "x"),
                                   ("--files-only", "--board", "toaster")])  # fmt: skip
def test_words_that_contradict_each_other(words: tuple[str, ...]) -> None:
    assert typed(*words).exit_code == 2


def test_a_file_is_checked_before_a_board_is_looked_for(tmp_path: Path, good: Path) -> None:
    """There is no board, and nobody has to wait for that sentence."""
    assert "cannot use" in refused(tmp_path / "none.bin")
    (tmp_path / "page.bin").write_text("<html>")
    assert "is no firmware image but a web page" in refused(tmp_path / "page.bin")
    (tmp_path / "half.bin").write_bytes(good.read_bytes()[:50000])
    assert "holds no application" in refused(tmp_path / "half.bin")
    assert "Nobody has vouched for" in refused(good)
    assert "is not the file that you named" in refused(good, "--sha256", "0" * 64)


def test_no_board_is_waited_for_and_then_the_cable_is_named(good: Path) -> None:
    run = typed(good, "--yes")
    assert run.exit_code == 1 and "Waiting up to 0 s for a board" in run.stdout
    assert "the cable carries power and no data" in run.stderr


def test_one_of_several_boards_has_to_be_named(good: Path, desk: list[Port], orders: list[FlashOrder]) -> None:
    desk += [ONE, TWO]
    assert "Name one: --port /dev/ttyUSB0 or --port /dev/ttyUSB1" in refused(good, "--yes")
    assert "There is no port or virtual board lamp" in refused(good, "--yes", "--port", "lamp")
    assert not orders


def test_a_board_that_was_flashed_has_its_next_step(good: Path, desk: list[Port], orders: list[FlashOrder]) -> None:
    desk += [ONE]
    run = typed(good, "--yes", "--erase", "--revision", "v1.0")
    assert run.exit_code == 0 and run.stderr == ""
    assert "esp32-devkitc with MicroPython 1.25.0, our code runs from the heap" in run.stdout
    assert "keycast board provision NAME --port /dev/ttyUSB0" in run.stdout
    assert f"/dev/ttyUSB0: {flashing.HEAP_IS_SHORT}" in run.stdout
    digest = hashlib.sha256(good.read_bytes()).hexdigest()
    assert f"{good}: nobody has vouched for it but you. Its SHA-256 is {digest}." in run.stdout
    assert "vouched" not in typed(good, "--sha256", digest).stdout
    order = orders[0]
    assert (order.images[0].path, order.erase, order.revision, order.board) == (good, True, "v1.0", None)


def test_a_label_that_cannot_be_made_is_not_passed_over(
    tmp_path: Path, good: Path, desk: list[Port], orders: list[FlashOrder]
) -> None:
    desk.append(ONE)
    run = typed(good, "--yes", "--label", tmp_path / "label.svg")
    assert run.exit_code == 0 and "no label" in run.stdout
    assert not (tmp_path / "label.svg").exists()


def test_several_boards_at_once_have_a_line_each(good: Path, desk: list[Port], orders: list[FlashOrder]) -> None:
    desk += [ONE, TWO]
    run = typed(good, "--yes", "--all")
    assert run.exit_code == 1 and len(orders) == 2
    for port in desk:
        assert f"{port.name}: entering the boot loader\n" in run.stdout
    assert run.stderr == (
        "keycast: /dev/ttyUSB1: The board on /dev/ttyUSB1 does not enter its boot loader. "
        "Hold BOOT, tap EN, let go of BOOT. Then type the command again.\n"
    )
    told = typed(good, "--yes", "--all", "--json")
    assert told.exit_code == 1 and told.stderr == ""
    done, failed = json.loads(told.stdout)
    assert done == {"device": "/dev/ttyUSB0", "hardware": "esp32-devkitc", "micropython": "1.25.0", "runs_from": "heap"}
    assert (failed["device"], failed["code"]) == ("/dev/ttyUSB1", "boot-loader")


def test_a_board_alone_that_fails_is_the_refusal(good: Path, desk: list[Port], orders: list[FlashOrder]) -> None:
    desk += [TWO]
    assert "Hold BOOT, tap EN, let go of BOOT." in refused(good, "--yes")
    assert json.loads(typed(good, "--yes", "--json").stdout)["code"] == "boot-loader"


def test_a_port_in_use_names_the_program_and_two_commands_never_share_a_board(
    good: Path, desk: list[Port], orders: list[FlashOrder], monkeypatch: pytest.MonkeyPatch, terminal: str
) -> None:
    monkeypatch.setattr(ports, "require_free", REQUIRE_FREE)
    with process(OPEN, terminal) as (pid, _):
        assert f"(process {pid})" in refused("--files-only", "--port", terminal)
    with ports.locked(Port(terminal, None, None, terminal), "keycast board monitor"):
        assert "in use by keycast board monitor (process" in refused("--files-only", "--port", terminal)
    assert not orders


def test_progress_on_a_terminal_is_one_line_for_each_board(
    good: Path, desk: list[Port], orders: list[FlashOrder], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk += [ONE]
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(console, "_force_terminal", True)
    monkeypatch.setattr(console, "is_interactive", True)
    assert "/dev/ttyUSB0: entering the boot loader" in typed(good, "--yes").output
