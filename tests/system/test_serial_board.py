"""The virtual board on a pseudo-terminal: what mpremote and a person at its prompt do to a board works on this one."""

import asyncio
import random
from pathlib import Path

import pytest

from keycast.board.ports import Port
from keycast.board.repl import BoardAnswered, Repl
from keycast.micropython_vm import compile
from keycast.virtual_board import serial_board
from keycast.virtual_board.vm_process import HEAP_KIB
from tests.integration.virtual_air_world import air_world
from tests.system.serial_tools import Terminal, mpremote, plugged_in, run_on, tool

pytestmark = pytest.mark.real_time

MAIN = """
import time
while True:
    print("main", __name__)
    time.sleep_ms(10)
"""


async def test_mpremote_copies_lists_runs_and_removes_files(tmp_path: Path) -> None:
    octets = random.Random(1).randbytes(3000)
    (tmp_path / "here.bin").write_bytes(octets)
    (tmp_path / "script.py").write_text('print("run as", __name__)\n')
    async with plugged_in(tmp_path / "board") as board:
        await mpremote(board, "fs", "cp", tmp_path / "here.bin", ":there.bin", "+", "fs", "mkdir", ":folder")
        listed = await mpremote(board, "fs", "ls", ":")
        assert sorted(line.split()[1] for line in listed.splitlines()[1:]) == ["folder/", "there.bin"]
        await mpremote(board, "fs", "cp", ":there.bin", tmp_path / "back.bin")
        assert (tmp_path / "back.bin").read_bytes() == octets
        assert await mpremote(board, "run", tmp_path / "script.py") == "run as __main__\r\n"
        await mpremote(board, "fs", "rm", ":there.bin", "+", "fs", "rmdir", ":/folder")
        assert await mpremote(board, "fs", "ls", ":/") == "ls :/\n"
        assert await mpremote(board, "exec", "import os; print(os.listdir('/'), os.getcwd())") == "[] /\r\n"


async def test_a_traceback_is_that_of_the_program(tmp_path: Path) -> None:
    async with plugged_in(tmp_path / "board") as board:
        code, printed = await tool("mpremote", "connect", board.line.device, "exec", "print(1)\nraise ValueError(2)")
    assert code == 1
    assert printed.splitlines()[-3:] == [
        "Traceback (most recent call last):",
        '  File "<stdin>", line 2, in <module>',
        "ValueError: 2",
    ]


async def test_the_text_of_a_program_takes_no_room_in_the_heap(tmp_path: Path) -> None:
    text = "#" * (HEAP_KIB * 1024) + "\nprint('runs')"

    def runs(device: str) -> None:
        with Repl(Port(device, None, None, "lamp")) as repl:
            assert repl.run(text) == "runs\n"
            with pytest.raises(BoardAnswered, match="MemoryError"):
                repl.run(f"kept = {list(range(20000))}")
            assert repl.run("print('goes on')") == "goes on\n"

    async with plugged_in(tmp_path / "board") as board:
        await asyncio.to_thread(runs, board.line.device)


async def test_a_program_that_runs_is_interrupted_and_what_it_left_behind_goes_with_a_soft_reset(
    tmp_path: Path,
) -> None:
    async with plugged_in(tmp_path / "board") as board:
        await run_on(board, "left = 5\nwhile True: pass")
        assert await mpremote(board, "resume", "exec", "print(left)") == "5\r\n"
        assert await mpremote(board, "exec", "print('left' in globals())") == "False\r\n"


async def test_boot_and_main_run_at_each_start_and_main_not_when_a_tool_resets_the_board(tmp_path: Path) -> None:
    folder = tmp_path / "board"
    async with plugged_in(folder) as board, Terminal(board.line.device) as terminal:
        await terminal.prompt()
        (board.flash.vfs / "boot.py").write_text("print('boot')")
        (board.flash.vfs / "main.py").write_text(MAIN)
        terminal.type(b"\x04")
        await terminal.until(b"MPY: soft reboot\r\nboot\r\nmain __main__\r\n")
        terminal.type(b"\x03")
        await terminal.until(b"KeyboardInterrupt: \r\n")
        await terminal.until(b">>> ")
        terminal.type(b"\x01\x04")
        after = await terminal.until(b"raw REPL; CTRL-B to exit\r\n>OK\r\nMPY: soft reboot\r\n")
        after = await terminal.until(b"raw REPL; CTRL-B to exit\r\n>")
        assert after.startswith(b"boot\r\nraw")
    async with plugged_in(folder) as board, Terminal(board.line.device) as terminal:  # the flash is still there
        await terminal.until(b"main __main__\r\n")


async def test_the_board_goes_on_while_no_tool_has_its_port_open(tmp_path: Path) -> None:
    async with plugged_in(tmp_path / "board") as board:
        await run_on(board, "import time\nn = 0\nwhile True:\n n += 1\n print(n)\n time.sleep_ms(1)")
        assert int(await mpremote(board, "resume", "exec", "print(n)")) > 1
        async with Terminal(board.line.device) as terminal:
            terminal.type(b"import machine\rmachine.reset()\r")
            await terminal.until(b"MicroPython v")
        assert await mpremote(board, "exec", "print('n' in globals())") == "False\r\n"


LISTENS = """
import bluetooth, time
heard = bytearray(3)
def on(event, data):
    if event == 5:
        for i in range(3):
            heard[i] = data[4][i]
ble = bluetooth.BLE()
ble.active(True)
ble.irq(on)
ble.gap_scan(0, 100000, 100000)
while not heard[0]:
    time.sleep_ms(10)
print(bytes(heard))
"""


async def test_a_program_hears_the_air_of_bluetooth_and_goes_on_after_a_soft_reset(tmp_path: Path) -> None:
    async with air_world() as world:
        world.gateway.advertise(3, 0.02, b"key")
        async with plugged_in(tmp_path / "board", BOARD_BLE=str(world.boards.path)) as board:
            for _ in range(2):  # mpremote resets the board before each
                assert await mpremote(board, "exec", LISTENS) == "b'key'\r\n"


async def test_a_person_at_the_prompt(tmp_path: Path) -> None:
    async with plugged_in(tmp_path / "board") as board, Terminal(board.line.device) as terminal:
        await terminal.prompt()
        for typed, answer in (
            (b"1+\x7f+1\r", b"1+\b \b+1\r\n2\r\n>>> "),
            (b"for i in (1, 2):\r  print(i)\r\r", b"...   print(i)\r\n... \r\n1\r\n2\r\n>>> "),
            (b"x = [1,\r2]\r", b"... 2]\r\n>>> "),
            (b"'''a\rb'''\r", b"... b'''\r\n'a\\nb'\r\n>>> "),
            (b"nothing\x03", b"nothing\r\n>>> "),
            (b"x\r", b"x\r\n[1, 2]\r\n>>> "),
            (b"\x05if x:\r print(3)\r\x04", b"===  print(3)\r\n=== \r\n3\r\n>>> "),
            (b"1/0\r", b"ZeroDivisionError: divide by zero\r\n>>> "),
        ):
            terminal.type(typed)
            heard = await terminal.until(b">>> ")
            assert heard.endswith(answer), f"{typed!r}: {heard!r}"


async def test_an_image_is_written_into_the_romfs_partition_and_there_at_the_next_start(tmp_path: Path) -> None:
    compile.compile_board()
    image = compile.BOARD_IMAGE.read_bytes()
    async with plugged_in(tmp_path / "board") as board:
        assert "Not a valid ROMFS" in await mpremote(board, "romfs", "query")
        assert "deployed" in await mpremote(board, "romfs", "deploy", compile.BOARD_IMAGE)
        assert board.flash.read(0x1E0000, len(image)) == image
        assert await mpremote(board, "exec", "import device_agent.api, sys; print(sys.path)") == (
            "['', '.frozen', '/lib', '/rom', '/rom/lib']\r\n"
        )


async def test_a_watchdog_that_is_not_fed_resets_the_board_also_at_its_prompt(tmp_path: Path) -> None:
    async with plugged_in(tmp_path / "board") as board, Terminal(board.line.device) as terminal:
        await terminal.prompt()
        terminal.type(b"import machine\rmachine.WDT(timeout=1000)\r")
        await terminal.until(b"rst:0x8 (TG1WDT_SYS_RESET)")
        await terminal.prompt()
        terminal.type(b"machine.reset_cause()\rimport machine\rmachine.reset_cause()\r")
        assert (await terminal.until(b"3\r\n>>> ")).endswith(b"machine.reset_cause()\r\n3\r\n>>> ")


async def test_a_tool_that_interrupts_twice_does_not_end_the_board(tmp_path: Path) -> None:
    async with plugged_in(tmp_path / "board") as board, Terminal(board.line.device) as terminal:
        await terminal.prompt()
        for _ in range(5):
            terminal.type(b"while True: print('bu' 'sy')\r\r")
            await terminal.until(b"busy\r\n")
            terminal.type(b"\x03\x03")
            terminal.type(b"\x03")
            await terminal.until(b"KeyboardInterrupt: \r\n")
        await terminal.prompt()
        assert b"rst:" not in terminal.heard


async def test_whatever_is_sent_to_a_board_it_comes_back_to_its_prompt(tmp_path: Path) -> None:
    dice = random.Random(3)
    keys = [bytes([octet]) for octet in range(256)] + [
        b"\x01",
        b"\x02",
        b"\x03",
        b"\x05",
        b"\x05A\x01",
        b"\r",
        b"\x04",
    ] * 9
    async with plugged_in(tmp_path / "board") as board:
        for _ in range(5):
            async with Terminal(board.line.device) as terminal:
                terminal.type(b"".join(dice.choices(keys, k=120)))
            assert await mpremote(board, "exec", "print(6 * 7)") == "42\r\n"


async def test_a_board_whose_vm_fails_says_why_and_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serial_board.build()
    monkeypatch.setattr(serial_board, "HARDWARE_IMAGE", tmp_path / "none")
    async with plugged_in(tmp_path / "board") as board, Terminal(board.line.device) as terminal:
        await terminal.until(b"rst:0xc (SW_CPU_RESET)")
        await terminal.until(b"OSError: [Errno 2] ENOENT\r\n")
        monkeypatch.undo()
        await terminal.until(b">>> ")
