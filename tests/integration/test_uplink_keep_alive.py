"""A PN GW behind a router that translates addresses: a key reaches it whenever the Server has one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cpns import cborlite, messages, numbers
from gateway_agent.core.ports import NoAnswer, NotUnderstood
from gateway_agent.uplinks.keep_alive import SIGN_EVERY, KeepAlive
from gateway_agent.uplinks.server_session import ServerSession
from key_servers.cpns_server.app import CpnsServer
from message_plane import credentials
from message_plane.cpns_resource import PATH, uplink_resource
from message_plane.endpoint import Endpoint
from message_plane.links.udp import UdpLink, host_and_port, place_of
from tests.integration.plane_world import LOOPBACK, Foreigner
from tests.integration.test_server_udp import CONFIG, UdpPnGw
from tests.waiting import until

SERVER_ID, SG = "cpns.example", "light"
OFTEN_S = 0.05


class Router(asyncio.DatagramProtocol):
    """Translates the address of one machine behind it. Datagrams of 4 octets that go out are counted in `pings`."""

    def __init__(self, server: tuple[str, int]) -> None:
        self._server = server
        self._outside: asyncio.DatagramTransport | None = None
        self._inside: tuple[str, int] | None = None
        self.cut = False
        self.pings = self.others = 0

    @classmethod
    async def open(cls, server: tuple[str, int]) -> "Router":
        _, router = await asyncio.get_running_loop().create_datagram_endpoint(lambda: cls(server), local_addr=LOOPBACK)
        await router.give_another_address()
        return router

    @property
    def address(self) -> tuple[str, int]:
        return self._transport.get_extra_info("sockname")  # type: ignore[no-any-return]

    async def give_another_address(self) -> None:
        """What came from the old one so far is gone, and what goes there is lost."""
        old, router = self._outside, self

        class Outside(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, address: Any) -> None:
                if not router.cut:
                    router._transport.sendto(data, router._inside)

        loop = asyncio.get_running_loop()
        self._outside, _ = await loop.create_datagram_endpoint(Outside, local_addr=LOOPBACK)
        if old is not None:
            old.close()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self._inside = address
        self.pings += len(data) == 4
        self.others += len(data) > 4
        if not self.cut and self._outside is not None:
            self._outside.sendto(data, self._server)

    def close(self) -> None:
        self._transport.close()
        if self._outside is not None:
            self._outside.close()


@asynccontextmanager
async def behind_a_router(folder: Path) -> AsyncIterator[tuple[CpnsServer, UdpPnGw, Router]]:
    """A Server, and a PN GW with a session and a group whose key it has."""
    server = await CpnsServer.open(folder / "server", CONFIG)
    server.start()
    router = await Router.open(host_and_port(server.places[0]))
    home = UdpPnGw(folder, "home")
    server.register_gateway("gw.home", "pn.home", home.identity.credential.ccs, is_open=True)
    home.store.register(credentials.parse(server.credential(), "server"))
    home.endpoint = await Endpoint.open(
        identity=home.identity,
        store=home.store,
        resources={"server": {PATH: uplink_resource(home.take)}},
        links=[UdpLink([("127.0.0.1", 0)])],
    )
    try:
        await home.endpoint.connect(SERVER_ID, place_of(*router.address))
        await home.ask_to_create("lamp", SG)
        await until(lambda: home.newest(SG) == 1)
        yield server, home, router
    finally:
        await home.stop()
        router.close()
        await server.close()


@asynccontextmanager
async def keeping_alive(home: UdpPnGw, every_s: float) -> AsyncIterator[None]:
    alive = KeepAlive(home.endpoint, SERVER_ID, every_s)
    alive.start()
    try:
        yield
    finally:
        await alive.close()


async def test_what_keeps_the_way_open_is_four_octets_of_which_the_server_learns_nothing(tmp_path: Path) -> None:
    async with behind_a_router(tmp_path) as (server, home, router):
        before, sent = server.counters(), router.others
        async with keeping_alive(home, OFTEN_S):
            await until(lambda: router.pings >= SIGN_EVERY - 1)
        after = server.counters()
        assert router.others - sent <= 1
        assert after.get("requests_handled", 0) - before.get("requests_handled", 0) <= 1
        assert home.endpoint.counters["pings_unanswered"] == 0


@pytest.mark.req("SEC-27")
async def test_an_address_that_changed_unnoticed_is_told_by_a_sign_of_life_and_what_waits_comes(tmp_path: Path) -> None:
    async with behind_a_router(tmp_path) as (server, home, router):
        await router.give_another_address()
        server.update_key(SG)
        await until(lambda: server.counters()["requests_sent"] >= 3)  # it went where nobody is any more
        await asyncio.sleep(0.2)
        assert home.newest(SG) == 1
        async with keeping_alive(home, OFTEN_S):
            await until(lambda: home.newest(SG) == 2)
        assert server.counters().get("deliveries_unanswered", 0) == 0  # it was sent again at once
        assert server.counters().get("messages_malformed", 0) == 0


async def test_a_server_that_answers_again_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_agent.uplinks.keep_alive.SIGN_EVERY", 1_000_000)
    monkeypatch.setattr("gateway_agent.uplinks.keep_alive.PING_ANSWER_S", 0.1)
    async with behind_a_router(tmp_path) as (server, home, router), keeping_alive(home, OFTEN_S):
        router.cut = True
        server.update_key(SG)
        await until(lambda: home.endpoint.counters["pings_unanswered"] > 0)
        await router.give_another_address()
        router.cut = False
        await until(lambda: home.newest(SG) == 2)


async def test_nobody_else_can_tell_the_server_where_the_pn_gw_is(tmp_path: Path) -> None:
    async with behind_a_router(tmp_path) as (server, home, _):
        stranger = await Foreigner.open()
        for message in (b"\x40\x00\x12\x34", b"\x70\x00\x12\x34"):  # a ping, and a reset that answers none
            await stranger.send(message, server.places[0])
        assert (await stranger.received.get())[0] == b"\x70\x00\x12\x34"
        server.update_key(SG)
        await until(lambda: home.newest(SG) == 2)
        await stranger.close()


async def test_without_a_session_or_with_a_dead_server_it_goes_on_trying(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway_agent.uplinks.keep_alive.PING_ANSWER_S", 0.05)
    async with behind_a_router(tmp_path) as (_, home, router):
        router.cut = True
        async with keeping_alive(home, 0.01):
            await until(lambda: home.endpoint.counters["pings_unanswered"] >= 2)
            await home.endpoint.drop(SERVER_ID)
            pings = router.pings
            await asyncio.sleep(0.1)
            assert router.pings <= pings + 1
            router.cut = False
            await home.endpoint.connect(SERVER_ID, place_of(*router.address))
            await until(lambda: router.pings > pings + 3)


@pytest.mark.req("SEC-27")
async def test_a_gateway_started_anew_makes_another_session_if_the_server_has_lost_the_old_one(tmp_path: Path) -> None:
    async with behind_a_router(tmp_path) as (server, home, router):
        await home.endpoint.close()
        home.endpoint = await Endpoint.open(
            identity=home.identity,
            store=home.store,
            resources={"server": {PATH: uplink_resource(home.take)}},
            links=[UdpLink([("127.0.0.1", 0)])],
        )
        assert home.endpoint.has_session(SERVER_ID)
        await server.restore()  # ends all sessions
        assert await ServerSession(home.endpoint, SERVER_ID, place_of(*router.address)).request(home.list_of_versions())


async def test_an_answer_may_be_empty(tmp_path: Path) -> None:
    async with behind_a_router(tmp_path) as (_, home, router):
        assert await ServerSession(home.endpoint, SERVER_ID, place_of(*router.address)).request(b"") == b""


@pytest.mark.parametrize("message", [cborlite.encode({0: 26, 99: 1}), cborlite.encode({0: 99})])
async def test_a_message_that_the_server_does_not_know_is_told_from_silence(tmp_path: Path, message: bytes) -> None:
    async with behind_a_router(tmp_path) as (_, home, router):
        session = ServerSession(home.endpoint, SERVER_ID, place_of(*router.address))
        with pytest.raises(NotUnderstood):
            await session.request(message)
        assert await session.request(home.list_of_versions())
        with pytest.raises(NoAnswer) as refused:  # understood, and not for a CPNS Server
            await session.request(messages.encode(numbers.GENERATION_RESPONSE, {messages.RESULT: "1"}))
        assert type(refused.value) is NoAnswer
