"""The steps of `keycast gateway check`: it tries what `keycast gateway run` does, without starting a gateway."""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cpns.errors import CpnsError
from gateway_agent.app import GatewayApp
from gateway_agent.config.schema import GatewayConfig
from gateway_agent.control_client import SOCKET_FILE, ask, check_path, who_answers
from gateway_agent.core.ports import NoAnswer, Uplink
from gateway_agent.errors import GatewayError
from gateway_agent.net import interfaces
from gateway_agent.radios.medium import Radio
from gateway_agent.uplinks.by_kind import try_brokers
from http_door.errors import DoorError
from key_servers.errors import ServerError
from keycast.copies import state_copies
from keycast.services.home import open_home
from message_plane.credentials import ROLE_SERVER
from message_plane.errors import PlaneError, PortInUse
from message_plane.links.udp import bound
from message_plane.port_holder import holders
from private_store import folders
from private_store.errors import PrivateStoreError


@dataclass(frozen=True)
class BrokerHere:
    """One MQTT broker: whether it lets this gateway in, what is wrong with the next step, whether the Server answers.

    `server_is_there` is None if that was not tried, because the gateway runs.
    """

    url: str
    connected: bool
    problem: str
    server_is_there: bool | None = None


@dataclass
class Trial:
    """The result of `trial`. `pid` is the process that runs with this configuration already, None if none does.

    Each of `networks` has interface, address, broadcast and problem, each of `left_out` interface, address and reason.
    `addresses` are those that boards are told. `radio`: the sender of adverts, None without `[ble]`. `server_problem`:
    why the gateway cannot make a session with its CPNS Server elsewhere, with the next step, "" for nothing.
    `home_assistant`: why the broker of `[mqtt]` does not let the gateway in, "" if it does, None without `[mqtt]`.
    """

    pid: int | None
    networks: list[dict[str, str]] = field(default_factory=list)
    left_out: list[dict[str, str]] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    brokers: list[BrokerHere] = field(default_factory=list)
    radio: Radio | None = None
    server_problem: str = ""
    home_assistant: str | None = None


async def trial(config: GatewayConfig, path: Path | None = None) -> Trial:
    """Take the steps of a start, and remove the files that they made. Raise the errors that `open_home` raises.

    If a gateway runs with this configuration it is left alone: then only the ports are checked, which must be its own,
    and it is asked for its brokers. `path`: the file of `config`, which the words about `[mqtt]` name.
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
        radios = [Radio(**each) for each in await asyncio.to_thread(ask, state, "radios")]
        status = await asyncio.to_thread(ask, state, "status")
        found.brokers = [BrokerHere(each["url"], each["connected"], each["problem"]) for each in status["brokers"]]
        found.server_problem = status["server_problem"]
    elif state.is_dir() and any(state.iterdir()):
        async with open_home(config, kind=_WithoutUplink) as home:
            radios = home.app.radios()
            found.server_problem = _server_problem(home.app)
    else:
        with _folder_for_a_moment(state) as folder:
            gateway = config.gateway.model_copy(update={"state_dir": folder})
            moved = config.model_copy(update={"gateway": gateway})
            async with open_home(moved, kind=_WithoutUplink) as home:
                radios = home.app.radios()
                found.server_problem = _server_problem(home.app)
    if found.pid is None:
        tried = await try_brokers(config.uplink, config.gateway.id)
        found.brokers = [BrokerHere(each.url, not each.problem, each.problem, each.server_is_there) for each in tried]
    found.radio = next(iter(radios), None)
    if (section := getattr(config, "mqtt", None)) is not None:
        from gateway_agent.home_assistant.trial import try_broker

        found.home_assistant = await try_broker(section, config.gateway.id, path)
    return found


class _WithoutUplink(GatewayApp):
    """A PN GW that does not connect to a CPNS Server elsewhere, which would believe that the gateway runs."""

    @classmethod
    async def open(cls, config: GatewayConfig, uplink: Uplink | None = None, *parts: Any) -> "_WithoutUplink":
        """Open the rest of the PN GW, as `GatewayApp.open` does."""
        app = await super().open(config, uplink or _NoUplink(), *parts)
        assert isinstance(app, cls)
        return app


class _NoUplink:
    async def request(self, message: bytes) -> bytes:
        """Raise NoAnswer."""
        raise NoAnswer("this is a trial")


def _server_problem(app: GatewayApp) -> str:
    """Return what hinders a session with the CPNS Server elsewhere here, "" for nothing."""
    wanted = app.config.uplink
    if wanted.kind == "embedded" or app.credentials.credential(wanted.server_id) is not None:
        return ""
    others = [each.entity_id for each in app.credentials.registered() if each.role == ROLE_SERVER]
    known = f" {others[0]} is trusted here: is that what uplink.server_id should name?" if len(others) == 1 else ""
    return (
        f"This gateway does not know the credential of its CPNS Server {wanted.server_id}.{known} Give it: keycast "
        "gateway trust-server CREDENTIAL, with what keycast server credential prints there."
    )


@contextmanager
def _folder_for_a_moment(state: Path) -> Iterator[Path]:
    """Yield an empty folder inside of `state` and remove it at the end, with `state` if that was missing.

    If it can be written `state` can. Errors name `state` in its place, as those of a start would.
    """
    made = [each for each in (state, *state.parents) if not os.path.lexists(each)]
    try:
        folders.make(state)
        try:
            within = tempfile.TemporaryDirectory(prefix=".keycast-check-", dir=state)
        except OSError as error:
            with state_copies.gateway_state(state):  # a start does this first, and would be refused by it
                raise GatewayError(
                    f"The folder {state} cannot be written: {error.strerror}.", "Check the space on its disk."
                ) from None
        with within as folder:
            try:
                yield Path(folder)
            except (CpnsError, DoorError, GatewayError, ServerError, PlaneError, PrivateStoreError) as error:
                error.args = tuple(str(each).replace(folder, str(state)) for each in error.args)
                raise
    finally:
        for each in made:
            with contextlib.suppress(OSError):  # it was not made, or another start has begun to use it
                each.rmdir()


def _try_ports(config: GatewayConfig, pid: int) -> None:
    """Raise PortInUse or CannotListen, except for ports that the gateway in process `pid` has."""
    port = config.message_plane.port
    for host in config.message_plane.listen:
        try:
            bound(host, port).close()
        except PortInUse:
            if pid not in [0, *(holder.pid for holder in holders("udp", host, port))]:
                raise
