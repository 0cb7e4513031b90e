"""What `keycast gateway run` is put together of, and how `keycast gateway check` tries the same without starting it."""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cpns.errors import CpnsError
from gateway_agent.app import SEAL_FOLDER, SERVER_FOLDER, GatewayApp, own_keys
from gateway_agent.config.schema import GatewayConfig
from gateway_agent.control import SOCKET_FILE, check_path, who_answers
from gateway_agent.core.ports import Uplink
from gateway_agent.errors import GatewayError
from gateway_agent.net import interfaces
from gateway_agent.store.errors import RESTORE_BACKUP
from key_servers.cpns_server.app import CpnsServer
from key_servers.cpns_server.config import ServerConfig
from key_servers.errors import ServerError
from keycast.copies import state_copies
from keycast.services.embedded import InProcessUplink
from keycast.services.server_config import checked
from keycast.services.steering import commands
from message_plane.errors import PlaneError, PortInUse
from message_plane.port_holder import holders
from message_plane.udp import bound
from private_store import contents, folders
from private_store.errors import PrivateStoreError

if TYPE_CHECKING:
    from gateway_agent.val_client.app import SealClient


@dataclass
class GatewayService:
    """A PN GW with what it has beside it: a CPNS Server in the same process, the VAL client of `[seal]`."""

    config: GatewayConfig
    app: GatewayApp
    server: CpnsServer | None
    seal: "SealClient | None"

    async def start(self) -> None:
        """Deliver, announce, and listen to commands."""
        known = commands(self.app, self.server)
        known["gateway.backup"] = self.back_up
        if self.seal is not None:
            known["seal.boards"] = self.seal.boards.status
        if self.server is not None:
            self.server.attach(self.config.gateway.id, self.app.gateway.handle_server)
        await self.app.start(known)
        if self.seal is not None:
            await self.seal.start(self.app.gateway)

    async def back_up(self, path: str) -> str:
        """Write all of this gateway's state as one backup, the new file `path`; returns it."""
        images = self.app.images()  # at one moment: nothing else runs until it is made
        if self.server is not None:
            images |= {f"{SERVER_FOLDER}/{name}": octets for name, octets in self.server.images().items()}
        if self.seal is not None:
            images |= {f"{SEAL_FOLDER}/{name}": octets for name, octets in self.seal.images().items()}
        await asyncio.to_thread(state_copies.write_gateway_backup, self.config, Path(path), images)
        return path


@asynccontextmanager
async def opened(config: GatewayConfig, *, at_work: bool = True) -> AsyncIterator[GatewayService]:
    """Everything that `config` names, with its files and ports; `start` it. All of it is closed with the context.

    Without `at_work` the embedded Server does nothing by itself. Raises what says in a sentence why it cannot run.
    """
    state = config.gateway.state_dir
    folders.make(state)
    async with AsyncExitStack() as stack:
        stack.enter_context(state_copies.gateway_state(state))
        own_keys(config)  # the first names on the list of what was made
        server = None
        uplink: Uplink | None = None
        if config.uplink.kind == "embedded":
            settings = checked(
                ServerConfig,
                id=config.uplink.server_id,
                rekey_on_join=config.groups.rekey_on_join,
                period_s=config.groups.period_s,
            )
            with contents.keeping(state / SERVER_FOLDER, RESTORE_BACKUP):
                server = await CpnsServer.open(state / SERVER_FOLDER, settings, background=at_work)
                stack.push_async_callback(server.close)
            uplink = InProcessUplink(server, config.gateway.id)
        seal = None
        if config.seal is not None:
            from gateway_agent.val_client.app import SealClient

            with contents.keeping(state / SEAL_FOLDER, RESTORE_BACKUP):
                seal = await SealClient.open(config.seal, state / SEAL_FOLDER, config.gateway.pn, server=uplink)
                stack.push_async_callback(seal.close)
            uplink = seal.uplink
        app = await GatewayApp.open(config, uplink, seal.boards if seal else None)
        stack.push_async_callback(app.close)
        if server is not None and config.gateway.id not in {gateway.gateway_id for gateway in server.gateways()}:
            server.register_gateway(config.gateway.id, config.gateway.pn, is_open=True)
        yield GatewayService(config, app, server, seal)


@dataclass
class Trial:
    """What `trial` found. `pid`: the process that runs with this configuration already, None if none does.

    `networks` have interface, address, broadcast and problem, `left_out` interface, address and reason.
    """

    pid: int | None
    networks: list[dict[str, str]] = field(default_factory=list)
    left_out: list[dict[str, str]] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)


async def trial(config: GatewayConfig) -> Trial:
    """Take the steps of a start, and undo what they made where nothing was before. Raises what `opened` raises.

    A gateway that runs is left alone: then the ports are looked at, and whoever has them must be that gateway.
    """
    state = config.gateway.state_dir
    check_path(state / SOCKET_FILE)
    wanted = config.broadcast.interfaces
    found = Trial(who_answers(state / SOCKET_FILE))
    every = interfaces.every_interface()
    for each in interfaces.choose(wanted, every) if wanted else []:
        found.networks.append(
            {"interface": each.name, "address": each.address, "broadcast": each.broadcast, "problem": each.standstill}
        )
    for each, reason in interfaces.left_out(wanted, every):
        found.left_out.append({"interface": each.name, "address": each.address, "reason": reason})
    found.addresses = interfaces.reachable(wanted, config.message_plane.listen, every)
    if found.pid is not None:
        folders.check(state)
        _try_ports(config, found.pid)
    elif state.is_dir() and any(state.iterdir()):
        async with opened(config, at_work=False):
            pass
    else:
        with _folder_for_a_moment(state) as folder:
            gateway = config.gateway.model_copy(update={"state_dir": folder})
            async with opened(config.model_copy(update={"gateway": gateway}), at_work=False):
                pass
    return found


@contextmanager
def _folder_for_a_moment(state: Path) -> Iterator[Path]:
    """An empty folder in `state`, which is made for as long: what can be written there can be written in `state`.

    What is refused there is told of `state`, as a start would.
    """
    made = [each for each in (state, *state.parents) if not os.path.lexists(each)]
    try:
        folders.make(state)
        try:
            within = tempfile.TemporaryDirectory(prefix=".keycast-check-", dir=state)
        except OSError as error:
            with state_copies.gateway_state(state):  # which a start does first, and is refused too
                raise GatewayError(
                    f"The folder {state} cannot be written: {error.strerror}.", "Check the space on its disk."
                ) from None
        with within as folder:
            try:
                yield Path(folder)
            except (CpnsError, GatewayError, ServerError, PlaneError, PrivateStoreError) as error:
                error.args = tuple(str(each).replace(folder, str(state)) for each in error.args)
                raise
    finally:
        for each in made:
            with contextlib.suppress(OSError):  # it was not made, or another start has begun to use it
                each.rmdir()


def _try_ports(config: GatewayConfig, pid: int) -> None:
    """Raise PortInUse or CannotListen, but not for what the gateway in process `pid` has."""
    port = config.message_plane.port
    for host in config.message_plane.listen:
        try:
            bound(host, port).close()
        except PortInUse:
            if pid not in [0, *(holder.pid for holder in holders("udp", host, port))]:
                raise
