"""A home put together from its configuration: the PN GW, its CPNS Server or the way to it, its VAL client.

    async with open_home(config) as home:
        await home.start()

The command, the demo, the benches and the tests run their gateways by this. It is the only place that knows which part
is made before which, and which part starts before which.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gateway_agent.app import GatewayApp
from gateway_agent.config.schema import GatewayConfig
from gateway_agent.control import Command
from gateway_agent.core.ports import Uplink
from gateway_agent.observe.config_watch import ConfigWatch
from gateway_agent.observe.log_lines import LogLines
from gateway_agent.observe.observer import Observer
from gateway_agent.observe.onlookers import Onlooker, open_onlookers, require_packages
from gateway_agent.observe.sight import Sight
from gateway_agent.state_files import SEAL_FOLDER, SERVER_FOLDER, own_keys
from gateway_agent.store.errors import RESTORE_BACKUP
from gateway_agent.uplinks.embedded import InProcessUplink
from key_servers.cpns_server.app import CpnsServer
from key_servers.cpns_server.config import ServerConfig
from key_servers.cpns_server.gateways_in_process import InProcessGateways, Receiver
from keycast.copies import state_copies
from keycast.services.log_commands import log_commands
from keycast.services.server_config import checked
from keycast.services.steering import commands, server_facts
from private_store import contents, folders, sealed

if TYPE_CHECKING:
    from gateway_agent.val_client.app import ValClientApp


_log = logging.getLogger(__name__)


@dataclass
class Home:
    """A PN GW with what it has beside it: a CPNS Server in the same process, the VAL client of `[seal]`."""

    config: GatewayConfig
    app: GatewayApp
    server: CpnsServer | None
    val_client: "ValClientApp | None"
    config_path: Path | None = None
    onlookers: list[Onlooker] = field(default_factory=list)
    log_lines: LogLines = field(default_factory=LogLines)

    async def start(self) -> None:
        """Deliver, announce, and listen to commands. The PN GW comes first: the others send to it, or show it."""
        observer = self.app.observer(partial(server_facts, self.server))
        known = commands(self.app, self.server, observer.snapshot)
        known["gateway.backup"] = self.back_up
        known |= log_commands(self.log_lines)
        if self.val_client is not None:
            known["seal.boards"] = self.val_client.boards.status
        self.onlookers = self._open_onlookers(known, observer)
        for onlooker in self.onlookers:
            known |= onlooker.commands
        await self.app.start(known)
        if self.server is not None:
            self.server.start()
        if self.val_client is not None:
            await self.val_client.start()
        for onlooker in self.onlookers:
            try:
                await onlooker.start()
            except Exception:  # noqa: BLE001 - keys go on without whatever shows them
                _log.exception("KC1701 %s has not started", type(onlooker).__name__)

    async def close_onlookers(self) -> None:
        """Close what only shows the gateway, before the gateway itself."""
        for onlooker in reversed(self.onlookers):
            await onlooker.close()

    def _open_onlookers(self, known: Mapping[str, Command], observer: Observer) -> list[Onlooker]:
        app = self.app
        set_alarm = app.gateway.administration.set_alarm
        sight = Sight(
            config=self.config,
            config_path=self.config_path,
            stream=app.stream,
            snapshot=observer.recent,
            figures=observer.figures,
            health=app.health.view,
            set_alarm=set_alarm,
            counters=app.counters,
            log_lines=self.log_lines,
            commands=known,
        )
        opened = open_onlookers(self.config, sight)
        return opened if self.config_path is None else [ConfigWatch(self.config_path, set_alarm), *opened]

    async def back_up(self, path: str, lock: str, identity: bool = False) -> str:
        """Write this gateway's state as one backup, the new file `path`; return it.

        `lock` is the text of a `sealed.Lock`; `identity`: with the gateway's keys and the credentials of its boards.
        """
        locked = sealed.Lock.of(lock)
        images = self.app.images()  # at one moment: nothing else runs until it is made
        if self.server is not None:
            images |= {f"{SERVER_FOLDER}/{name}": octets for name, octets in self.server.images().items()}
        if self.val_client is not None:
            images |= {f"{SEAL_FOLDER}/{name}": octets for name, octets in self.val_client.images().items()}
        write = state_copies.write_gateway_backup
        await asyncio.to_thread(write, self.config, Path(path), images, locked, identity=identity)
        return path


def straight(receiver: Receiver) -> Receiver:
    """Return `receiver` itself: messages reach the PN GW unchanged."""
    return receiver


@asynccontextmanager
async def open_home(
    config: GatewayConfig,
    *,
    server_config: ServerConfig | None = None,
    on_the_way: Callable[[Receiver], Receiver] = straight,
    kind: type[GatewayApp] = GatewayApp,
    config_path: Path | None = None,
    log_lines: LogLines | None = None,
) -> AsyncIterator[Home]:
    """Open everything that `config` names, with its files and ports, and close it at the end of the context.

    The caller starts it by `Home.start`. An embedded CPNS Server is configured by `server_config` if that is given,
    else by `[groups]`. `on_the_way` gets the PN GW's receiver and returns the one to which the embedded Server sends; a
    test loses or delays messages by it. `kind` is the class of the PN GW. `config_path` is the file of `config`, which
    is watched then; `log_lines` keeps the log of this process. Raise the errors of the parts, whose sentences say why
    the home cannot run.
    """
    state, gateway_id = config.gateway.state_dir, config.gateway.id
    counters: Counter[str] = Counter()

    # The PN GW is made last, with the uplink that it asks. The parts that speak to it do so after `Home.start` only.
    async def handle_server(message: bytes) -> bytes:
        return await app.gateway.handle_server(message)

    async def send_key_message(pne_id: str, key_message: bytes) -> None:
        await app.gateway.send_key_message(pne_id, key_message)

    async def ask_server(message: bytes) -> bytes:
        return await app.uplink.request(message)

    require_packages(config)
    if config.seal is not None:  # before anything is made, as its packages may be missing
        from gateway_agent.val_client.app import ValClientApp
    folders.make(state)
    async with AsyncExitStack() as stack:
        stack.enter_context(state_copies.gateway_state(state))
        own_keys(config)  # before the parts, so that their keys are the first names on the list of files that were made
        server = None
        uplink: Uplink | None = None
        if config.uplink.kind == "embedded":
            gateways = InProcessGateways({gateway_id: on_the_way(handle_server)})
            with contents.keeping(state / SERVER_FOLDER, RESTORE_BACKUP):
                server = await CpnsServer.open(
                    state / SERVER_FOLDER, server_config or _server_config(config), gateways=gateways
                )
                stack.push_async_callback(server.close)
            uplink = InProcessUplink(partial(server.handle, gateway_id))
        val_client = None
        if config.seal is not None:
            with contents.keeping(state / SEAL_FOLDER, RESTORE_BACKUP):
                val_client = await ValClientApp.open(
                    config.seal,
                    state / SEAL_FOLDER,
                    config.gateway.pn,
                    handle_server,
                    send_key_message,
                    counters,
                    server=ask_server,
                )
                stack.push_async_callback(val_client.close)
        app = await kind.open(
            config,
            uplink,
            val_client.boards if val_client else None,
            val_client.uplink if val_client else None,
            counters,
        )
        stack.push_async_callback(app.close)
        if server is not None and gateway_id not in {gateway.gateway_id for gateway in server.gateways()}:
            server.register_gateway(gateway_id, config.gateway.pn, is_open=True)
        home = Home(config, app, server, val_client, config_path, log_lines=log_lines or LogLines())
        stack.push_async_callback(home.close_onlookers)
        yield home


def _server_config(config: GatewayConfig) -> ServerConfig:
    return checked(
        ServerConfig,
        id=config.uplink.server_id,
        rekey_on_join=config.groups.rekey_on_join,
        period_s=config.groups.period_s,
    )
