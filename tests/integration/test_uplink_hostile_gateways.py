"""Hostile clients of an honest broker against a whole CPNS Server: a registered PN GW, one that was stolen and blocked,
and the holder of a certificate of the same CA that belongs to no PN GW.

The broker is one inside the process, without an access list: what is shown here does not need one.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cpns import messages as m
from cpns import numbers as n
from key_servers.cpns_server.app import CpnsServer
from key_servers.cpns_server.config import ServerConfig
from message_plane import credentials, tuning
from message_plane.cpns_resource import PATH, uplink_resource
from message_plane.endpoint import Endpoint, Peer
from message_plane.errors import PlaneError
from message_plane.identity import OwnIdentity
from message_plane.links.mqtt import MqttLink, MqttSection
from message_plane.links.mqtt_topics import place_of, presence, tag_of, up
from message_plane.session_file import SessionFile
from tests.integration.toy_broker import ToyBroker
from tests.unit.cpns_server_parts import PnGw, succeeded
from tests.waiting import until

SERVER, SG = "cpns.example", "street"


class MqttPnGw(PnGw):
    """The PN GW of the unit tests behind a real endpoint. `calls_itself`: the ID whose tag it shows to the broker."""

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(f"gw.{name}", f"pn.{name}")
        self.identity = OwnIdentity.create(folder / f"{name}.key", self.gateway_id, "gateway")
        self.store = SessionFile(folder / f"{name}.sessions")

    async def start(self, server: CpnsServer, broker: ToyBroker, calls_itself: str = "") -> None:
        self.store.register(credentials.parse(server.credential(), "server"))
        section = MqttSection(brokers=[broker.url], user=tag_of(self.gateway_id))
        self.endpoint = await Endpoint.open(
            identity=self.identity,
            store=self.store,
            resources={"server": {PATH: uplink_resource(self.take)}},
            links=[MqttLink(section, calls_itself or self.gateway_id, server_id=SERVER)],
        )

    async def meet(self) -> None:
        await self.endpoint.connect(SERVER, place_of(SERVER))
        await self.endpoint.request(SERVER, b"", resource=PATH)

    async def take(self, peer: Peer, message: bytes) -> bytes:
        return await self.receive(message)

    async def ask(self, code: int, fields: dict[int, object]) -> dict[int, object]:
        answer = await self.endpoint.request(SERVER, m.encode(code, fields), resource=PATH, timeout_s=10)
        return dict(m.decode(answer, 131072)[1])

    async def join(self, pne_id: str) -> dict[int, object]:
        return await self.ask(n.JOIN_REQUEST, {m.PNE_ID: pne_id, m.SG_ID: SG, m.PN_ID: self.pn_id})

    async def stop(self) -> None:
        await self.endpoint.close()
        self.store.close()


class Street:
    """A Server, a home and a hostile neighbour, whose boards are members of one group."""

    def __init__(self, folder: Path, broker: ToyBroker, server: CpnsServer) -> None:
        self.folder, self.broker, self.server = folder, broker, server
        self.home, self.hostile = MqttPnGw(folder, "home"), MqttPnGw(folder, "hostile")

    async def start(self) -> None:
        for gateway in (self.home, self.hostile):
            self.server.register_gateway(
                gateway.gateway_id, gateway.pn_id, gateway.identity.credential.ccs, is_open=True
            )
            await gateway.start(self.server, self.broker)
            await gateway.meet()
        self.server.create_group(SG, open_to=["pn.home", "pn.hostile"])
        for gateway in (self.home, self.hostile):
            assert succeeded(await gateway.join(f"lamp.{gateway.pn_id}"))
        await until(self.is_settled)

    def is_settled(self) -> bool:
        newest = self.server.show_group(SG).version
        return self.home.newest(SG) == self.hostile.newest(SG) == newest

    async def update_reaches_the_home(self) -> None:
        version = self.server.update_key(SG)
        await until(lambda: self.home.newest(SG) == version, timeout_s=5)


@pytest.fixture
async def street(tmp_path: Path) -> AsyncIterator[Street]:
    broker = await ToyBroker().start()
    mqtt = MqttSection(brokers=[broker.url], user=tag_of(SERVER))
    server = await CpnsServer.open(tmp_path / "server", ServerConfig(id=SERVER, mqtt=mqtt, batching_s=0))
    server.start()
    street = Street(tmp_path, broker, server)
    try:
        await street.start()
        yield street
    finally:
        for gateway in (street.home, street.hostile):
            if hasattr(gateway, "endpoint"):
                await gateway.stop()
        await server.close()
        await broker.stop()


# A registered PN GW


async def test_a_flood_of_good_messages_is_refused_and_leaves_the_others_theirs(
    street: Street, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert street.server._sessions is not None
    burst = 100
    monkeypatch.setattr(street.server._sessions._rates, "_burst", burst)
    street.server._sessions._rates._buckets.clear()
    before = street.server.counters().get("messages_taken", 0)

    async def flood() -> None:
        while True:
            with contextlib.suppress(PlaneError):
                await street.hostile.ask(n.VERSION_LIST_REQUEST, {m.PN_ID: "pn.hostile"})

    floods = [asyncio.create_task(flood()) for _ in range(12)]
    try:
        await until(lambda: street.server.counters().get("messages_limited", 0) > 50)
        assert street.server.counters()["messages_taken"] - before <= burst + 100 * 60
        await street.update_reaches_the_home()
        assert succeeded(await street.home.join("lamp.pn.home"))
    finally:
        for each in floods:
            each.cancel()
        await asyncio.gather(*floods, return_exceptions=True)
    assert len(caplog.records) < 20


@pytest.mark.req("SEC-21")
async def test_a_registered_pn_gw_that_floods_handshakes_has_one_a_second_and_one_half_open(street: Street) -> None:
    await asyncio.sleep(2 * tuning.VOUCHED_S)  # by then it is known that its tag is registered
    tag = tag_of("gw.hostile")
    message_1 = next(payload for _, topic, payload in street.broker.published if topic == up(tag))
    started = street.server.counters()["handshakes_started"]
    for number in range(400):
        mid = number.to_bytes(2, "big")
        street.broker.publish(up(tag), message_1[:2] + mid + b"%04d" % number + message_1[8:])
        await asyncio.sleep(0.01)
    assert street.server.counters()["handshakes_started"] - started <= 4 + tuning.HANDSHAKES_PER_ADDRESS[1] + 1
    assert street.server._sessions is not None
    assert len(street.server._sessions._endpoint._reception._half_open) <= 1
    await street.update_reaches_the_home()
    await until(street.is_settled)  # its own session lives, too


@pytest.mark.req("SEC-27")
async def test_presence_that_another_one_tells_holds_a_gateway_back_at_most_until_it_speaks(street: Street) -> None:
    street.broker.publish(presence(tag_of("gw.home")), b"0", retain=True)
    version = street.server.update_key(SG)
    await until(lambda: street.hostile.newest(SG) == version)
    assert street.home.newest(SG) < version
    await street.home.endpoint.request(SERVER, b"", resource=PATH)  # as with its next version list
    await until(lambda: street.home.newest(SG) == version, timeout_s=5)


async def test_a_datagram_on_anothers_topic_ends_nothing_and_turns_no_way(street: Street) -> None:
    """The hostile one records its own requests and publishes them at the topic of the home."""
    own = [payload for _, topic, payload in street.broker.published if topic == up(tag_of("gw.hostile"))]
    for number, payload in enumerate(own):
        street.broker.publish(up(tag_of("gw.home")), payload[:2] + number.to_bytes(2, "big") + payload[4:])
    await until(lambda: street.server.counters().get("address_of_another", 0) > 0)
    await street.update_reaches_the_home()
    assert succeeded(await street.home.join("lamp.pn.home"))


# One that was stolen


@pytest.mark.req("SEC-06")
@pytest.mark.parametrize("how", ["block", "replace"])
async def test_a_stolen_pn_gw_gets_no_key_and_no_session_from_then_on(street: Street, how: str) -> None:
    held = street.hostile.newest(SG)
    recorded = [payload for _, topic, payload in street.broker.published if topic == up(tag_of("gw.hostile"))]
    if how == "block":
        await street.server.block_gateway("gw.hostile")
        version = street.server.update_key(SG)
    else:
        another = OwnIdentity.create(street.folder / "another.key", "gw.another", "gateway")
        await street.server.replace_gateway("gw.hostile", "gw.another", another.credential.ccs)
        await until(lambda: street.server.show_group(SG).version > held)
        version = street.server.show_group(SG).version
    await until(lambda: street.home.newest(SG) == version)
    for number, payload in enumerate(recorded):
        street.broker.publish(up(tag_of("gw.hostile")), payload[:2] + number.to_bytes(2, "big") + payload[4:])
    street.broker.publish(presence(tag_of("gw.hostile")), b"1", retain=True)
    for _ in range(3):
        with pytest.raises(PlaneError):
            await street.hostile.ask(n.KEY_PULL_REQUEST, {m.SG_ID: SG, m.VERSION: 0})
        await asyncio.sleep(70)
    assert street.hostile.newest(SG) == held
    assert "gw.hostile" not in street.server._sessions._endpoint.entities()  # type: ignore[union-attr]
    await street.update_reaches_the_home()


@pytest.mark.req("SEC-32")
async def test_a_pn_gw_that_is_blocked_while_its_request_is_on_the_way_gets_no_key(street: Street) -> None:
    held = street.hostile.newest(SG)
    street.broker.lose = lambda topic, payload: topic == up(tag_of("gw.hostile"))
    asked = asyncio.create_task(street.hostile.ask(n.KEY_PULL_REQUEST, {m.SG_ID: SG, m.VERSION: 0}))
    before = len(street.broker.published)
    await until(lambda: len(street.broker.published) > before)
    late = street.broker.published[-1][2]
    street.broker.lose = lambda topic, payload: False
    await street.server.block_gateway("gw.hostile")
    street.broker.publish(up(tag_of("gw.hostile")), late)
    with pytest.raises(PlaneError):
        await asked
    assert street.hostile.newest(SG) == held


# An outsider


async def test_who_is_registered_nowhere_gets_no_session_and_one_answer(street: Street) -> None:
    outsider = MqttPnGw(street.folder, "outsider")
    await outsider.start(street.server, street.broker)
    try:
        with pytest.raises(PlaneError):
            await outsider.meet()
        assert street.server.counters()["handshakes_unknown_peer"] >= 1
        await street.update_reaches_the_home()
    finally:
        await outsider.stop()


async def test_who_takes_the_tag_of_a_registered_pn_gw_gets_no_session_and_takes_no_way(street: Street) -> None:
    outsider = MqttPnGw(street.folder, "outsider")
    await outsider.start(street.server, street.broker, calls_itself="gw.home")
    try:
        await asyncio.sleep(60)
        with pytest.raises(PlaneError):
            await outsider.meet()
        await until(lambda: street.home.endpoint.has_session(SERVER))
    finally:
        await outsider.stop()
    await asyncio.sleep(120)  # the broker knows one client of this name: the home comes back
    await street.update_reaches_the_home()


async def test_a_registered_key_at_the_tag_of_another_gets_no_session(street: Street) -> None:
    await street.hostile.stop()
    hostile = street.hostile = MqttPnGw.__new__(MqttPnGw)
    PnGw.__init__(hostile, "gw.hostile", "pn.hostile")
    hostile.identity = OwnIdentity.load(street.folder / "hostile.key")
    (street.folder / "anew").mkdir()
    hostile.store = SessionFile(street.folder / "anew" / "hostile.sessions")
    await hostile.start(street.server, street.broker, calls_itself="gw.nobody")
    with pytest.raises(PlaneError):
        await hostile.meet()
    assert street.server.counters()["address_of_another"] >= 1


# What anybody can make it log


async def test_an_hour_of_all_kinds_of_nonsense_is_few_log_lines_and_no_alarm(
    street: Street, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for minute in range(60):
        for number, payload in enumerate((b"", b"\xff" * 64, b"\x40\x01\x00\x01", b"\x50\x02\x00\x01/x", bytes(9000))):
            for topic in (
                up(tag_of("gw.home")),
                up(tag_of(f"nobody-{minute}-{number}")),
                presence(tag_of("gw.hostile")),
                presence(tag_of(SERVER)),
                "keycast/1/up/63/nonsense",
            ):
                street.broker.publish(topic, payload)
        await asyncio.sleep(60)
    assert len(caplog.records) <= 2 * 60 + 10
    kinds = {alarm.kind for alarm in street.server.alarms()}
    assert kinds <= {"silent"}, "these PN GWs send no version lists"
    await street.update_reaches_the_home()
