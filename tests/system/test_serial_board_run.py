"""`keycast board run`: a virtual board as a process of its own, found by its name and kept on the disk."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway_agent.config.load import load
from keycast.virtual_board.serial_board import firmware_image
from tests.system.keycast_process import KEYCAST
from tests.system.serial_tools import Terminal
from tests.typed_command import keycast
from tests.waiting import PATIENCE_S, until

pytestmark = pytest.mark.real_time


def environment(home: Path) -> dict[str, str]:
    return {"HOME": str(home), "XDG_RUNTIME_DIR": str(home / "run"), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}


@asynccontextmanager
async def running(home: Path, *words: str) -> AsyncIterator[tuple[dict[str, Any], asyncio.subprocess.Process]]:
    """`keycast board run porch`, and what it says; ended by Ctrl-C."""
    process = await asyncio.create_subprocess_exec(
        KEYCAST, "board", "run", "porch", "--json", *words, env=environment(home), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            said = b""
            while not said.endswith(b"\n}\n"):
                line = await process.stdout.readline()
                assert line, f"it ended after {said!r}"
                said += line
        yield json.loads(said), process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        async with asyncio.timeout(PATIENCE_S):
            assert await process.wait() == 0


async def run(home: Path, *words: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        KEYCAST, *words, env=environment(home), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(PATIENCE_S):
        printed, _ = await process.communicate()
    return await process.wait(), printed.decode()


async def test_a_board_is_found_by_its_name_while_it_runs_and_its_flash_is_kept(tmp_path: Path) -> None:
    link, flash = tmp_path / "run/keycast/boards/porch", tmp_path / ".local/state/keycast/boards/porch"
    async with running(tmp_path) as (told, _):
        assert os.readlink(link) == told["port"] and told["is_blank"]
        assert Path(told["firmware"]).read_bytes() == firmware_image().read_bytes()
        assert flash.stat().st_mode & 0o777 == link.parent.stat().st_mode & 0o777 == 0o700
        code, complaint = await run(tmp_path, "board", "run", "porch")
        assert code == 1 and "already uses the virtual board" in complaint
    assert not link.is_symlink()
    (flash / "vfs" / "main.py").write_text("1")
    async with running(tmp_path):
        assert (flash / "vfs" / "main.py").exists()
    async with running(tmp_path, "--erase"):
        assert not (flash / "vfs" / "main.py").exists()


async def test_a_board_whose_process_was_killed_is_run_again(tmp_path: Path) -> None:
    link = tmp_path / "run/keycast/boards/porch"
    with pytest.raises(AssertionError):
        async with running(tmp_path) as (_, process):
            process.kill()
            await process.wait()
    assert link.is_symlink()  # to a port that is gone
    async with running(tmp_path) as (told, _):
        assert os.readlink(link) == told["port"]


@pytest.mark.parametrize("options", [(), ("--virtual-boards",)])
async def test_a_gateway_that_does_not_send_to_virtual_boards_is_told(tmp_path: Path, options: tuple[str, ...]) -> None:
    config = tmp_path / "keycast.toml"
    assert (await run(tmp_path, "gateway", "init", str(config), *options))[0] == 0
    assert load(config).broadcast.interfaces == (["auto", "lo"] if options else ["auto"])
    process = await asyncio.create_subprocess_exec(
        KEYCAST, "board", "run", "porch", "-c", config, env=environment(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        said = await process.stdout.readuntil(b"Its Wi-Fi is 'virtual', with the password 'virtual password'\n")
        assert (b"does not broadcast to virtual boards" in said) is not bool(options)
        process.terminate()
        assert await process.wait() == 0


async def test_a_person_presses_the_buttons_by_words(tmp_path: Path) -> None:
    keyboard, terminal_end = os.openpty()
    process = await asyncio.create_subprocess_exec(
        KEYCAST, "board", "run", "porch", env=environment(tmp_path), stdin=terminal_end, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            await process.stdout.readuntil(b"Its buttons: type reset, boot")
            port = os.readlink(tmp_path / "run/keycast/boards/porch")
            async with Terminal(port) as terminal:
                await terminal.until(b"invalid header: 0xffffffff\r\n")  # the board has noticed that the port is open
                os.write(keyboard, b"boot\n")
                await terminal.until(b"waiting for download\r\n")
                os.write(keyboard, b"reset\n")
                await terminal.until(b"invalid header: 0xffffffff\r\n")
                os.write(keyboard, b"fly\n")
                await process.stdout.readuntil(b"Type reset, boot or press; Ctrl-C unplugs the board\n")
            os.write(keyboard, b"press\n")
            pin = tmp_path / ".local/state/keycast/boards/porch/pins/0"
            await until(lambda: pin.read_text() == "0")
            await until(lambda: pin.read_text() == "1")
            process.terminate()
            assert await process.wait() == 0
    finally:
        os.close(keyboard)
        os.close(terminal_end)
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("name", ["", "a/b", "..", "-x", "x" * 70, "ä"])
def test_a_name_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for variable, value in environment(tmp_path).items():
        monkeypatch.setenv(variable, value)
    for words in ((), ("--join", "home/lights")):  # before the gateway is asked to make a group for it
        done = keycast("board", "run", *words, "--", name)
        assert done.returncode == 1 and "is no name for a virtual board" in done.stderr
    assert not list(tmp_path.rglob("*"))


async def test_a_flash_with_the_partitions_of_an_earlier_release_is_refused_with_the_next_step(tmp_path: Path) -> None:
    flash = tmp_path / ".local/state/keycast/boards/porch"
    async with running(tmp_path):
        pass
    whole = {path: path.read_bytes() for path in flash.glob("*.bin")}
    wrong = {"romfs.bin": bytes(0x20000), "flash-00f000.bin": bytes(0x1000)}
    for name, octets in wrong.items():
        (flash / name).write_bytes(octets)
        code, complaint = await run(tmp_path, "board", "run", "porch")
        assert code == 1 and f"has other partitions than virtual boards have now ({name})" in " ".join(
            complaint.split()
        )
        assert "keycast board run porch --erase" in " ".join(complaint.split())
        (flash / name).unlink()
        for path, before in whole.items():
            path.write_bytes(before)
    for name, octets in wrong.items():
        (flash / name).write_bytes(octets)
    async with running(tmp_path, "--erase") as (told, _):
        assert told["is_blank"]
    async with running(tmp_path):
        pass
