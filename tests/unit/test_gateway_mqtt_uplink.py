"""The uplink over MQTT: the gateway says that it is there whenever the Server, or a broker, seems to be back."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from gateway_agent.uplinks.mqtt import MqttUplinkSection, open_uplink
from gateway_agent.uplinks.server_session import ServerSession
from message_plane.errors import PeerRefused, PeerUnreachable
from message_plane.links.mqtt_topics import place_of

SERVER = "cpns.example"
BROKERS = ["mqtt://localhost"]


class Wire:
    """An endpoint whose requests end as `answers` says, and those after them with an empty answer."""

    def __init__(self) -> None:
        self.answers: list[Exception | None] = []
        self.places: list[str] = []
        self.asked: list[tuple[str, bytes]] = []
        self.waits: asyncio.Event | None = None

    async def connect(self, entity_id: str, place: str) -> None:
        self.places.append(place)

    async def request(self, entity_id: str, message: bytes, **how: Any) -> bytes:
        self.asked.append((entity_id, message))
        if self.waits is not None:
            await self.waits.wait()
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            raise answer
        return b""


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def link() -> Any:
    return SimpleNamespace(brokers=[SimpleNamespace(connected=True)], hints=None)


@pytest.fixture
def uplink(wire: Wire, link: Any) -> ServerSession:
    section = MqttUplinkSection(server_id=SERVER, brokers=BROKERS)
    return open_uplink(section, wire, link)  # type: ignore[arg-type]


@pytest.mark.req("SEC-27")
async def test_a_sign_of_life_goes_at_the_start_and_with_each_hint_of_the_server(
    wire: Wire, link: Any, uplink: ServerSession
) -> None:
    uplink.start()
    await asyncio.sleep(60)
    assert wire.asked == [(SERVER, b"")] and wire.places == [place_of(SERVER)]
    link.hints(place_of(SERVER), True)
    await asyncio.sleep(60)
    assert wire.asked == [(SERVER, b"")] * 2
    link.hints(place_of(SERVER), False)
    link.hints(place_of("gw.other"), True)
    await asyncio.sleep(60)
    assert len(wire.asked) == 2
    await uplink.close()
    link.hints(place_of(SERVER), True)
    await asyncio.sleep(60)
    assert len(wire.asked) == 2


async def test_it_is_repeated_a_few_times_and_no_more(wire: Wire, link: Any, uplink: ServerSession) -> None:
    wire.answers = [PeerUnreachable("no"), PeerRefused("4.03", "not yet")]
    link.hints(place_of(SERVER), True)
    await asyncio.sleep(600)
    assert len(wire.asked) == 3
    wire.answers = [PeerUnreachable("no")] * 1000
    link.hints(place_of(SERVER), True)
    await asyncio.sleep(3600)
    assert len(wire.asked) == 8
    await uplink.close()


async def test_a_newer_hint_replaces_the_sign_that_went_to_where_nobody_was(
    wire: Wire, link: Any, uplink: ServerSession
) -> None:
    wire.waits = asyncio.Event()
    link.hints(place_of(SERVER), True)
    await asyncio.sleep(1)
    link.hints(place_of(SERVER), True)
    await asyncio.sleep(1)
    wire.waits.set()
    await asyncio.sleep(60)
    assert len(wire.asked) == 2
    await uplink.close()
