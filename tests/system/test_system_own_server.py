"""A CPNS Server on its own, a PN GW beside it, and boards: three kinds of processes, set up by the commands' help."""

import asyncio

import pytest

from keycast.virtual_board.board import Network
from keycast.virtual_board.fleet import Fleet
from keycast.virtual_board.loopback import free_numbers, own_port
from tests.system.keycast_process import GatewayProcess, Process
from tests.typed_command import keycast
from tests.waiting import PATIENCE_S

SG = "home/lights"


def done(result):
    """The output of a command that worked."""
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


async def run(*arguments):
    return done(await asyncio.to_thread(keycast, *arguments))


async def held_by_all(server, fleet, timeout_s=PATIENCE_S):
    """Wait until every board holds the newest key of SG and the Server was told so; its version."""
    async with asyncio.timeout(timeout_s):
        while True:
            view = await server.ask("group.show", sg_id=SG)
            members = {
                member["pne_id"]: member["confirmed"] for member in view["members"] if member["state"] == "member"
            }
            statuses = [await board.command("status") for board in fleet.boards]
            versions = {status["groups"].get(SG, 0) for status in statuses} | set(members.values())
            if versions == {view["version"]} and not view["update_pending"] and len(members) == len(fleet.boards):
                return view["version"]
            await asyncio.sleep(0.1)


@pytest.mark.req("CPNS-GKM-09", "CPNS-GKM-28", "CPNS-GKM-29", "CPNS-GKM-50", "CPNS-GKM-62", "CPNS-GKM-63")
async def test_server_gateway_and_boards_each_in_a_process_of_its_own(tmp_path):
    port, state = own_port(), tmp_path / "server-state"
    words = ["server", "run", "--state", str(state), "--listen", "127.0.0.1", "--port", str(port)]
    server = Process(tmp_path, "server", state, words)
    gateway = GatewayProcess(tmp_path / "gateway", uplink=f'kind = "udp"\nhost = "127.0.0.1"\nport = {port}')
    try:
        await server.start()
        await run("gateway", "trust-server", await run("server", "credential", "--state", state), "-c", gateway.config)
        credential = await run("gateway", "credential", "-c", gateway.config)
        await run("server", "add-gateway", "gw.home", "home", credential, "--open", "--state", state)
        await gateway.start()
        assert "0.1" in await run("group", "create", SG, "--open-to", "home", "--state", state)
        records = [await gateway.new_board(f"lamp.{n}") for n in range(3)]
        first = free_numbers(3)
        networks = [Network.loopback(number) for number in range(first, first + 3)]
        async with Fleet(tmp_path / "boards", records, first=first, networks=networks) as fleet:
            await asyncio.gather(*(board.command("join", group=SG, timeout_s=180) for board in fleet.boards))
            joined = await held_by_all(server, fleet)

            await server.stop()
            await server.start()
            by_hand = int((await run("group", "update", SG, "--state", state)).split("0.")[1].split()[0])
            assert await held_by_all(server, fleet) == by_hand > joined

            await server.kill()
            await gateway.kill()
            await server.start()
            await gateway.start()
            await run("group", "expel", SG, "lamp.2", "--state", state)
            async with asyncio.timeout(PATIENCE_S):
                await fleet.boards[0].event("key", group=SG, version=by_hand + 1, reason=2)
                await fleet.boards[1].event("key", group=SG, version=by_hand + 1, reason=2)
            assert (await fleet.boards[2].command("status"))["groups"].get(SG, 0) <= by_hand
            assert "lamp.2" in await run("group", "show", SG, "--state", state)
    finally:
        await gateway.stop()
        await server.stop()
