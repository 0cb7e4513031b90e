"""The CPNS Server on its own: PN GWs reach it by CoAP, EDHOC and OSCORE over UDP, and it reaches them."""

import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cpns import messages as m
from cpns import numbers as n
from cpns.errors import NotAllowed
from key_servers.cpns_server.app import CpnsServer
from key_servers.cpns_server.config import ServerConfig
from key_servers.errors import ServerError
from keycast.free_ports import free_port
from message_plane import credentials
from message_plane.cpns_resource import PATH, uplink_resource
from message_plane.endpoint import Endpoint, Peer
from message_plane.errors import HandshakeFailed, PeerRefused, PeerUnreachable, PlaneError
from message_plane.identity import OwnIdentity
from message_plane.links.udp import UdpLink
from message_plane.session_file import SessionFile
from tests.unit.cpns_server_parts import PnGw, error_of, succeeded
from tests.waiting import until

CONFIG = ServerConfig(id="cpns.example", listen=["127.0.0.1"], port=0, batching_s=0)


class UdpPnGw(PnGw):
    """The PN GW of the unit tests behind a real endpoint."""

    def __init__(self, folder: Path, name: str, role: str = "gateway") -> None:
        super().__init__(f"gw.{name}", f"pn.{name}")
        self.identity = OwnIdentity.create(folder / f"{name}.key", self.gateway_id, role)
        self.store = SessionFile(folder / f"{name}.sessions")

    async def start(self, server: CpnsServer) -> None:
        self.store.register(credentials.parse(server.credential(), "server"))
        self.endpoint = await Endpoint.open(
            identity=self.identity,
            store=self.store,
            resources={"server": {PATH: uplink_resource(self.take)}},
            links=[UdpLink([("127.0.0.1", 0)])],
        )
        await self.endpoint.connect("cpns.example", server.places[0])

    async def take(self, peer: Peer, message: bytes) -> bytes:
        assert (peer.entity_id, peer.role) == ("cpns.example", "server")
        return await self.receive(message)

    async def ask(self, code: int, fields: dict[int, object]) -> dict[int, object]:
        answer = await self.endpoint.request("cpns.example", m.encode(code, fields), resource=PATH, timeout_s=10)
        answer_code, answer_fields = m.decode(answer, 131072)
        assert answer_code == code + 1
        return dict(answer_fields)

    async def ask_to_create(self, pne_id: str, sg_id: str) -> None:
        """A PNE makes a Service Group; returns when the Server has it."""
        assert succeeded(await self.ask(n.CREATE_SERVICE_GROUP_REQUEST, {m.PNE_ID: pne_id, m.SG_ID: sg_id}))

    def list_of_versions(self) -> bytes:
        return bytes(m.encode(n.VERSION_LIST_REQUEST, {m.PN_ID: self.pn_id}))

    async def stop(self) -> None:
        await self.endpoint.close()
        self.store.close()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[CpnsServer]:
    server = await CpnsServer.open(tmp_path / "server", CONFIG)
    server.start()
    yield server
    await server.close()


@pytest.fixture
async def home(tmp_path: Path, server: CpnsServer) -> AsyncIterator[UdpPnGw]:
    home = UdpPnGw(tmp_path, "home")
    server.register_gateway("gw.home", "pn.home", home.identity.credential.ccs, is_open=True)
    await home.start(server)
    yield home
    await home.stop()


@pytest.mark.req("CPNS-GKM-09", "CPNS-GKM-50", "CPNS-GKM-62")
async def test_a_group_made_over_the_session_is_keyed_over_the_session(server: CpnsServer, home: UdpPnGw) -> None:
    answer = await home.ask(n.CREATE_SERVICE_GROUP_REQUEST, {m.PNE_ID: "lamp", m.SG_ID: "light"})
    assert succeeded(answer)
    await until(lambda: home.versions("light") == [1])
    await home.ask(n.JOIN_REQUEST, {m.PNE_ID: "door", m.SG_ID: "light"})
    await until(lambda: home.versions("light") == [1, 2])
    assert home.members["light"] == ["door", "lamp"]


async def test_a_large_inventory_arrives_whole(server: CpnsServer, home: UdpPnGw) -> None:
    names = sorted(f"pne-{'x' * 50}-{i:04}" for i in range(300))
    server.create_group("light", open_to=["pn.home"], rekey_on_join=False)
    for name in names:
        await server.handle("gw.home", m.encode(n.JOIN_REQUEST, {m.PNE_ID: name, m.SG_ID: "light"}))
    await home.ask(n.VERSION_LIST_REQUEST, {m.PN_ID: "pn.home"})  # from its first request on the Server knows the way
    await until(lambda: home.members.get("light") == names and home.versions("light") == [1])


async def test_after_a_restart_of_the_server_keys_flow_without_a_word_of_the_pn_gw(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"port": free_port()})
    server = await CpnsServer.open(tmp_path / "server", config)
    server.start()
    home = UdpPnGw(tmp_path, "home")
    server.register_gateway("gw.home", "pn.home", home.identity.credential.ccs, is_open=True)
    await home.start(server)
    await home.ask(n.CREATE_SERVICE_GROUP_REQUEST, {m.PNE_ID: "lamp", m.SG_ID: "light"})
    await until(lambda: home.versions("light") == [1])
    await server.close()

    server = await CpnsServer.open(tmp_path / "server", config)
    server.start()
    server.update_key("light")
    await until(lambda: home.versions("light") == [1, 2])
    await home.stop()
    await server.close()


@pytest.mark.req("SEC-16")
async def test_only_registered_pn_gws_get_a_session(tmp_path: Path, server: CpnsServer) -> None:
    stranger = UdpPnGw(tmp_path, "stranger")
    with pytest.raises((HandshakeFailed, PeerUnreachable, PeerRefused)):
        await stranger.start(server)
    await stranger.stop()


@pytest.mark.req("SEC-16")
async def test_a_credential_is_taken_for_the_name_in_it_only(tmp_path: Path, server: CpnsServer) -> None:
    home = OwnIdentity.create(tmp_path / "home.key", "gw.home", "gateway")
    with pytest.raises(NotAllowed):
        server.register_gateway("gw.office", "pn.office", home.credential.ccs)
    server.register_gateway("gw.home", "pn.home", home.credential.ccs)
    twin = credentials.ccs_of("gw.twin", home.x)
    with pytest.raises(NotAllowed):
        server.register_gateway("gw.twin", "pn.twin", twin)
    # a refused credential registers nobody
    assert [gateway.gateway_id for gateway in server.gateways()] == ["gw.home"]


async def test_a_malformed_message_and_a_foreign_pn_are_refused_with_a_coap_code(
    server: CpnsServer, home: UdpPnGw
) -> None:
    with pytest.raises(PeerRefused) as caught:
        await home.endpoint.request("cpns.example", b"\xff", resource=PATH, timeout_s=10)
    assert caught.value.code == "4.00"
    foreign = m.encode(n.JOIN_REQUEST, {m.PNE_ID: "lamp", m.SG_ID: "light", m.PN_ID: "pn.other"})
    with pytest.raises(PeerRefused) as caught:
        await home.endpoint.request("cpns.example", foreign, resource=PATH, timeout_s=10)
    assert caught.value.code == "4.03"
    assert error_of(await home.ask(n.JOIN_REQUEST, {m.PNE_ID: "lamp", m.SG_ID: "x"})) == n.ERROR_UNKNOWN


@pytest.mark.req("SEC-18")
async def test_a_blocked_pn_gw_loses_its_session_at_once(tmp_path: Path, server: CpnsServer, home: UdpPnGw) -> None:
    await home.ask(n.CREATE_SERVICE_GROUP_REQUEST, {m.PNE_ID: "lamp", m.SG_ID: "light"})
    await until(lambda: home.versions("light") == [1])
    await server.block_gateway("gw.home")
    with contextlib.closing(SessionFile(tmp_path / "server" / "sessions.sqlite3")) as sessions:
        assert sessions.contexts() == []
    server.update_key("light")
    with pytest.raises(PlaneError):
        await home.endpoint.request("cpns.example", b"\xa0", resource=PATH, timeout_s=5)
    assert home.versions("light") == [1]


@pytest.mark.req("SEC-03")
async def test_restore_ends_the_sessions(tmp_path: Path, server: CpnsServer, home: UdpPnGw) -> None:
    """Sequence numbers used after the copy was made would be used again."""
    await home.ask(n.CREATE_SERVICE_GROUP_REQUEST, {m.PNE_ID: "lamp", m.SG_ID: "light"})
    await until(lambda: home.versions("light") == [1])
    assert home.endpoint.counters["sessions_begun"] == 1
    await server.restore()
    with contextlib.closing(SessionFile(tmp_path / "server" / "sessions.sqlite3")) as sessions:
        assert sessions.contexts() == []
    server.confirm_members("light")
    # the PN GW finds its session gone, makes a new one, and is served over that
    assert succeeded(await home.ask(n.VERSION_LIST_REQUEST, {m.PN_ID: "pn.home"}))
    await until(lambda: home.newest("light") > 0x10000)
    assert home.endpoint.counters["sessions_begun"] == 2


async def test_the_server_keeps_the_name_its_pn_gws_know(tmp_path: Path, server: CpnsServer) -> None:
    await server.close()
    with pytest.raises(ServerError, match=r"belongs to cpns\.example"):
        await CpnsServer.open(tmp_path / "server", CONFIG.model_copy(update={"id": "other"}))
    again = await CpnsServer.open(tmp_path / "server", CONFIG)  # the failed attempt holds nothing
    await again.close()


@pytest.mark.req("SEC-17")
async def test_no_key_of_the_server_shows_in_logs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, server: CpnsServer, home: UdpPnGw
) -> None:
    caplog.set_level(logging.DEBUG)
    await home.ask(n.CREATE_SERVICE_GROUP_REQUEST, {m.PNE_ID: "lamp", m.SG_ID: "light"})
    await until(lambda: home.versions("light") == [1])
    private = OwnIdentity.load(tmp_path / "server" / "identity.json").private_octets()
    for secret in (private, home.keys["light"][1]):
        assert secret.hex() not in caplog.text and repr(secret)[2:-1] not in caplog.text


@pytest.mark.req("SEC-31", "SEC-32")
async def test_another_key_for_a_pn_gw_needs_a_person_who_says_replace_and_renews_what_the_old_one_held(
    tmp_path: Path,
) -> None:
    server = await CpnsServer.open(tmp_path / "server", CONFIG)
    server.start()
    old = UdpPnGw(tmp_path, "home")
    try:
        server.register_gateway("gw.home", "pn.home", old.identity.credential.ccs, is_open=True)
        await old.start(server)
        await old.ask_to_create("lamp", "light")
        await until(lambda: old.newest("light") > 0)
        new = OwnIdentity.create(tmp_path / "new.key", "gw.home", "gateway").credential
        version = server.show_group("light").version
        for name in ("gw.home", "cpns.example"):
            other = OwnIdentity.create(tmp_path / f"{name}.other", name, "gateway").credential
            with pytest.raises(NotAllowed):
                server.register_gateway(name, "pn.home" if name == "gw.home" else "pn.other", other.ccs)
        assert not [gateway for gateway in server.gateways() if gateway.gateway_id == "cpns.example"]
        await old.ask(n.VERSION_LIST_REQUEST, {m.PN_ID: "pn.home"})  # it goes on
        server.register_gateway("gw.home", "pn.home", new.ccs, replace=True)
        with pytest.raises(PlaneError):
            await old.ask(n.VERSION_LIST_REQUEST, {m.PN_ID: "pn.home"})
        await until(lambda: server.show_group("light").version > version)
    finally:
        await old.stop()
        await server.close()


@pytest.mark.req("SEC-33")
async def test_a_replacement_of_a_pn_gws_key_that_was_cut_is_done_whole_the_second_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await CpnsServer.open(tmp_path / "server", CONFIG)
    try:
        first, second = (OwnIdentity.create(tmp_path / key, "gw.home", "gateway").credential for key in ("a", "b"))
        server.register_gateway("gw.home", "pn.home", first.ccs)
        renewed: list[str] = []
        monkeypatch.setattr(server._recovery, "renew_keys", lambda pn_id, now: renewed.append(pn_id))

        def cut(*arguments: object, **named: object) -> None:
            raise OSError("the power is gone")

        assert server._sessions is not None
        with monkeypatch.context() as patch:
            patch.setattr(server._sessions, "register", cut)
            with pytest.raises(OSError):
                server.register_gateway("gw.home", "pn.home", second.ccs, replace=True)
        server.register_gateway("gw.home", "pn.home", second.ccs, replace=True)
        server.register_gateway("gw.home", "pn.home", second.ccs, replace=True)  # the same once more: nothing to do
        assert renewed == ["pn.home"] * 2
    finally:
        await server.close()
