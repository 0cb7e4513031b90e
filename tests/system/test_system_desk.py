"""`keycast board provision` on a virtual board with a port: what goes wrong at a desk, and what a person is told.

Gateway, board and commands are processes of their own. No password is in what they print, log or are called with.
"""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from keycast.virtual_board.named_board import WIFI_NAME, WIFI_PASSWORD
from tests.system.keycast_process import KEYCAST
from tests.system.test_serial_board_home import gateway_in, prepared
from tests.system.test_serial_board_run import environment, run, running

pytestmark = pytest.mark.real_time

LIMIT_S = 150  # a command waits for what becomes of the board, and this machine may be busy
WRONG = "not the right password"
# A terminal, in which what a program asks for is not shown again.
IN_TERMINAL = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"


class Person:
    """A person at a machine with the home folder `home`; `words` go with each command. All that is seen is kept."""

    def __init__(self, home: Path, *words: str) -> None:
        self.home = home
        self.seen = ""
        self._words = words

    async def provision(self, *words: str | Path) -> tuple[int, str]:
        return await self._done(str(KEYCAST), "board", "provision", *map(str, words), *self._words)

    async def told(self, *words: str | Path) -> Any:
        """What the command answers with --json."""
        return json.loads((await self.provision(*words, "--json"))[1])

    async def typing(self, answer: str, *words: str) -> tuple[int, str]:
        """The same in a terminal, where the person answers the one question."""
        terminal = (sys.executable, "-c", IN_TERMINAL, str(KEYCAST))
        return await self._done(*terminal, "board", "provision", *words, *self._words, answer=answer)

    async def _done(self, *command: str, answer: str | None = None) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            *command,
            env=environment(self.home),
            stdin=asyncio.subprocess.DEVNULL if answer is None else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        assert process.stdout is not None
        async with asyncio.timeout(LIMIT_S):
            printed = b""
            if answer is not None:
                assert process.stdin is not None
                printed = await process.stdout.readuntil(b": ")
                process.stdin.write(f"{answer}\n".encode())
            printed += await process.stdout.read()
        text = printed.decode()
        self.seen += text
        return await process.wait(), text


@pytest.mark.long
@pytest.mark.req("SEC-20", "SEC-31", "SEC-33")
async def test_what_goes_wrong_at_a_desk_is_said_and_mended_by_the_same_command(tmp_path: Path) -> None:
    gateway = gateway_in(tmp_path)
    prepared(tmp_path)
    password, wrong = tmp_path / "password", tmp_path / "wrong"
    password.write_text(f"{WIFI_PASSWORD}\n")
    wrong.write_text(WRONG)
    config = ("-c", str(gateway.config))
    person = Person(tmp_path, *config)
    wifi = ("--wifi", WIFI_NAME, "--wifi-password-file")
    porch = ("lamp.porch", "--port", "porch")
    code, printed = await person.provision(*porch, *wifi, password)
    assert code == 1 and "Start it: keycast gateway run" in printed
    await gateway.start()
    try:
        assert (await run(tmp_path, "group", "create", "home/lights", "--open-to", "home", *config))[0] == 0
        async with running(tmp_path, *config):
            code, printed = await person.provision("lamp.porch", "--port", "prch")
            assert code == 1 and "There is no port or virtual board prch. There is porch." in printed
            code, printed = await person.provision(*porch, "--group", "home/light")
            assert code == 1 and "'home/lights'" in printed
            assert not await gateway.ask("board.list")

            code, printed = await person.typing(WRONG, *porch, "--wifi", WIFI_NAME)
            assert code == 1 and "does not accept its Wi-Fi password" in printed
            assert [board["pne_id"] for board in await gateway.ask("board.list")] == ["lamp.porch"]
            told = await person.told(*porch, "--wifi", "another", "--wifi-password-file", wrong)
            assert told["code"] == "no-access-point" and "5 GHz" in told["error"]

            async with listening(tmp_path) as pid:
                told = await person.told(*porch)
                assert told["code"] == "port-taken" and str(pid) in told["error"]

            code, printed = await person.provision(*porch, *wifi, password)
            assert code == 0, printed
            assert "keeps its identity" in printed and "is let in and runs" in printed
            first = (await gateway.ask("board.list"))[0]
            assert first["session"]
            told = await person.told("lamp.hall", "--port", "porch")
            assert told["code"] == "not-provisioned" and "This board is lamp.porch already" in told["error"]

            label = tmp_path / "lamp.svg"
            code, printed = await person.provision(*porch, "--replace", "--label", label)
            assert code == 0, printed
            assert "makes its key" in printed and label.stat().st_mode & 0o777 == 0o600
            secret = label.read_text().rpartition("</text>")[0].rpartition(">")[2]
            assert len(secret) == 19 and secret not in person.seen

            table = tmp_path / "boards.csv"
            table.write_text("name,port,group\nlamp.cellar,/dev/ttyNONE,\nlamp.porch,porch,home/lights\n")
            code, printed = await person.provision("--csv", table, "--json")
            assert code == 1
            assert [(each["pne_id"], each["state"]) for each in json.loads(printed)] == [
                ("lamp.cellar", "no-port"),
                ("lamp.porch", "running"),
            ]
        everything = person.seen + gateway.log.read_text()
        for secret_text in (WIFI_PASSWORD, WRONG, WRONG.encode().hex(), WIFI_PASSWORD.encode().hex()):
            assert secret_text not in everything
    finally:
        await gateway.stop()


class listening:
    """`keycast board monitor` on the board, as long as the context lasts; its process ID."""

    def __init__(self, home: Path) -> None:
        self._home = home

    async def __aenter__(self) -> int:
        self._process = await asyncio.create_subprocess_exec(
            *(str(KEYCAST), "board", "monitor", "--port", "porch"),
            env=environment(self._home) | {"PYTHONUNBUFFERED": "1"},
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(LIMIT_S):
            while b"is open" not in await self._process.stdout.readline():
                pass
        return self._process.pid

    async def __aexit__(self, *_: object) -> None:
        self._process.kill()
        await self._process.wait()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "name one board, or with --csv a file that names them"),
        (("lamp", "--csv", "boards.csv"), "name one board, or with --csv"),
        (("--csv", "boards.csv", "--port", "porch"), "the file says port and group"),
        (("lamp", "-o", "lamp.record", "--wifi", "house"), "with -o there is no board"),
        (("lamp", "--label", "lamp.pdf"), "A label is a file .svg or .png"),
        (("--csv", "none.csv"), "none.csv"),
    ],
)
async def test_words_that_do_not_go_together_are_a_sentence(
    tmp_path: Path, words: tuple[str, ...], sentence: str
) -> None:
    code, printed = await run(tmp_path, "board", "provision", *words, "-c", str(tmp_path / "keycast.toml"))
    assert code == 1 and sentence in " ".join(printed.split())
    assert not os.listdir(tmp_path)
