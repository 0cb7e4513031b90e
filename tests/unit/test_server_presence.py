"""Requests to PN GWs that are at no broker: they wait here, not there, and the newest one goes when it can."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from key_servers.cpns_server import tuning
from key_servers.cpns_server.gateway_presence import GatewayPresence
from key_servers.cpns_server.gateway_requests import GatewaySilent, NotSent
from message_plane.links.mqtt_topics import place_of

GATEWAY = "gw.home"


class Brokers:
    """The link as far as `GatewayPresence` sees it."""

    def __init__(self) -> None:
        self.connected = True
        self.present: bool | None = None

    @property
    def brokers(self) -> list[Any]:
        return [SimpleNamespace(connected=False), SimpleNamespace(connected=self.connected)]

    def place_of(self, entity_id: str) -> str:
        return place_of(entity_id)

    def is_present(self, place: str) -> bool | None:
        assert place == place_of(GATEWAY)
        return self.present


class Held:
    def __init__(self, heard_at: str = "") -> None:
        self.link = Brokers()
        self.heard_at = heard_at
        self.presence = GatewayPresence(self.link, lambda _: self.heard_at)  # type: ignore[arg-type]

    def ready(self) -> bool:
        waits = self.presence.ready(GATEWAY)
        if waits is not None:
            waits.close()  # type: ignore[attr-defined]
        return waits is None

    async def waits(self) -> None:
        waits = self.presence.ready(GATEWAY)
        assert waits is not None
        await waits


@pytest.mark.req("SEC-27")
async def test_only_one_that_is_known_to_be_away_is_waited_for() -> None:
    held = Held()
    assert held.ready()  # nobody has said
    held.link.present = True
    assert held.ready()
    held.link.present = False
    assert not held.ready()
    held.heard_at = "udp:10.0.0.1:5683"  # it comes another way now
    assert held.ready()
    held.heard_at = place_of(GATEWAY)
    assert not held.ready()


async def test_it_is_sent_as_soon_as_the_gateway_or_a_broker_is_there() -> None:
    held = Held()
    held.link.present = False
    waits = asyncio.create_task(held.waits())
    await asyncio.sleep(tuning.PRESENCE_LOOK_S * 2)
    assert not waits.done()
    held.link.present = True
    await waits
    held.link.connected = False
    waits = asyncio.create_task(held.waits())
    await asyncio.sleep(tuning.PRESENCE_LOOK_S * 2)
    assert not waits.done()
    held.link.connected = True
    await waits


async def test_one_that_stays_away_was_silent_and_a_broker_that_does_was_this_sides_fault() -> None:
    held = Held()
    held.link.present = False
    with pytest.raises(GatewaySilent):
        await held.waits()
    held.link.connected = False
    with pytest.raises(NotSent):
        await held.waits()


@pytest.mark.req("SEC-27")
async def test_a_wrong_hint_is_believed_for_a_while_only() -> None:
    held = Held()
    held.link.present = False
    begun = asyncio.get_running_loop().time()
    assert not held.ready()
    while not held.ready():
        await asyncio.sleep(30)
    assert asyncio.get_running_loop().time() - begun >= tuning.AWAY_BELIEVED_S
    assert not held.ready()  # one was sent


async def test_a_server_without_brokers_holds_nothing_back() -> None:
    assert GatewayPresence(None, lambda _: "").ready(GATEWAY) is None
