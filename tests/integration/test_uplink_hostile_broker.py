"""A broker that doubles, reorders, holds back for a day and makes things up: members have the newest key in the end, no
PN GW takes an older one, and no nonce is used twice.

The broker is one inside the process, so a day passes at once.
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cpns import numbers
from gateway_agent.app import SESSIONS_FILE
from message_plane.links.mqtt_topics import down, tag_of, up
from message_plane.session_file import SessionFile
from tests.integration.mqtt_street import Recorder, is_datagram, noting
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


@pytest.mark.req("SEC-27")
async def test_what_was_held_for_a_day_is_taken_by_nobody(village: Village) -> None:
    home = village.homes[0]
    village.hold(down(tag_of(home.gateway_id)), up(tag_of(home.gateway_id)))
    for _ in range(5):
        village.update()
        await asyncio.sleep(60)
    assert home.version() < village.version and village.held
    village.hand_on()
    newest = village.update()
    await village.keyed()
    await asyncio.sleep(DAY_S)
    late, brought = [*village.held, *village.held], len(village.recorder.brought[home.gateway_id])
    random.Random(1).shuffle(late)
    for topic, payload in late:
        village.broker.publish(topic, payload)
        await asyncio.sleep(1)
    assert home.version() == village.version == newest
    older = village.recorder.brought[home.gateway_id][brought:]
    assert len(older) == len([topic for topic, _ in village.held if "/dn/" in topic]) > 1, "each is read once"
    assert home.home.app.counters["server_refused"] == len(older)
    village.update()
    await village.keyed()


@pytest.mark.req("SEC-27")
async def test_each_message_that_ever_passed_is_repeated_and_nothing_comes_of_it(village: Village) -> None:
    for _ in range(3):
        village.update()
        await village.keyed()
    await asyncio.sleep(600)  # no end remembers what CoAP would take for a copy
    members, made, handled = village.members(), village.handshakes(), village.handled()
    for topic, payload in [(topic, payload) for _, topic, payload in village.broker.published if is_datagram(topic)]:
        village.broker.publish(topic, payload)
        await asyncio.sleep(1)
    assert (village.members(), village.handshakes(), village.handled()) == (members, made, handled)
    assert {home.version() for home in village.homes} == {village.version}
    village.update()
    await village.keyed()


@pytest.mark.req("SEC-27")
@pytest.mark.parametrize("who", ["gateway", "server"])
async def test_the_session_is_made_anew_while_messages_are_on_their_way(village: Village, who: str) -> None:
    home = village.homes[0]
    village.hold(down(tag_of(home.gateway_id)), up(tag_of(home.gateway_id)))
    village.update()
    await asyncio.sleep(90)
    if who == "gateway":
        await village.stop(home)
        forget(home.config.gateway.state_dir / SESSIONS_FILE)
        village.hand_on()
        await village.start(home)
    else:
        await village.stop_server()
        forget(village.operator.folder / "sessions.sqlite3")
        village.hand_on()
        await village.start_server()
        await asyncio.sleep(1)
    queued = Counter(village.held)
    for topic, payload in queued:  # what the broker had for the ends comes before anything new
        village.broker.publish(topic, payload)
    await village.keyed()
    assert village.handshakes() <= (3 if who == "gateway" else 2)
    newest = village.update()
    await village.keyed()
    for topic, payload in queued:
        village.broker.publish(topic, payload)
        await asyncio.sleep(1)
    assert home.version() == newest
    village.update()
    await village.keyed()


@pytest.mark.req("SEC-27")
async def test_a_presence_that_is_made_up_is_only_a_hint(village: Village) -> None:
    home = village.homes[0]
    presence = f"keycast/1/st/{tag_of(home.gateway_id)}"
    village.broker.publish(presence, b"0", retain=True)  # the broker says that it is gone, and it is not
    await asyncio.sleep(1)
    newest = village.update()
    await village.keyed()
    await village.stop(home)
    village.broker.publish(presence, b"1", retain=True)  # and the other way round
    for _ in range(3):
        newest = village.update()
        await asyncio.sleep(600)
    await village.start(home)
    await village.keyed()
    assert home.version() == newest


@pytest.mark.req("SEC-03")
async def test_after_a_restore_of_the_server_each_gateway_comes_by_itself(village: Village) -> None:
    await asyncio.sleep(1000)  # the next version list is minutes away
    made, before = village.handshakes(), village.version
    await village.operator.server.restore()
    await asyncio.sleep(60)
    assert village.handshakes() == made + len(village.homes)
    assert {home.version() for home in village.homes} == {before}
    village.operator.server.confirm_members(SG)
    await village.keyed()


def forget(path: Path) -> None:
    """Delete the contexts in a store of sessions, as after a restore."""
    store = SessionFile(path)
    store.discard_contexts()
    store.close()
