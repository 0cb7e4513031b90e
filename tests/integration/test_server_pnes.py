"""PNEs and a CPNS Server on its own: sessions through a PN GW over UDP, Entity User Keys, admission, retirement."""

import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cpns import entity_user_key
from cpns import messages as m
from cpns import numbers as n
from cpns import tuning as cpns_tuning
from cpns.errors import MalformedMessage, NotAllowed, TooMany, Unknown
from key_servers.cpns_server import databases
from key_servers.cpns_server.app import CpnsServer
from key_servers.cpns_server.config import ServerConfig
from key_servers.errors import StoreFailed
from keycast.free_ports import free_port
from message_plane import credentials
from message_plane.errors import PeerRefused, PlaneError
from message_plane.identity import OwnIdentity
from message_plane.session_file import SessionFile
from tests.integration.plane_world import Party
from tests.integration.test_server_udp import UdpPnGw
from tests.integration.tunnel_end import PLACE, BoardEnd
from tests.unit.cpns_server_parts import error_of, succeeded

CONFIG = ServerConfig(id="cpns.example", listen=["127.0.0.1"], port=0, batching_s=0)
SERVER = "cpns.example"
SG = "alarm"
EUK = b"provisioned 16 o"


class Tunnel:
    """The tunnel through PN GWs that have a session with the Server, by their entity ID."""

    def __init__(self, *gateways: UdpPnGw) -> None:
        self.gateways = {gateway.gateway_id: gateway for gateway in gateways}
        self.refusals: list[int] = []

    async def carry(self, gateway_id: str, pne_id: str, datagram: bytes) -> bytes | None:
        answer = await self.ask(gateway_id, pne_id, datagram)
        if not succeeded(answer):
            self.refusals.append(error_of(answer))
            raise TooMany("refused")
        return answer.get(m.DATAGRAM)  # type: ignore[return-value]

    async def ask(self, gateway_id: str, pne_id: str, datagram: bytes) -> dict[int, object]:
        fields = {m.PNE_ID: pne_id, m.DATAGRAM: datagram}
        return await self.gateways[gateway_id].ask(n.TUNNEL_REQUEST, fields)


class Estate:
    """A Server, PN GW gw.home of pn.home, and boards behind it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = CONFIG.model_copy(update={"port": free_port()})
        self.server: CpnsServer
        self.boards: list[Party] = []

    async def start(self) -> None:
        self.server = await CpnsServer.open(self.folder / "server", self.config)
        self.server.start()

    async def restart(self) -> None:
        await self.server.close()
        await self.start()

    async def home(self) -> None:
        self.gateway = UdpPnGw(self.folder, "home")
        self.server.register_gateway("gw.home", "pn.home", self.gateway.identity.credential.ccs, is_open=True)
        await self.gateway.start(self.server)
        self.tunnel = Tunnel(self.gateway)

    async def board(self, name: str, key: str = "") -> Party:
        """A board that has the Server's credential; `key` tells boards of one name apart."""
        folder = self.folder / (key or name)
        folder.mkdir()
        board = Party(folder, name, "pne")
        await board.start(links=[BoardEnd(self.tunnel, "gw.home", name)])
        board.store.register(credentials.parse(self.server.credential(), "server"))
        self.boards.append(board)
        return board

    async def admitted(self, name: str) -> Party:
        """A board that the Server knows, and that has a session with it and said so."""
        board = await self.board(name)
        self.server.admit_pne(name, "pn.home", board.credential.ccs)
        await board.endpoint.connect(SERVER, PLACE)
        assert await board.ask(SERVER, b"") == b""
        return board

    def keys(self, name: str) -> tuple[bytes, bytes | None] | None:
        keys = self.server._entity_user_keys.of(name)
        return None if keys is None else (keys.current, keys.previous)

    def octets(self) -> bytes:
        return b"".join(path.read_bytes() for path in (self.folder / "server").iterdir() if path.is_file())

    async def stop(self) -> None:
        for board in self.boards:
            await board.stop()
        await self.gateway.stop()
        await self.server.close()


@pytest.fixture
async def estate(tmp_path: Path) -> AsyncIterator[Estate]:
    estate = Estate(tmp_path)
    await estate.start()
    await estate.home()
    yield estate
    await estate.stop()


async def pull(board: Party, sg_id: str = SG, version: int = 0) -> dict[int, Any]:
    fields = {m.PNE_ID: board.entity_id, m.SG_ID: sg_id, m.VERSION: version}
    code, answer = m.decode(await board.ask(SERVER, m.encode(n.KEY_PULL_REQUEST, fields)))
    assert code == n.KEY_PULL_RESPONSE
    return dict(answer)


async def join(estate: Estate, name: str) -> None:
    assert succeeded(await estate.gateway.ask(n.JOIN_REQUEST, {m.PNE_ID: name, m.SG_ID: SG}))


# The session


@pytest.mark.req("CPNS-GKM-50", "SEC-25")
async def test_a_board_and_the_server_have_the_key_of_their_session_from_its_first_request_on(estate: Estate) -> None:
    lamp = await estate.board("lamp")
    estate.server.admit_pne("lamp", "pn.home", lamp.credential.ccs)
    await lamp.endpoint.connect(SERVER, PLACE)
    assert estate.keys("lamp") is None, "the handshake alone proves nothing to the Server"
    assert await lamp.ask(SERVER, b"") == b""
    assert estate.keys("lamp") == (lamp.endpoint.export(SERVER, 32769, 16), None)


@pytest.mark.req("SEC-26")
async def test_a_board_pulls_through_the_tunnel_and_the_answer_has_no_key(estate: Estate) -> None:
    lamp = await estate.admitted("lamp")
    estate.server.create_group(SG, open_to=["pn.home"], trust="end-to-end")
    assert error_of(await pull(lamp)) == n.ERROR_NOT_MEMBER
    await join(estate, "lamp")
    answer = await pull(lamp)
    assert succeeded(answer) and answer[m.VERSION] == 2 and m.GROUP_KEY not in answer


async def test_a_pull_that_the_pn_gw_passes_on_for_a_board_is_answered_like_its_own(estate: Estate) -> None:
    estate.server.admit_pne("lamp", "pn.home", entity_user_key=EUK)
    estate.server.admit_pne("door", "pn.home", entity_user_key=EUK[::-1])
    estate.server.create_group(SG, open_to=["pn.home"], trust="end-to-end", rekey_on_join=False)
    await join(estate, "lamp")
    answer = await estate.gateway.ask(n.KEY_PULL_REQUEST, {m.SG_ID: SG, m.VERSION: 0, m.PNE_ID: "lamp"})
    assert succeeded(answer) and answer[m.VERSION] == 1 and answer[m.PROTECTION] == n.PROTECTION_SEALED
    assert m.GROUP_KEY not in answer
    for name, error in (("door", n.ERROR_NOT_MEMBER), ("stranger", n.ERROR_NOT_ALLOWED)):
        answer = await estate.gateway.ask(n.KEY_PULL_REQUEST, {m.SG_ID: SG, m.VERSION: 0, m.PNE_ID: name})
        assert error_of(answer) == error
    answer = await estate.gateway.ask(n.KEY_PULL_REQUEST, {m.SG_ID: SG, m.VERSION: 0})
    assert succeeded(answer) and m.GROUP_KEY not in answer


@pytest.mark.req("SEC-22", "SEC-25")
async def test_session_and_key_survive_a_restart_of_the_server(estate: Estate) -> None:
    lamp = await estate.admitted("lamp")
    key = estate.keys("lamp")
    await estate.restart()
    assert await lamp.ask(SERVER, b"") == b""
    assert estate.keys("lamp") == key and "handshakes_done" not in estate.server.counters()


@pytest.mark.req("SEC-25")
async def test_a_session_whose_key_was_not_stored_before_the_server_died_is_made_anew(
    estate: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session is on the medium before the handler runs; only a handshake gives its key."""
    lamp = await estate.board("lamp")
    estate.server.admit_pne("lamp", "pn.home", lamp.credential.ccs)
    await lamp.endpoint.connect(SERVER, PLACE)

    def dies(*_: object) -> None:
        raise StoreFailed("The disk is full.", "Make room.")

    monkeypatch.setattr(estate.server._entity_user_keys, "learnt", dies)
    with pytest.raises(PeerRefused) as caught:
        await lamp.ask(SERVER, b"")
    assert "disk" not in str(caught.value)
    await estate.restart()
    assert await lamp.ask(SERVER, b"") == b""
    assert estate.keys("lamp") == (lamp.endpoint.export(SERVER, 32769, 16), None)


@pytest.mark.req("SEC-25")
async def test_a_renewed_session_keeps_the_key_before_until_the_new_one_was_used(estate: Estate) -> None:
    lamp = await estate.admitted("lamp")
    first = lamp.endpoint.export(SERVER, 32769, 16)
    await lamp.endpoint.drop(SERVER)
    await lamp.endpoint.connect(SERVER, PLACE)
    await lamp.ask(SERVER, b"")
    second = lamp.endpoint.export(SERVER, 32769, 16)
    assert second != first and estate.keys("lamp") == (second, first)
    estate.server._entity_user_keys.used("lamp", entity_user_key.key_id(second))
    assert estate.keys("lamp") == (second, None) and first not in estate.octets()


@pytest.mark.req("SEC-17", "SEC-25")
async def test_no_entity_user_key_shows_in_logs_and_backups(estate: Estate, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await estate.admitted("lamp")
    estate.server.admit_pne("door", "pn.home", entity_user_key=EUK)
    keys = [estate.keys(name) for name in ("lamp", "door")]
    backup = b"".join(estate.server.images().values())
    for secret, _ in filter(None, keys):
        assert secret in estate.octets() and secret not in backup
        assert secret.hex() not in caplog.text and repr(secret)[2:-1] not in caplog.text
    assert b"lamp" in backup


# The tunnel


@pytest.mark.req("SEC-16")
async def test_a_pn_gw_carries_for_boards_of_its_pn_only(estate: Estate) -> None:
    office = UdpPnGw(estate.folder, "office")
    estate.server.register_gateway("gw.office", "pn.office", office.identity.credential.ccs, is_open=True)
    await office.start(estate.server)
    try:
        await estate.admitted("lamp")
        estate.tunnel.gateways["gw.office"] = office
        for gateway_id, name in (("gw.office", "lamp"), ("gw.home", "made-up"), ("gw.home", "gw.office")):
            answer = await estate.tunnel.ask(gateway_id, name, b"\x50\x02\0\1")
            assert error_of(answer) == n.ERROR_NOT_ALLOWED
        carried = estate.server.counters()["datagrams_carried"]
        estate.server.move_pne("lamp", "pn.office")
        assert error_of(await estate.tunnel.ask("gw.home", "lamp", b"\x50\x02\0\1")) == n.ERROR_NOT_ALLOWED
        assert estate.server.counters()["datagrams_carried"] == carried
    finally:
        await office.stop()


async def test_a_datagram_of_one_octet_too_many_is_no_message_and_one_without_answer_has_an_empty_response(
    estate: Estate,
) -> None:
    await estate.admitted("lamp")
    answer = await estate.tunnel.ask("gw.home", "lamp", bytes(cpns_tuning.TUNNEL_DATAGRAM_MAX))
    assert succeeded(answer) and m.DATAGRAM not in answer
    head = bytes.fromhex("a300182a01646c616d70182f590501")  # the same message with a datagram of 1,281 octets
    with pytest.raises(PeerRefused) as caught:
        await estate.gateway.endpoint.request(SERVER, head + bytes(1281), resource="cpns", timeout_s=10)
    assert caught.value.code == "4.00"
    assert estate.server.counters()["messages_malformed"] == 1


@pytest.mark.req("SEC-21")
async def test_a_fifth_datagram_under_way_is_refused_with_a_code(estate: Estate) -> None:
    await estate.admitted("lamp")
    assert estate.server._sessions is not None
    waiting = estate.server._sessions._tunnel._waiting
    waiting["tunnel:gw.home/lamp"] = 4
    assert error_of(await estate.tunnel.ask("gw.home", "lamp", b"\x50\x02\0\1")) == n.ERROR_TOO_MANY
    waiting.clear()
    assert succeeded(await estate.tunnel.ask("gw.home", "lamp", b"\x50\x02\0\1"))


@pytest.mark.req("SEC-18")
async def test_a_blocked_pn_gw_carries_nothing_and_its_boards_keep_session_and_key_for_the_next(
    estate: Estate,
) -> None:
    lamp = await estate.admitted("lamp")
    key = estate.keys("lamp")
    new = UdpPnGw(estate.folder, "new")
    new.pn_id = "pn.home"
    await estate.server.replace_gateway("gw.home", "gw.new", new.identity.credential.ccs)
    with pytest.raises(PlaneError):
        await estate.tunnel.ask("gw.home", "lamp", b"\x50\x02\0\1")
    await new.start(estate.server)
    try:
        end = lamp.end = BoardEnd(Tunnel(new), "gw.new", "lamp")
        await lamp.stop()
        await lamp.start(links=[end])
        await lamp.endpoint.connect(SERVER, PLACE)
        assert await lamp.ask(SERVER, b"") == b""
        assert estate.keys("lamp") == key
    finally:
        await lamp.stop()
        await new.stop()


# Admission


@pytest.mark.req("SEC-16", "SEC-31")
async def test_a_credential_or_name_that_is_not_the_boards_is_refused_and_changes_nothing(estate: Estate) -> None:
    lamp = await estate.board("lamp")
    ccs = lamp.credential.ccs
    for name, octets in (
        ("door", ccs),  # of another name
        ("gw.home", OwnIdentity.create(estate.folder / "a.key", "gw.home", "pne").credential.ccs),
        (SERVER, OwnIdentity.create(estate.folder / "b.key", SERVER, "pne").credential.ccs),
        ("lamp", ccs[:-1]),
        ("lamp", b"\xff" * 200),
        ("twin", credentials.ccs_of("gw.home", estate.gateway.identity.x)),
    ):
        with pytest.raises((NotAllowed, MalformedMessage)):
            estate.server.admit_pne(name, "pn.home", octets)
    for length in (1, 15, 17):
        with pytest.raises(NotAllowed):
            estate.server.admit_pne("lamp", "pn.home", entity_user_key=bytes(length))
    with pytest.raises(NotAllowed):
        estate.server.admit_pne("gw.home", "pn.home")
    with pytest.raises(Unknown):
        estate.server.admit_pne("lamp", "pn.nowhere", ccs, EUK)
    assert estate.server.pnes() == {} and estate.keys("lamp") is None
    with pytest.raises(PlaneError):
        await lamp.endpoint.connect(SERVER, PLACE)


@pytest.mark.req("SEC-31")
async def test_a_pn_gw_does_not_get_the_name_of_an_admitted_board(estate: Estate) -> None:
    await estate.admitted("lamp")
    gateway = OwnIdentity.create(estate.folder / "g.key", "lamp", "gateway").credential
    with pytest.raises(NotAllowed):
        estate.server.register_gateway("lamp", "pn.other", gateway.ccs, replace=True)
    assert estate.keys("lamp") is not None


async def test_admitting_the_same_board_once_more_changes_nothing_and_adds_what_is_new(estate: Estate) -> None:
    lamp = await estate.admitted("lamp")
    key = estate.keys("lamp")
    estate.server.admit_pne("lamp", "pn.home")
    estate.server.admit_pne("lamp", "pn.home", lamp.credential.ccs)
    estate.server.admit_pne("lamp", "pn.home", lamp.credential.ccs, replace=True)
    assert await lamp.ask(SERVER, b"") == b"" and estate.keys("lamp") == key
    estate.server.admit_pne("door", "pn.home")
    estate.server.admit_pne("door", "pn.home", entity_user_key=EUK)
    assert estate.keys("door") == (EUK, None)


@pytest.mark.req("SEC-31", "SEC-32")
async def test_another_key_for_a_board_needs_a_person_who_says_replace_and_ends_what_the_old_one_had(
    estate: Estate,
) -> None:
    old = await estate.admitted("lamp")
    secret = old.endpoint.export(SERVER, 32769, 16)
    estate.server.create_group(SG, open_to=["pn.home"], trust="end-to-end")
    await join(estate, "lamp")
    new = await estate.board("lamp", "another")
    with pytest.raises(NotAllowed, match="--replace"):
        estate.server.admit_pne("lamp", "pn.home", new.credential.ccs)
    assert succeeded(await pull(old))
    estate.server.admit_pne("lamp", "pn.home", new.credential.ccs, replace=True)
    assert estate.keys("lamp") is None and secret not in estate.octets()
    with pytest.raises(PlaneError):
        await old.ask(SERVER, b"", timeout_s=10)
    await new.endpoint.connect(SERVER, PLACE)
    assert error_of(await pull(new)) == n.ERROR_NOT_MEMBER
    assert estate.keys("lamp") == (new.endpoint.export(SERVER, 32769, 16), None)


@pytest.mark.req("SEC-31", "SEC-32")
@pytest.mark.parametrize("before", ["session", "provisioned"])
async def test_whatever_another_board_comes_with_the_one_before_it_has_nothing_left(
    estate: Estate, before: str
) -> None:
    """A board with a session is replaced by one with a provisioned key, and the other way round."""
    if before == "session":
        old = await estate.admitted("lamp")
    else:
        old = await estate.board("lamp")
        estate.server.admit_pne("lamp", "pn.home", entity_user_key=b"known to a thief")
    estate.server.create_group(SG, open_to=["pn.home"], trust="end-to-end")
    await join(estate, "lamp")
    if before == "session":
        for _ in range(2):
            estate.server.admit_pne("lamp", "pn.home", entity_user_key=EUK, replace=True)
    else:
        new = await estate.board("lamp", "another")
        for _ in range(2):
            estate.server.admit_pne("lamp", "pn.home", new.credential.ccs, replace=True)
    with contextlib.suppress(PlaneError):
        await old.ask(SERVER, b"", timeout_s=10)
    assert estate.keys("lamp") == ((EUK, None) if before == "session" else None)
    assert estate.server.show_group(SG).members[0].state == "left"
    await join(estate, "lamp")
    estate.server.admit_pne("lamp", "pn.home", entity_user_key=EUK, replace=before == "session")
    assert estate.server.show_group(SG).members[0].state == "member", "a repeated command changes nothing"


async def test_an_embedded_server_has_no_use_for_credentials_and_keys(tmp_path: Path) -> None:
    server = await CpnsServer.open(tmp_path / "embedded")
    server.register_gateway("gw.home", "pn.home")
    for what in ({"credential": b"x"}, {"entity_user_key": EUK}):
        with pytest.raises(NotAllowed, match="embedded"):
            server.admit_pne("lamp", "pn.home", **what)  # type: ignore[arg-type]
    assert server.pnes() == {}
    answer = await server.handle("gw.home", m.encode(n.TUNNEL_REQUEST, {m.PNE_ID: "lamp", m.DATAGRAM: b"\0"}))
    assert error_of(m.decode(answer)[1]) == n.ERROR_NOT_ALLOWED
    await server.close()


@pytest.mark.req("SEC-32", "SEC-33")
async def test_a_replacement_that_was_cut_off_is_done_by_the_same_command_once_more(
    estate: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await estate.admitted("lamp")

    def cut(*_: object, **__: object) -> None:
        raise StoreFailed("cut")

    with monkeypatch.context() as patch:
        patch.setattr(estate.server._entity_user_keys, "provisioned", cut)
        with pytest.raises(StoreFailed):
            estate.server.admit_pne("lamp", "pn.home", entity_user_key=EUK, replace=True)
    with pytest.raises(PlaneError):
        await old.ask(SERVER, b"", timeout_s=10)
    estate.server.admit_pne("lamp", "pn.home", entity_user_key=EUK, replace=True)
    assert estate.keys("lamp") == (EUK, None)


# The end of a name


@pytest.mark.req("SEC-31", "SEC-32")
@pytest.mark.parametrize("by", ["person", "gateway"])
async def test_a_retired_board_has_no_session_no_key_and_no_membership(
    estate: Estate, by: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    lamp = await estate.admitted("lamp")
    secret = lamp.endpoint.export(SERVER, 32769, 16)
    estate.server.create_group(SG, open_to=["pn.home"], trust="end-to-end")
    await join(estate, "lamp")
    if by == "person":
        estate.server.retire_pne("lamp")
    else:
        fields = {m.PNE_ID: "lamp", m.PN_ID: "pn.home"}
        for _ in range(3):
            assert succeeded(await estate.gateway.ask(n.RETIREMENT_REQUEST, fields))
    assert caplog.text.count("lamp is not admitted to end-to-end groups any more") == 1
    assert estate.keys("lamp") is None and secret not in estate.octets()
    assert estate.server.show_group(SG).members[0].state == "left"
    with pytest.raises(PlaneError):
        await lamp.ask(SERVER, b"", timeout_s=10)
    path = estate.folder / "server" / databases.SESSIONS_FILE
    with contextlib.closing(SessionFile(path)) as sessions:
        assert sessions.credential("lamp") is None
        assert [context.entity_id for context in sessions.contexts()] == ["gw.home"]


@pytest.mark.req("SEC-16", "SEC-31")
async def test_a_pn_gw_retires_no_board_of_another_pn_and_no_pn_gw(estate: Estate) -> None:
    office = UdpPnGw(estate.folder, "office")
    estate.server.register_gateway("gw.office", "pn.office", office.identity.credential.ccs, is_open=True)
    await office.start(estate.server)
    try:
        lamp = await estate.admitted("lamp")
        for name in ("lamp", "gw.home", SERVER):
            await office.ask(n.RETIREMENT_REQUEST, {m.PNE_ID: name, m.PN_ID: "pn.office"})
        assert await lamp.ask(SERVER, b"") == b"" and estate.keys("lamp") is not None
    finally:
        await office.stop()


async def test_a_moved_board_keeps_session_and_key_and_leaves_its_groups(estate: Estate) -> None:
    office = UdpPnGw(estate.folder, "office")
    estate.server.register_gateway("gw.office", "pn.office", office.identity.credential.ccs)
    await office.start(estate.server)
    try:
        lamp = await estate.admitted("lamp")
        key = estate.keys("lamp")
        estate.server.create_group(SG, open_to=["pn.home", "pn.office"], trust="end-to-end")
        await join(estate, "lamp")
        estate.server.move_pne("lamp", "pn.office")
        await lamp.stop()
        await lamp.start(links=[BoardEnd(Tunnel(office), "gw.office", "lamp")])
        await lamp.endpoint.connect(SERVER, PLACE)
        assert error_of(await pull(lamp)) == n.ERROR_NOT_MEMBER
        assert succeeded(await office.ask(n.JOIN_REQUEST, {m.PNE_ID: "lamp", m.SG_ID: SG}))
        assert succeeded(await pull(lamp)) and estate.keys("lamp") == key
    finally:
        await lamp.stop()
        await office.stop()


@pytest.mark.req("SEC-03", "SEC-23", "SEC-25")
async def test_an_older_copy_of_the_store_ends_sessions_and_uses_no_key_of_theirs_but_provisioned_ones(
    estate: Estate,
) -> None:
    lamp = await estate.admitted("lamp")
    secret = lamp.endpoint.export(SERVER, 32769, 16)
    estate.server.admit_pne("door", "pn.home", entity_user_key=EUK)
    await estate.server.restore()
    disowned, previous = estate.keys("lamp") or (b"", None)
    assert disowned != secret and previous is None and secret not in estate.octets()
    assert estate.keys("door") == (EUK, None)
    path = estate.folder / "server" / databases.SESSIONS_FILE
    with contextlib.closing(SessionFile(path)) as sessions:
        assert sessions.contexts() == []
    # the board finds its session gone, makes a new one, and by that a new key
    assert await lamp.ask(SERVER, b"") == b""
    again = lamp.endpoint.export(SERVER, 32769, 16)
    assert again != secret and estate.keys("lamp") == (again, disowned)
