"""Requests to PN GWs that are at no broker: they wait here, not there, and the newest one goes when it can."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from key_servers.cpns_server import tuning
from key_servers.cpns_server.config import ServerConfig
from key_servers.cpns_server.gateway_presence import GatewayPresence
from key_servers.cpns_server.gateway_requests import GatewaySilent, NotSent
from key_servers.cpns_server.gateways_in_process import InProcessGateways
from message_plane.links.mqtt_topics import place_of
from tests.unit.cpns_server_parts import House, PnGw
from tests.waiting import until

GATEWAY, SG = "gw.home", "light"


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


# In the Server


@pytest.fixture
async def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[House, PnGw, Brokers]]:
    """A Server on the machine's clock, and a PN GW that has the first key of SG and is away now."""
    link = Brokers()
    presence = GatewayPresence(link, lambda _: "")  # type: ignore[arg-type]
    monkeypatch.setattr(InProcessGateways, "ready", lambda _, gateway_id: presence.ready(gateway_id))
    house = await House.open(tmp_path, ServerConfig(batching_s=0), by_itself=True)
    gateway = house.gateway("home")
    house.server.create_group(SG, open_to=[gateway.pn_id])
    await house.join(gateway, "lamp", SG)
    await until(lambda: gateway.newest(SG) == house.server.show_group(SG).version > 1)
    link.present = False
    yield house, gateway, link
    await house.server.close()


@pytest.mark.req("SEC-27")
async def test_what_was_made_meanwhile_goes_as_one_request_with_the_newest(away: tuple[House, PnGw, Brokers]) -> None:
    house, gateway, link = away
    before = len(gateway.seen)
    for _ in range(50):
        version = house.server.update_key(SG)
        await asyncio.sleep(0.3)
    assert len(gateway.seen) == before
    link.present = True
    house.server._heard("gw.home")  # the hint
    await until(lambda: gateway.newest(SG) == version)
    await asyncio.sleep(60)
    assert gateway.seen[before:] == [(SG, "key", version)]


async def test_one_that_stays_away_is_an_alarm_although_keys_are_made_all_the_time(
    away: tuple[House, PnGw, Brokers],
) -> None:
    house, gateway, link = away
    while not house.server.alarms():
        house.server.update_key(SG)
        await asyncio.sleep(5)
    (alarm,) = house.server.alarms()
    assert (alarm.kind, alarm.gateway_id) == ("undelivered", "gw.home")
    link.present = True
    await until(lambda: not house.server.alarms() and gateway.newest(SG) == house.server.show_group(SG).version)


async def test_a_server_without_a_broker_blames_no_gateway(away: tuple[House, PnGw, Brokers]) -> None:
    house, gateway, link = away
    link.present, link.connected = None, False
    version = house.server.update_key(SG)
    await asyncio.sleep(600)
    assert not house.server.alarms() and gateway.newest(SG) < version
    assert 20 < house.server.counters()["deliveries_unsent"] < 60
    link.connected = True
    await until(lambda: gateway.newest(SG) == version)


async def test_what_is_owed_no_more_when_it_comes_is_not_sent(away: tuple[House, PnGw, Brokers]) -> None:
    house, gateway, link = away
    before = len(gateway.seen)
    house.server.update_key(SG)
    await asyncio.sleep(5)
    house.server.delete_group(SG)
    await asyncio.sleep(5)
    link.present = True
    await until(lambda: gateway.seen[before:])
    await asyncio.sleep(60)
    assert [kind for _, kind, _ in gateway.seen[before:]] == ["delete"]


@pytest.mark.req("SEC-27")
async def test_a_gateway_that_brokers_call_away_is_tried_all_the_same(away: tuple[House, PnGw, Brokers]) -> None:
    house, gateway, _ = away
    version = house.server.update_key(SG)
    begun = asyncio.get_running_loop().time()
    await until(lambda: gateway.newest(SG) == version, 10 * tuning.AWAY_BELIEVED_S)
    assert asyncio.get_running_loop().time() - begun >= tuning.AWAY_BELIEVED_S
