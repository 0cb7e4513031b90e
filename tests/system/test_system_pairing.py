"""Pairing a board that runs MicroPython: with the gateway that was told its secret, with nobody else (SEC-20)."""

import asyncio
import contextlib
import secrets
import socket

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cpns import messages, numbers
from cpns.errors import NotAllowed
from device_agent import provisioning
from device_agent.coap import message as coap
from device_agent.key_store import KeyStore
from device_agent.session import Session
from gateway_agent.app import GatewayApp
from gateway_agent.config.schema import Broadcast, Gateway, GatewayConfig, MessagePlane
from message_plane.credentials import ccs_of
from message_plane.endpoint import Endpoint
from message_plane.identity import OwnIdentity
from message_plane.session_store import SessionStore
from tests.system.conftest import house_of
from tests.system.keycast_process import free_port
from tests.system.watching import keyed
from tools.keycast.demo.house import GATEWAY_ID, PN_ID
from tools.keycast.steering import secret_octets
from tools.virtual_board.board import Board, BoardError, Network
from tools.virtual_board.fleet import free_numbers

SG = "home/lights"
ECHO = 252


def unpaired(pne_id, address):
    """The record of a board that knows no gateway yet; `address` is where it looks first."""
    key = ec.generate_private_key(ec.SECP256R1())
    x = key.public_key().public_numbers().x.to_bytes(32, "big")
    private = key.private_numbers().private_value.to_bytes(32, "big")
    return provisioning.Provisioning(pne_id, private, ccs_of(pne_id, x), address=address)


@contextlib.asynccontextmanager
async def new_board(folder, address):
    """A board without gateway, switched on."""
    number = free_numbers(1)
    board = Board.create(folder, number, unpaired("lamp.new", address).pack(), Network.loopback(number))
    await board.start()
    try:
        yield board
    finally:
        await board.stop()


async def secret_of(board):
    """The secret that the board shows after its last `pair` command."""
    return (await board.event("pairing", timeout_s=60))["secret"]


def record_of(board):
    return provisioning.parse(KeyStore(board.nvs).load(provisioning.RECORD))


def address_of(app):
    host, port = app.endpoint.addresses[0]
    return f"{host}:{port}"


@pytest.mark.req("SEC-20", "CPNS-GKM-23")
async def test_a_paired_board_joins_and_gets_keys_like_any_other(tmp_path):
    async with house_of(tmp_path, 2) as house, new_board(tmp_path / "new", address_of(house.app)) as board:
        pairing = asyncio.create_task(board.command("pair", timeout_s=60))
        secret = await secret_of(board)
        assert len(secret) == 16
        assert await house.app.pair(secret_octets(secret)) == "lamp.new"
        await pairing
        assert record_of(board).gateway_id == GATEWAY_ID and record_of(board).pn_id == PN_ID
        house.boards["lamp.new"] = board
        house.server.create_group(SG, open_to=[PN_ID])
        await asyncio.gather(*(each.command("join", group=SG, timeout_s=60) for each in house.boards.values()))
        version = await keyed(house, SG, list(house.boards))
        await board.restart()
        assert (await board.command("status"))["groups"] == {SG: version}
        house.server.update_key(SG)
        await keyed(house, SG, list(house.boards), above=version)


@pytest.mark.req("SEC-20")
async def test_an_impostor_gateway_without_the_secret_is_refused_three_times(tmp_path):
    """It is a whole gateway, under the name of the true one; only the secret it was told is not the board's."""
    config = GatewayConfig(
        gateway=Gateway(id=GATEWAY_ID, pn=PN_ID, state_dir=tmp_path / "impostor"),
        message_plane=MessagePlane(listen=["127.0.0.1"], port=free_port(), discovery=False),
        broadcast=Broadcast(interfaces=[]),
    )
    impostor = await GatewayApp.open(config, _NoServer())
    await impostor.start()
    pairing = asyncio.create_task(impostor.pair(secrets.token_bytes(10)))
    try:
        async with new_board(tmp_path / "new", address_of(impostor)) as board:
            with pytest.raises(BoardError, match="WrongProof"):
                await board.command("pair", timeout_s=60)
            assert not record_of(board).paired
        assert not pairing.done() and not impostor.credentials.registered()
    finally:
        pairing.cancel()
        await asyncio.gather(pairing, return_exceptions=True)
        await impostor.close()


class _NoServer:
    async def request(self, message):
        raise NotAllowed("there is no CPNS Server here")


def drive(flow, address):
    """Run a flow of the board's stack over a plain UDP socket (no loss here, so no retransmission)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(30)
        mid, value = secrets.randbits(16), None
        while True:
            try:
                wanted = flow.send(value)
            except StopIteration as end:
                return end.value
            value = None
            if not isinstance(wanted, tuple):
                continue
            _, code, options, payload, _ = wanted
            for _ in (0, 1):
                mid = mid + 1 & 0xFFFF
                request = coap.Message(coap.CON, code, mid, secrets.token_bytes(4), options, payload)
                sock.sendto(request.encode(), address)
                value = coap.decode(sock.recv(2048))
                echo = coap.option(value.options, ECHO)
                if echo is None:
                    break
                options = [*options, (ECHO, echo)]


class FalseBoard:
    """Speaks to a gateway as a board that wants to be paired, and says what it likes."""

    def __init__(self, gateway, pne_id):
        self._gateway = gateway
        self.identity = unpaired(pne_id, "")
        self._session = Session(KeyStore(_Memory()), self.identity, secrets.token_bytes)

    async def shake_hands(self):
        flow = self._session.handshake(0, self._gateway, pairing=True)
        _, self._held = await asyncio.to_thread(drive, flow, self._gateway)

    async def ask(self, authenticator=None):
        """One PairingRequest, with or without this proof; the fields of the answer."""
        fields = {messages.PNE_ID: self.identity.pne_id}
        if authenticator is not None:
            fields[messages.AUTHENTICATOR] = authenticator
        flow = self._session.ask(messages.encode(numbers.PAIRING_REQUEST, fields), self._held, self._gateway)
        return messages.decode(await asyncio.to_thread(drive, flow, self._gateway))[1]


class _Memory:
    def __init__(self):
        self._entries = {}
        self.get, self.set = self._entries.get, self._entries.__setitem__

    def delete(self, name):
        self._entries.pop(name, None)

    def commit(self):
        """Nothing to do."""


@pytest.mark.req("SEC-20")
async def test_an_impostor_board_has_three_tries_and_then_the_window_is_closed_for_everybody(tmp_path):
    async with house_of(tmp_path, 1) as house:
        secret = secrets.token_bytes(10)
        pairing = asyncio.create_task(house.app.pair(secret))
        await asyncio.sleep(0)
        impostor = FalseBoard(house.app.endpoint.addresses[0], "lamp.new")
        await impostor.shake_hands()
        assert (await impostor.ask())[messages.RESULT] == numbers.RESULT_SUCCESS
        for _ in range(3):
            answer = await impostor.ask(secrets.token_bytes(32))
            assert answer[messages.ERROR] == numbers.ERROR_NOT_AUTHENTIC
        with pytest.raises(NotAllowed, match="closed"):
            await pairing
        assert "lamp.new" not in [credential.entity_id for credential in house.app.credentials.registered()]


@pytest.mark.req("SEC-20")
async def test_a_relay_between_board_and_gateway_pairs_neither(tmp_path):
    """It has a session with each, and hands the proof of the one to the other."""
    async with house_of(tmp_path, 1) as house:
        identity = OwnIdentity.create(tmp_path / "relay.key", GATEWAY_ID, "gateway")
        sessions = SessionStore(tmp_path / "relay.db")
        towards_gateway = FalseBoard(house.app.endpoint.addresses[0], "lamp.new")
        proofs = []

        async def relay(peer, message):
            _, fields = messages.decode(message)
            if messages.AUTHENTICATOR in fields:
                proofs.append(fields[messages.AUTHENTICATOR])
                answer = await towards_gateway.ask(fields[messages.AUTHENTICATOR])
            else:
                await towards_gateway.shake_hands()
                answer = await towards_gateway.ask()
            return messages.encode(numbers.PAIRING_RESPONSE, answer)

        endpoint = await Endpoint.open(identity=identity, store=sessions, handler=relay, bind=[("127.0.0.1", 0)])
        endpoint.open_pairing(lambda credential: True, relay)
        host, port = endpoint.addresses[0]
        try:
            async with new_board(tmp_path / "new", f"{host}:{port}") as board:
                command = asyncio.create_task(board.command("pair", timeout_s=60))
                pairing = asyncio.create_task(house.app.pair(secret_octets(await secret_of(board))))
                with pytest.raises(BoardError, match="WrongProof"):
                    await command
                assert not record_of(board).paired and proofs == []  # the board proved nothing to the relay
                assert not pairing.done()
                pairing.cancel()
                await asyncio.gather(pairing, return_exceptions=True)
        finally:
            await endpoint.close()
            sessions.close()
