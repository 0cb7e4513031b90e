"""A CPNS Server and two homes at a broker inside the process, which does what a test tells it: a day passes at once."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cpns import numbers
from message_plane.session_file import SessionFile
from tests.integration.mqtt_street import Recorder, noting
from tests.integration.mqtt_uplink_world import SG, MqttHome, Operator
from tests.integration.toy_broker import ToyBroker
from tests.waiting import until

DAY_S = 86_400.0


class Village:
    """A Server, two homes with a board each, and the broker between them. `held` is what the broker holds back."""

    def __init__(self, folder: Path, broker: ToyBroker) -> None:
        self.broker = broker
        self.operator = Operator(folder / "server", [broker])  # type: ignore[list-item]
        self.homes = [MqttHome(folder / name, name, [broker]) for name in ("home", "next")]  # type: ignore[list-item]
        self.held: list[tuple[str, bytes]] = []
        self.recorder = Recorder()
        self._server = contextlib.AsyncExitStack()
        self._gateways = {home.gateway_id: contextlib.AsyncExitStack() for home in self.homes}

    @property
    def version(self) -> int:
        return self.operator.server.show_group(SG).version

    def members(self) -> dict[str, str]:
        return {each.pne_id: each.state for each in self.operator.server.show_group(SG).members}

    def update(self) -> int:
        return self.operator.server.update_key(SG)

    async def keyed(self, *homes: MqttHome) -> None:
        """Wait until these PN GWs, or both, have the newest key."""
        await until(lambda: {home.version() for home in homes or self.homes} == {self.version})

    def hold(self, *topics: str) -> None:
        """Hold back from now on what is published at these topics."""

        def lose(topic: str, payload: bytes) -> bool:
            if topic in topics:
                self.held.append((topic, payload))
            return topic in topics

        self.broker.lose = lose

    def hand_on(self) -> None:
        """Hold nothing back any more."""
        self.hold()

    async def start_server(self) -> None:
        await self._server.enter_async_context(self.operator.running())

    async def stop_server(self) -> None:
        await self._server.aclose()

    async def start(self, home: MqttHome) -> None:
        await self._gateways[home.gateway_id].enter_async_context(home.running())

    async def stop(self, home: MqttHome) -> None:
        await self._gateways[home.gateway_id].aclose()

    def handshakes(self) -> int:
        """How many the Server has finished in this run."""
        return self.operator.server.counters().get("handshakes_done", 0)

    def handled(self) -> list[int]:
        """How many requests each end has handled."""
        counters = [self.operator.server.counters(), *(home.home.app.counters for home in self.homes)]
        return [each["requests_handled"] for each in counters]

    async def begin(self) -> None:
        await self.start_server()
        for home in self.homes:
            home.meet(self.operator.server)
        self.operator.server.create_group(SG, open_to=[home.pn_id for home in self.homes])
        for home in self.homes:
            await self.start(home)
            assert await home.join(f"lamp.{home.pn_id}") == numbers.RESULT_SUCCESS
        await self.keyed()

    async def end(self) -> None:
        for home in self.homes:
            await self.stop(home)
        await self.stop_server()


@pytest.fixture
async def village(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Village]:
    # A day passes, in which neither the stores nor the machine change: looking at them would be most of the work
    monkeypatch.setattr("message_plane.endpoint._HOUSEKEEPING_S", 600.0)
    monkeypatch.setattr("gateway_agent.machine_watch.LOOK_EVERY_S", 600.0)
    monkeypatch.setattr("message_plane.tuning.MQTT_KEEP_ALIVE_S", 600)
    broker = await ToyBroker().start()
    village = Village(tmp_path, broker)
    with noting(village.recorder, village.homes):
        await village.begin()
        yield village
        await village.end()
    await broker.stop()
    for _, topic, payload in broker.published:
        village.recorder.see(topic, payload)
    village.recorder.check()


def forget_sessions(path: Path) -> None:
    """Delete the contexts in a store of sessions, as after a restore."""
    store = SessionFile(path)
    store.discard_contexts()
    store.close()
