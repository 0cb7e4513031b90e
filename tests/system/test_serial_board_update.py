"""An update as a person without hardware sees it: `keycast board run`, and an offer by broadcast."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.system.serial_tools import Terminal
from tests.system.test_serial_board_home import gateway_in, prepared
from tests.system.test_serial_board_run import run, running

pytestmark = pytest.mark.real_time

NUMBER = 7
PATIENCE_S = 240  # of a busy machine


async def who(terminal: Terminal) -> dict[str, Any]:
    """What the board says of itself."""
    terminal.type(b"keycast: who\n")
    await terminal.until(b"keycast: who ")
    return dict(json.loads(await terminal.until(b"}")))


@pytest.mark.long
@pytest.mark.req("SEC-30")
async def test_a_board_of_board_run_runs_an_update_that_was_broadcast(tmp_path: Path) -> None:
    (tmp_path / "passphrase").touch(mode=0o600)
    (tmp_path / "passphrase").write_text("never kept on a gateway\n")
    key = (str(tmp_path / "update.key"), "--passphrase-file", str(tmp_path / "passphrase"))
    file = str(tmp_path / "agent.suit")
    gateway = gateway_in(tmp_path)
    config = ("-c", str(gateway.config))

    async def done(*words: str) -> str:
        code, printed = await run(tmp_path, *words)
        assert code == 0, printed
        return printed

    async def status() -> dict[str, Any]:
        (board,) = json.loads(await done("update", "status", "--json", *config))["boards"]
        return dict(board)

    await done("update", "key", *key)
    gateway.config.write_text(gateway.config.read_text() + '\n[update]\nkey = "update.key.pub"\n')
    prepared(tmp_path)
    await gateway.start()
    try:
        await done("group", "create", "home/lights", "--open-to", "home", *config)
        async with running(tmp_path, *config) as (told, _), Terminal(told["port"]) as terminal:
            await terminal.until(b"keycast: pairing-secret ")
            secret = (await terminal.until(b"\r\n")).split()[-1].decode()
            await done("board", "pair", "lamp.porch", secret, *config)
            await terminal.until(b"joined home/lights\r\n")
            await done("update", "sign", "-o", file, "--number", str(NUMBER), "--key", *key)
            await done("update", "offer", file, "--broadcast", *config)
            async with asyncio.timeout(PATIENCE_S):
                while (await gateway.ask("update.status"))["boards"][0]["agent_number"] != NUMBER:
                    await asyncio.sleep(0.2)
            assert (await status()).items() >= {"agent_number": NUMBER, "state": "idle"}.items()
            for line in (b"collecting 7 0", b"waiting 7 0", b"trial 7 2", b"confirmed 7 0"):
                await terminal.until(b"keycast: update " + line)
            assert (await who(terminal)).items() >= {"update": NUMBER, "slot": 1}.items()
        async with running(tmp_path, *config) as (told, _), Terminal(told["port"]) as terminal:  # after a power cut
            await terminal.until(b"joined home/lights\r\n")
            assert (await who(terminal)).items() >= {"update": NUMBER, "slot": 1}.items()
    finally:
        await gateway.stop()
