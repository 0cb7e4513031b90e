"""`keycast status --health` says what /health/ready says, and that a gateway which does not answer does not live."""

import asyncio
import json
import socket

from typer.testing import CliRunner

from gateway_agent.control_client import SOCKET_FILE
from keycast.commands import status
from keycast.program import program
from tests.unit.home_world import Home


def typed(*words):
    run = CliRunner().invoke(program(list(words)), list(words))
    return run.exit_code, run.stdout


async def test_a_running_gateway_is_live_and_ready_until_its_store_is_not(tmp_path, monkeypatch):
    home = Home(tmp_path)
    async with home.running() as service:
        words = ("status", "--health", "-c", str(home.path))
        assert await asyncio.to_thread(typed, *words) == (0, "live, ready\n")
        monkeypatch.setattr(service.app.health, "_store_trouble", lambda: "the disk is full")
        code, shown = await asyncio.to_thread(typed, *words)
        assert code == 2 and shown == "live, not ready; the store cannot be written\n"
        code, shown = await asyncio.to_thread(typed, *words, "--json")
        assert code == 2 and json.loads(shown) == {
            "live": True, "ready": False, "reasons": ["the store cannot be written"],
        }  # fmt: skip


def test_a_gateway_that_does_not_answer_does_not_live(tmp_path, monkeypatch):
    home = Home(tmp_path)
    home.state.mkdir(mode=0o700)
    monkeypatch.setattr(status, "LIVES_WITHIN_S", 0.05)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(home.state / SOCKET_FILE))
        silent.listen()
        code, shown = typed("status", "--health", "-c", str(home.path))
    assert code == 2 and shown.startswith("not live, not ready; ")
