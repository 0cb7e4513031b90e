"""A CPNS Server and a PN GW, each a process of its own, and boards of `device_agent` in the process of the test."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from keycast.provisioning.board import told_trust
from keycast.virtual_board.loopback import own_port
from tests.integration.end_to_end_house import SG, HouseBoard
from tests.system.keycast_process import GatewayProcess, Process
from tests.typed_command import keycast


async def run(*words: object) -> str:
    """Type a command that must succeed; what it prints."""
    result = await asyncio.to_thread(keycast, *words)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@dataclass
class Home:
    """`boards` by name. Commands are typed as an operator would type them."""

    server: Process
    gateway: GatewayProcess
    boards: dict[str, HouseBoard]

    async def board(self, name: str, address: str | None = None) -> HouseBoard:
        """Start a board that both the gateway and the Server were told of. It takes `address` for the gateway's."""
        at = address or f"{self.gateway.address}:{self.gateway.port}"
        board = HouseBoard(name, told_trust(await self.gateway.ask("trust"), at))
        credential = board.credential.ccs.hex()
        await self.gateway.ask("board.register", credential=credential)
        await run("server", "admit-board", name, "home", "--credential", credential, "--state", self.server.state)
        self.boards[name] = board
        await board.start()
        return board

    async def group(self, do: str, *words: object) -> str:
        """Type `keycast group DO ...` at the Server."""
        return await run("group", do, *words, "--state", self.server.state)

    async def all_hold_the_newest(self, *names: str, sg_id: str = SG, timeout_s: float = 180) -> int:
        """Wait until these boards, or all, hold the newest key and the Server knows it; return its version."""
        async with asyncio.timeout(timeout_s):
            while True:
                view = await self.server.ask("group.show", sg_id=sg_id)
                confirmed = {each["pne_id"]: each["confirmed"] for each in view["members"]}
                held = {self.boards[name].version(sg_id) for name in names or self.boards}
                held |= {confirmed[name] for name in names or self.boards}
                if held == {view["version"]} and not view["update_pending"]:
                    return int(view["version"])
                await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def open_home(folder: Path) -> AsyncIterator[Home]:
    """Yield a Home without boards, whose Server and gateway know each other."""
    port, state = own_port(), folder / "server-state"
    words = ["server", "run", "--state", str(state), "--listen", "127.0.0.1", "--port", str(port)]
    server = Process(folder, "server", state, words)
    gateway = GatewayProcess(folder / "gateway", uplink=f'kind = "udp"\nhost = "127.0.0.1"\nport = {port}')
    home = Home(server, gateway, {})
    try:
        await server.start()
        own = (await run("server", "credential", "--state", state)).split()[0]
        await run("gateway", "trust-server", own, "-c", gateway.config)
        theirs = await run("gateway", "credential", "-c", gateway.config)
        await run("server", "add-gateway", "gw.home", "home", theirs, "--open", "--state", state)
        await gateway.start()
        yield home
    finally:
        for part in (*home.boards.values(), gateway, server):
            await part.stop()
