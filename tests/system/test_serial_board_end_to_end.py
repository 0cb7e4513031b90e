"""A board on a port, made a member of an end-to-end group with the commands that a person types."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cpns.fingerprint import fingerprint
from device_agent.end_to_end import entity_user_keys
from device_agent.key_store import KeyStore
from gateway_agent.control_client import ask
from keycast.provisioning import end_to_end
from keycast.virtual_board.loopback import own_port
from keycast.virtual_board.nvs_folder import NvsFolder
from keycast.virtual_board.serial_board import SerialBoard
from tests.system.keycast_process import GatewayProcess, Process
from tests.system.test_serial_board_home import gateway_in, prepared
from tests.system.test_serial_board_run import run, running
from tests.waiting import PATIENCE_S

pytestmark = pytest.mark.real_time

SG = "home/alarm"
APP = """
async def main(node):
    while True:  # it is put out when its name gets another key at the Server
        group = await node.join("home/alarm", trust="end-to-end")
        print("joined", group.id)
        async for message in group:
            pass
"""
KEY_S = PATIENCE_S


async def answer(home: Path, *words: str) -> Any:
    code, printed = await run(home, *words, "--json")
    assert code == 0, printed
    return json.loads(printed)


@asynccontextmanager
async def with_server(home: Path) -> AsyncIterator[tuple[GatewayProcess, list[str]]]:
    """A gateway with a CPNS Server elsewhere, and the option that names the Server."""
    port, state = own_port(), home / "keycast-server-state"
    words = ["server", "run", "--state", str(state), "--listen", "127.0.0.1", "--port", str(port)]
    server = Process(home, "server", state, words)
    gateway = gateway_in(home, uplink=f'kind = "udp"\nhost = "127.0.0.1"\nport = {port}')
    config, at_server = ["-c", str(gateway.config)], ["--state", str(state)]
    await server.start()
    try:
        credential = (await answer(home, "server", "credential", *at_server))["credential"]
        await answer(home, "gateway", "trust-server", credential, *config)
        own = (await answer(home, "gateway", "credential", *config))["credential"]
        await answer(home, "server", "add-gateway", "gw.home", "home", own, "--open", *at_server)
        await gateway.start()
        yield gateway, at_server
    finally:
        await gateway.stop()
        await server.stop()


@pytest.mark.long
@pytest.mark.req("SEC-25", "SEC-26", "CPNS-GKM-76")
async def test_a_board_gets_its_key_by_its_session_and_then_by_a_key_of_its_own(tmp_path: Path) -> None:
    prepared(tmp_path, APP)
    flash = NvsFolder(SerialBoard(tmp_path / ".local/state/keycast/boards/porch", {}).flash.path("nvs"))
    async with with_server(tmp_path) as (gateway, at_server):
        config = ["-c", str(gateway.config)]
        server = (await answer(tmp_path, "server", "credential", *at_server))["server_fingerprint"]
        await answer(tmp_path, "group", "create", SG, "--open-to", "home", "--trust", "end-to-end", *at_server)
        provision = ("board", "provision", "lamp.porch", "--port", "porch", *config)
        async with running(tmp_path, *config):

            async def has_newest() -> int:
                def it_has(view: dict[str, Any]) -> bool:
                    found = view["pne_deliveries"]
                    return bool(found) and found[0]["accepted_version"] == view["version"]

                async with asyncio.timeout(KEY_S):
                    while not it_has(await asyncio.to_thread(ask, Path(at_server[1]), "group.show", sg_id=SG)):
                        await asyncio.sleep(0.2)
                shown = await answer(tmp_path, "group", "show", SG, *at_server)
                assert it_has(shown)
                return int(shown["version"])

            made = await answer(tmp_path, *provision)
            assert made["server_fingerprint"] == server
            await answer(
                tmp_path, "server", "admit-board", "lamp.porch", "home", "--credential", made["credential"], *at_server
            )
            before = await has_newest()
            board = (await answer(tmp_path, "board", "list", "--ask", *config))["ports"][0]
            assert board["server_fingerprint"] == server
            assert board["own_fingerprint"] == fingerprint(bytes.fromhex(made["credential"]))

            key_file = tmp_path / "lamp.key"
            again = await answer(tmp_path, *provision, "--entity-user-key", str(key_file))
            assert again["credential"] == made["credential"] and again["server_fingerprint"] == ""
            assert KeyStore(flash.snapshot()).load("euk") == entity_user_keys.pack(end_to_end.read_key(key_file))
            admit = ("server", "admit-board", "lamp.porch", "home", "--entity-user-key", str(key_file), *at_server)
            assert "--replace" in (await run(tmp_path, *admit))[1]  # the Server has the key of the session
            await answer(tmp_path, *admit, "--replace")
            await answer(tmp_path, "group", "update", SG, *at_server)
            assert await has_newest() > before
            assert KeyStore(flash.snapshot()).load("ssess") is None
