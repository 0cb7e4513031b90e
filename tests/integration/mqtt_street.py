"""A street of homes with one CPNS Server: real PN GWs, Server processes and brokers, and a recorder of all that passes.

The Server is killed, stopped and started by signals, as nothing in this process could do it. The PN GWs run in this
process, where a test sees what they hold.
"""

import asyncio
import contextlib
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest

from cpns import messages, numbers, uplink_form
from gateway_agent.core.pn_gateway import PnGateway
from gateway_agent.errors import Refused
from gateway_agent.state_files import own_keys
from keycast.services import trusted_server
from message_plane import credentials
from message_plane.links.mqtt_topics import TAG_LEN
from tests.integration.mqtt_uplink_world import SERVER_ID, SG, MqttHome
from tests.integration.mqtt_wiretap import Wiretap
from tests.system.keycast_process import Process
from tests.system.wire import NonceWatch
from tests.unit.mosquitto_broker import Mosquitto, mosquitto
from tests.unit.postgres_server import PostgresNode, postgres_node
from tests.waiting import PATIENCE_S

HOMES = 3


def is_datagram(topic: str) -> bool:
    """Whether the messages at a topic are datagrams."""
    return "/up/" in topic or "/dn/" in topic


class Recorder:
    """Looks at all datagrams between PN GWs and Server; a PN GW is the initiator of its sessions.

    By PN GW ID, one after another: `held` are the versions that it had after each message of the Server, `brought`
    those of the keys that it was brought.
    """

    def __init__(self) -> None:
        self._watches: defaultdict[str, NonceWatch] = defaultdict(NonceWatch)
        self.held: defaultdict[str, list[int]] = defaultdict(list)
        self.brought: defaultdict[str, list[int]] = defaultdict(list)

    def see(self, topic: str, payload: bytes) -> None:
        """Look at one message on its way to a broker."""
        if is_datagram(topic):
            self._watches[topic[-TAG_LEN:]].see(payload, "/up/" in topic)

    @property
    def protected(self) -> int:
        """How many messages under OSCORE were seen."""
        return sum(watch.protected for watch in self._watches.values())

    @property
    def used_twice(self) -> list[str]:
        """Each pair of key and nonce that has protected two messages."""
        return [used for watch in self._watches.values() for used in watch.reused]

    def check(self) -> None:
        """No pair of key and nonce was used twice, and no PN GW went back to an older key."""
        assert self.protected and self.used_twice == []
        assert all(versions == sorted(versions) for versions in self.held.values()), dict(self.held)


class ServerProcess(Process):
    """`keycast server run` over brokers, with its store in `folder` or in the PostgreSQL database at `url`."""

    def __init__(self, folder: Path, brokers: Sequence[Wiretap], url: str | None, name: str = "server") -> None:
        words = ["server", "run", "--state", str(folder / name), "--id", SERVER_ID]
        for broker in brokers:
            words += ["--broker", broker.url]
        database = [] if url is None else ["env", f"KEYCAST_SERVER_DATABASE={url}"]
        super().__init__(folder, name, folder / name, words, database)

    async def update(self, sg_id: str = SG) -> int:
        """Draw a new Group Key; returns its version."""
        return int(await self.ask("group.update", sg_id=sg_id))

    async def updated_again(self, sg_id: str = SG) -> int:
        """Do the same as soon as the Server does it again."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    return await self.update(sg_id)
                except Refused:
                    await asyncio.sleep(0.2)


class Street:
    """The whole. `server` is one process of the CPNS Server; there may be `others`."""

    def __init__(self, folder: Path, taps: Sequence[Wiretap], url: str | None, recorder: Recorder) -> None:
        self.folder = folder
        self.taps = taps
        self.recorder = recorder
        self.url = url
        self.server = ServerProcess(folder, taps, url)
        self.others: list[ServerProcess] = []
        self.homes = [MqttHome(folder / f"home{number}", f"home{number}", taps) for number in range(HOMES)]
        self._runs: dict[str, contextlib.AsyncExitStack] = {}

    async def begin(self) -> None:
        """Start all, and let a board of each home join SG; return when each PN GW has the key."""
        await self.server.start()
        credential = credentials.parse(bytes.fromhex(await self.server.ask("server.credential")), "server")
        for home in self.homes:
            trusted_server.trust_server(home.config, credential)
            own = own_keys(home.config)[0].credential.ccs.hex()
            named = {"gateway_id": home.gateway_id, "pn_id": home.pn_id, "is_open": True}
            await self.server.ask("server.add-gateway", credential=own, **named)
        await self.server.ask("group.create", sg_id=SG, open_to=[home.pn_id for home in self.homes])
        for home in self.homes:
            await self.enter(home)
            assert await home.join(f"lamp.{home.pn_id}") == numbers.RESULT_SUCCESS
        await self.keyed()

    @property
    def at_home(self) -> list[MqttHome]:
        """The homes whose PN GW runs."""
        return [home for home in self.homes if home.gateway_id in self._runs]

    async def enter(self, home: MqttHome) -> None:
        """Start the PN GW of a home."""
        run = contextlib.AsyncExitStack()
        await run.enter_async_context(home.running())
        self._runs[home.gateway_id] = run

    async def leave(self, home: MqttHome) -> None:
        """Stop it."""
        await self._runs.pop(home.gateway_id).aclose()

    async def another(self, name: str) -> ServerProcess:
        """Start one more process of the Server, on the same database."""
        process = ServerProcess(self.folder, self.taps, self.url, name)
        self.others.append(process)
        await process.start()
        return process

    async def keyed(self, least: int = 0, by: ServerProcess | None = None) -> int:
        """Wait until each PN GW that runs has the Server's newest key, and the Server knows it; return its version.

        `least`: a version that the newest one is not below. `by`: the process that is asked.
        """
        async with asyncio.timeout(PATIENCE_S):
            while True:
                await asyncio.sleep(0.05)
                try:
                    view = await (by or self.server).ask("group.show", sg_id=SG)
                except Refused:  # its database is away
                    continue
                newest = view["version"]
                is_at = {home.version() for home in self.at_home} == {newest}
                here = {home.pn_id for home in self.at_home}
                waiting = [each for each in view["deliveries"] if each["state"] != "settled" and each["pn_id"] in here]
                waits = view["update_pending"] or waiting
                if is_at and newest >= least and not waits:
                    return int(newest)

    async def held(self) -> None:
        """Wait until the Server holds SG, as its database is an older one than it was."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                with contextlib.suppress(Refused):  # its database is away
                    if (await self.server.ask("group.show", sg_id=SG))["state"] == "held":
                        return
                await asyncio.sleep(0.1)

    async def end(self) -> None:
        for run in self._runs.values():
            await run.aclose()
        for process in (self.server, *self.others):
            if process.process is not None and process.process.returncode is None:
                process.resume()
                await process.stop()


@contextlib.asynccontextmanager
async def a_street(folder: Path, brokers: Sequence[Mosquitto], url: str | None = None) -> AsyncIterator[Street]:
    """Yield a Street in which all have a key. What must hold whatever happens is checked at the end."""
    recorder = Recorder()
    taps = [await Wiretap(broker, recorder.see).open() for broker in brokers]
    street = Street(folder, taps, url, recorder)
    try:
        with noting(recorder, street.homes):
            await street.begin()
            yield street
    finally:
        await street.end()
        for tap in taps:
            await tap.close()
        recorder.check()


@contextlib.contextmanager
def noting(recorder: Recorder, homes: Sequence[MqttHome]) -> Iterator[None]:
    """Let the recorder note what the PN GWs of these homes are brought, and hold afterwards."""
    take = PnGateway.handle_server

    async def noted(gateway: PnGateway, message: bytes, left: asyncio.Event | None = None) -> bytes:
        home = next(home for home in homes if home.has(gateway))
        code, fields = uplink_form.decode(message)
        if code == numbers.GROUP_KEY_DELIVERY_REQUEST:
            recorder.brought[home.gateway_id].append(fields[messages.VERSION])
        answer = await take(gateway, message, left)
        recorder.held[home.gateway_id].append(home.version())
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PnGateway, "handle_server", noted)
        yield


@pytest.fixture
def brokers(tmp_path: Path) -> Iterator[list[Mosquitto]]:
    """Two of them. They have saved nothing when they are killed."""
    with contextlib.ExitStack() as running:
        yield [running.enter_context(mosquitto(tmp_path / name)) for name in ("one", "two")]


@pytest.fixture
def node() -> Iterator[PostgresNode]:
    """A database that keeps what it has acknowledged."""
    with tempfile.TemporaryDirectory() as folder, postgres_node(Path(folder), durable=True) as node:
        yield node
