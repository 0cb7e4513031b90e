"""Pairing a board that runs MicroPython: only with the gateway that was told its secret (SEC-20)."""

import asyncio
import contextlib
import secrets

import pytest

from cpns import messages, numbers
from cpns.errors import NotAllowed
from device_agent import discovery, provisioning, unpaired
from device_agent.key_store import KeyStore
from gateway_agent import pairing_secret
from gateway_agent.app import GatewayApp
from gateway_agent.config.schema import GatewayConfig, GatewaySection, MessagePlaneSection
from gateway_agent.radios.broadcast_section import BroadcastSection
from keycast.demo.house import GATEWAY_ID, PN_ID
from keycast.virtual_board.board import Network, VirtualBoard
from keycast.virtual_board.loopback import free_numbers, own_port
from message_plane.cpns_resource import GATEWAY_KIND, PATH, board_resource
from message_plane.endpoint import Endpoint
from message_plane.identity import OwnIdentity
from message_plane.links.udp import UdpLink, host_and_port
from message_plane.session_file import SessionFile
from tests.integration import false_board
from tests.integration.false_board import FalseBoard
from tests.system.conftest import house_of
from tests.system.test_board_pairing import switch_on
from tests.system.watching import keyed
from tests.waiting import until

SG = "home/lights"


@contextlib.asynccontextmanager
async def new_board(folder, address=""):
    """A board without gateway, switched on. With `address` it has an identity already, and looks there first."""
    number = free_numbers(1)
    record = false_board.unpaired("lamp.new", address).pack() if address else b""
    board = VirtualBoard.create(folder, number, record, Network.loopback(number))
    await switch_on(board)
    try:
        yield board
    finally:
        await board.stop()


async def secret_of(board, since=0):
    """The secret that the board shows, without an application that asks for it."""
    return (await board.line("keycast: pairing-secret ", since=since)).split()[-1]


def record_of(board):
    return provisioning.parse(KeyStore(board.nvs.snapshot()).load(provisioning.RECORD))


def address_of(app):
    host, port = host_and_port(app.endpoint.places[0])
    return f"{host}:{port}"


@pytest.mark.req("SEC-20", "SEC-31", "CPNS-GKM-23")
async def test_a_new_board_without_an_application_is_named_paired_and_keyed(tmp_path):
    """It has only a Wi-Fi record. Its secret stays over restarts, and is gone when the board is paired."""
    async with house_of(tmp_path, 2) as house, new_board(tmp_path / "new") as board:
        shown = await secret_of(board)
        since = len(board.events)
        await board.kill()
        KeyStore(board.nvs).save(discovery.RECORD, address_of(house.app).encode())  # no discovery here
        await board.start()
        assert await secret_of(board, since) == shown
        name = record_of(board).pne_id
        assert name == f"board-{board.number:06x}"
        await board.line("keycast: pairing ")
        assert await house.app.pair("lamp.new", pairing_secret.octets(shown)) == "lamp.new"
        await board.line("paired: lamp.new ")
        assert record_of(board).pne_id == "lamp.new" and record_of(board).gateway_id == GATEWAY_ID
        assert record_of(board).pn_id == PN_ID and KeyStore(board.nvs).load(unpaired.RECORD) is None
        house.boards["lamp.new"] = board
        house.server.create_group(SG, open_to=[PN_ID])
        await asyncio.gather(*(each.command("join", group=SG, timeout_s=180) for each in house.boards.values()))
        version = await keyed(house, SG, list(house.boards))
        since = len(board.events)
        await board.restart()
        assert (await board.command("status"))["groups"] == {SG: version}
        house.server.update_key(SG)
        await keyed(house, SG, list(house.boards), above=version)
        assert not any("pairing" in str(event) for event in board.events[since:])


@pytest.mark.req("SEC-20")
async def test_an_impostor_gateway_without_the_secret_is_refused(tmp_path):
    """It is a whole gateway, under the name of the true one; only the secret it was told is not the board's."""
    config = GatewayConfig(
        gateway=GatewaySection(id=GATEWAY_ID, pn=PN_ID, state_dir=tmp_path / "impostor"),
        message_plane=MessagePlaneSection(listen=["127.0.0.1"], port=own_port(), discovery=False),
        broadcast=BroadcastSection(interfaces=[]),
    )
    impostor = await GatewayApp.open(config, _NoServer())
    await impostor.start()
    pairing = asyncio.create_task(impostor.pair("lamp.new", secrets.token_bytes(10)))
    try:
        async with new_board(tmp_path / "new", address_of(impostor)) as board:
            await until(lambda: impostor.counters["handshakes_done"] > 1, timeout_s=180)  # it has refused the first
            assert not record_of(board).paired
        assert not pairing.done() and not impostor.credentials.registered()
    finally:
        pairing.cancel()
        await asyncio.gather(pairing, return_exceptions=True)
        await impostor.close()


class _NoServer:
    async def request(self, message):
        raise NotAllowed("there is no CPNS Server here")


@pytest.mark.req("SEC-20")
async def test_a_relay_between_board_and_gateway_pairs_neither(tmp_path):
    """It has a session with each, and hands the proof of the one to the other."""
    async with house_of(tmp_path, 1) as house:
        identity = OwnIdentity.create(tmp_path / "relay.key", GATEWAY_ID, "gateway")
        sessions = SessionFile(tmp_path / "relay.db")
        towards_gateway = FalseBoard(host_and_port(house.app.endpoint.places[0]), "lamp.new")
        asked, proofs = [], []

        async def relay(peer, message):
            _, fields = messages.decode(message)
            asked.append(fields)
            if messages.AUTHENTICATOR in fields:
                proofs.append(fields[messages.AUTHENTICATOR])
                answer = await towards_gateway.ask(fields[messages.AUTHENTICATOR])
            else:
                await towards_gateway.shake_hands()
                answer = await towards_gateway.ask()
            return messages.encode(numbers.PAIRING_RESPONSE, answer)

        endpoint = await Endpoint.open(
            identity=identity,
            store=sessions,
            resources={"pne": {PATH: board_resource(relay, GATEWAY_KIND)}},
            links=[UdpLink([("127.0.0.1", 0)])],
        )
        endpoint.open_pairing(lambda credential: True, {PATH: board_resource(relay)})
        host, port = host_and_port(endpoint.places[0])
        try:
            async with new_board(tmp_path / "new", f"{host}:{port}") as board:
                secret = pairing_secret.octets(await secret_of(board))
                pairing = asyncio.create_task(house.app.pair("lamp.new", secret))
                await until(lambda: len(asked) > 1, timeout_s=180)  # it has refused the first
                assert not record_of(board).paired and proofs == []  # the board proved nothing to the relay
                assert not pairing.done()
                pairing.cancel()
                await asyncio.gather(pairing, return_exceptions=True)
        finally:
            await endpoint.close()
            sessions.close()
