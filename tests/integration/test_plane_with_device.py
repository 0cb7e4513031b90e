"""The Linux end against the board's own stack: CoAP, EDHOC and OSCORE of two implementations, over UDP."""

import asyncio
import hmac
import secrets

import notes_board
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cpns import messages, numbers
from device_agent import pairing, provisioning, session
from device_agent.agent import Agent
from device_agent.coap import blocks
from device_agent.host.storage import FileStorage
from device_agent.key_store import KeyStore
from device_agent.links.udp import UdpLink
from device_agent.requests import CPNS
from message_plane.cpns_resource import PATH, board_resource
from message_plane.endpoint import Peer
from message_plane.errors import PeerUnreachable
from message_plane.identity import BroadcastSigningKey, OwnIdentity
from tests.integration import notes_resource
from tests.integration.plane_world import Wire, parties, renumbered
from tests.virtual_time import BoardClock
from tests.waiting import until

SECRET = bytes(range(10))


class Board:
    """A PNE made of `device_agent` alone. It sends what a test says and keeps what it is asked."""

    def __init__(self, folder, name="lamp"):
        self.identity = OwnIdentity(name, "pne", ec.generate_private_key(ec.SECP256R1()))
        self.folder = folder / name
        self.heard = []
        self.agent = None
        self._task = None

    @property
    def credential(self):
        return self.identity.credential

    def provision(self, gateway=None, signing=None):
        storage = FileStorage(self.folder)
        pinned = {}
        if gateway is not None:
            pinned = {
                "gateway_id": gateway.entity_id,
                "gateway_ccs": gateway.credential.ccs,
                "signing_key": signing.public_key,
                "signing_epoch": 1,
                "pn_id": "home",
            }
        own = self.credential
        record = provisioning.Provisioning(own.entity_id, self.identity.private_octets(), own.ccs, **pinned)
        KeyStore(storage).save(provisioning.RECORD, record.pack())
        storage.close()

    def start(self, gateway_address, host="127.0.4.1"):
        self.storage = FileStorage(self.folder)
        link = UdpLink(host, "127.255.255.255", hear=host, port=0, broadcast_port=0)
        self.agent = Agent(self.storage, [link], [link], BoardClock(), secrets.token_bytes, lambda name, values: None)
        self.agent.requests.resources["cpns"] = self._handle
        self.agent.membership.duty = lambda now, confirms: None
        self.agent._discovery._hint = link, gateway_address
        self._task = asyncio.create_task(self.agent.run())

    def _handle(self, options, octets):
        self.heard.append(octets)
        return 0x44, CPNS[1:], b"\xa1" + octets
        yield

    async def ask(self, octets):
        return (await self.agent.perform(lambda: self.agent.session.ask(CPNS, octets)))[1]

    async def stop(self):
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self.storage.close()
            self._task = None


@pytest.fixture
async def board(tmp_path):
    board = Board(tmp_path)
    yield board
    await board.stop()


@pytest.fixture
async def gateway(tmp_path):
    async with parties(tmp_path, ("home-gw", "gateway")) as (gateway,):
        yield gateway


@pytest.fixture
def signing(tmp_path):
    return BroadcastSigningKey.create(tmp_path / "signing.key")


@pytest.fixture
async def connected(board, gateway, signing):
    board.provision(gateway, signing)
    gateway.knows(board)
    board.start(gateway.address)
    assert await board.ask(b"\xa0first") == b"\xa1\xa0first"
    return board


@pytest.mark.req("CPNS-GKM-50")
async def test_a_board_makes_a_session_and_both_ends_send_requests(connected, gateway):
    assert await gateway.ask("lamp", b"\xa0key") == b"\xa1\xa0key"
    assert connected.heard == [b"\xa0key"]
    assert gateway.got == [(Peer("lamp", "pne"), b"\xa0first")]


@pytest.mark.parametrize("length", [5, 1024, 1025, notes_board.SIZE])
async def test_a_further_resource_travels_in_blocks_to_and_from_a_board(connected, gateway, length):
    """One file and one line of a table at each end: `notes_resource` and `notes_board`."""
    gateway.resources["pne"][notes_resource.PATH] = notes_resource.NOTES
    agent = connected.agent
    agent.requests.resources[notes_board.PATH] = notes_board.NOTES
    body = (b"milk, eggs; " * (length // 12 + 1))[:length]
    assert await gateway.endpoint.request("lamp", body, resource=notes_resource.PATH) == body.upper()
    asking = lambda: blocks.ask(agent.session, notes_board.OPTIONS, body, notes_board.SIZE)  # noqa: E731
    assert await agent.perform(asking) == body.upper()
    small = lambda: blocks.ask(agent.session, notes_board.OPTIONS, body[:300], 300, 2)  # noqa: E731
    assert await agent.perform(small) == body[:300].upper()
    assert await gateway.ask("lamp", b"\xa0key") == b"\xa1\xa0key"


@pytest.mark.req("CPNS-GKM-50", "SEC-22")
async def test_the_session_survives_a_restart_of_the_gateway(connected, gateway):
    await gateway.restart()
    assert await gateway.ask("lamp", b"\xa0key") == b"\xa1\xa0key"
    assert await connected.ask(b"\xa0after") == b"\xa1\xa0after"
    assert gateway.counters["requests_echo_challenged"] == 1
    assert gateway.counters["handshakes_done"] == 1


@pytest.mark.req("CPNS-GKM-50", "SEC-22")
async def test_the_session_survives_a_restart_of_the_board(connected, gateway):
    """The board's window is unknown then: it challenges our first request with Echo, and we meet that."""
    await connected.stop()
    connected.start(gateway.address)
    assert await connected.ask(b"\xa0again") == b"\xa1\xa0again"
    assert await gateway.ask("lamp", b"\xa0key") == b"\xa1\xa0key"
    assert connected.heard == [b"\xa0key"]
    assert gateway.counters["handshakes_done"] == 1


async def test_the_board_is_found_where_its_last_verified_request_came_from(connected, gateway):
    await connected.stop()
    with pytest.raises(PeerUnreachable):
        await gateway.ask("lamp", b"\xa0key", timeout_s=0.2)
    connected.start(gateway.address, host="127.0.4.2")
    await connected.ask(b"\xa0moved")
    assert await gateway.ask("lamp", b"\xa0key") == b"\xa1\xa0key"


@pytest.mark.req("SEC-21")
async def test_a_board_meets_the_echo_challenge_of_a_crowded_gateway(board, gateway, signing, monkeypatch):
    monkeypatch.setattr(type(gateway.endpoint._reception._half_open), "crowded", property(lambda self: True))
    board.provision(gateway, signing)
    gateway.knows(board)
    board.start(gateway.address)
    assert await board.ask(b"\xa0in") == b"\xa1\xa0in"
    assert gateway.counters["handshakes_challenged"] == 1


async def test_what_the_board_replays_to_us_and_we_to_it_is_dropped(board, gateway, signing):
    wire = await Wire.open(gateway.place)
    board.provision(gateway, signing)
    gateway.knows(board)
    board.start(wire.address)
    await board.ask(b"\xa0once")
    wire.repeat_to_server(renumbered(wire.to_server[-1]))
    await until(lambda: gateway.counters["requests_replayed"] == 1)
    await gateway.ask("lamp", b"\xa0key")
    request = next(data for data in wire.to_client[::-1] if data[1] == 2)
    wire.say_to_client(renumbered(request))
    await asyncio.sleep(0.3)
    assert board.heard == [b"\xa0key"]
    assert len(gateway.got) == 1
    await wire.close()


async def test_a_long_message_fits_one_datagram_to_a_board_and_back(connected, gateway):
    message = b"\xa0" + bytes(1200)
    assert await gateway.ask("lamp", message) == b"\xa1" + message
    assert await connected.ask(message) == b"\xa1" + message


# Pairing


class Window:
    """The gateway's side of docs/protocol.md section 9, as small as it can be."""

    def __init__(self, gateway, signing, secret=SECRET):
        self.gateway = gateway
        self.signing = signing
        self.secret = secret
        self.offered = []
        self.seen = []

    def accept(self, credential):
        self.offered.append(credential)
        return True

    async def handle(self, peer, payload):
        self.seen.append(peer)
        binding = self.gateway.endpoint.export(peer, 32768, 32)
        _, fields = messages.decode(payload)
        answer = {messages.RESULT: numbers.RESULT_SUCCESS}
        if messages.AUTHENTICATOR not in fields:
            answer[messages.AUTHENTICATOR] = hmac.digest(self.secret, b"gateway" + binding, "sha256")
            answer[messages.GATEWAY_ID] = self.gateway.entity_id
            answer[messages.SIGNING_KEY] = self.signing.public_key
            answer[messages.SIGNING_EPOCH] = 1
        else:
            assert fields[messages.AUTHENTICATOR] == hmac.digest(self.secret, b"pne" + binding, "sha256")
            self.gateway.store.register(self.gateway.endpoint.credential(peer))
            await self.gateway.endpoint.admit(peer)
            self.gateway.endpoint.close_pairing()
        return messages.encode(numbers.PAIRING_RESPONSE, answer)


@pytest.mark.req("SEC-20")
async def test_a_board_that_nobody_knows_pairs_and_its_session_goes_on(board, gateway, signing):
    window = Window(gateway, signing)
    board.provision()
    board.start(gateway.address)
    gateway.endpoint.open_pairing(window.accept, {PATH: board_resource(window.handle)})
    await board.agent.pair(SECRET)
    assert window.offered == [board.credential]
    assert window.seen == [Peer("lamp", "pne", provisional=True)] * 2
    assert gateway.store.credential("lamp") == board.credential
    assert await board.ask(b"\xa0paired") == b"\xa1\xa0paired"
    assert await gateway.ask("lamp", b"\xa0key") == b"\xa1\xa0key"
    assert gateway.got == [(Peer("lamp", "pne"), b"\xa0paired")]
    await gateway.restart()
    assert await board.ask(b"\xa0kept") == b"\xa1\xa0kept"
    assert gateway.counters["handshakes_done"] == 1


@pytest.mark.req("SEC-20")
async def test_outside_the_window_a_credential_by_value_is_refused(board, gateway, signing, monkeypatch):
    monkeypatch.setattr(pairing.tuning, "PAIRING_WINDOW", 300)
    monkeypatch.setattr(pairing.tuning, "PAIRING_PAUSE", 100)
    window = Window(gateway, signing)
    gateway.endpoint.open_pairing(window.accept, {PATH: board_resource(window.handle)})
    gateway.endpoint.close_pairing()
    board.provision()
    board.start(gateway.address)
    with pytest.raises(pairing.NoSession):
        await board.agent.pair(SECRET)
    assert window.seen == [] and window.offered == []
    assert gateway.endpoint.entities() == set()


@pytest.mark.req("SEC-20")
async def test_a_provisional_peer_reaches_the_pairing_handler_only_and_leaves_no_trace(board, gateway, signing):
    """It has the wrong secret; its session ends with the window, nothing of it is on disk."""
    window = Window(gateway, signing, secret=bytes(10))
    board.provision()
    board.start(gateway.address)
    gateway.endpoint.open_pairing(window.accept, {PATH: board_resource(window.handle)})
    await _some_tries(board, window)
    assert {peer.provisional for peer in window.seen} == {True}
    assert gateway.got == []
    assert not gateway.endpoint.has_session("lamp")
    assert gateway.store.contexts() == [] and gateway.store.registered() == []
    gateway.endpoint.close_pairing()
    assert gateway.endpoint._sessions._by_recipient_id == {}


@pytest.mark.req("SEC-16", "SEC-20")
async def test_another_key_under_a_registered_name_is_a_stranger_also_while_pairing(board, gateway, signing):
    """The name alone does not make it the board that is registered: without the secret it gets nowhere."""
    window = Window(gateway, signing, secret=bytes(10))
    board.provision()
    registered = OwnIdentity("lamp", "pne", ec.generate_private_key(ec.SECP256R1())).credential
    gateway.store.register(registered)
    board.start(gateway.address)
    gateway.endpoint.open_pairing(window.accept, {PATH: board_resource(window.handle)})
    await _some_tries(board, window)
    assert {credential.x for credential in window.offered} == {board.credential.x}
    assert {peer.provisional for peer in window.seen} == {True}
    assert gateway.got == [] and not gateway.endpoint.has_session("lamp")
    assert gateway.store.credential("lamp") == registered


async def _some_tries(board, window):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairing.tuning, "PAIRING_PAUSE", 10)
        trying = asyncio.create_task(board.agent.pair(SECRET))
        await until(lambda: len(window.seen) > 1)
        trying.cancel()
        await asyncio.gather(trying, return_exceptions=True)


@pytest.mark.req("SEC-20")
async def test_a_registered_board_gets_in_while_another_one_pairs(connected, gateway, signing):
    """The gateway then sends its credential by value; it is the pinned one octet for octet."""
    window = Window(gateway, signing)
    gateway.endpoint.open_pairing(window.accept, {PATH: board_resource(window.handle)})
    await gateway.endpoint.drop("lamp")
    await connected.stop()
    storage = FileStorage(connected.folder)
    KeyStore(storage).erase(session.RECORD)
    storage.close()
    connected.start(gateway.address)
    assert await connected.ask(b"\xa0new") == b"\xa1\xa0new"
    assert window.offered == []
    assert gateway.counters["handshakes_done"] == 2
