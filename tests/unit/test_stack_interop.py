"""The board's stack against the libraries of the Linux world: cryptography, lakers, aiocoap."""

import asyncio
import hashlib
import secrets

import aiocoap
import aiocoap.credentials
import aiocoap.oscore
import aiocoap.oscore_sitewrapper
import aiocoap.resource
import lakers
import pytest
from aiocoap.message import Direction
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from cpns.cborlite import encode
from cpns.crypto import hkdf
from cpns.errors import CpnsError, MalformedMessage, NotAuthentic, Stale, Unknown
from device_agent import edhoc, oscore
from device_agent.coap import endpoint
from device_agent.coap import message as coap
from device_agent.coap.endpoint import Endpoint
from device_agent.cose import Credential, verify_sign1
from device_agent.crypto import p256
from keycast.virtual_board.loopback import own_port

# --- P-256 ---


def raw(public: ec.EllipticCurvePublicKey) -> bytes:
    numbers = public.public_numbers()
    return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")


def signature_of(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    r, s = utils.decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


@pytest.mark.parametrize("attempt", range(10))
def test_keys_and_shared_secrets_equal_those_of_cryptography(attempt):
    private = p256.private_key(secrets.token_bytes)
    ours = ec.derive_private_key(int.from_bytes(private, "big"), ec.SECP256R1())
    theirs = ec.generate_private_key(ec.SECP256R1())
    assert p256.run(p256.public_key(private)) == raw(ours.public_key())
    table = p256.run(p256.table(raw(theirs.public_key())[:32]))
    assert p256.run(p256.ecdh(private, table)) == ours.exchange(ec.ECDH(), theirs.public_key())


@pytest.mark.parametrize("attempt", range(5))
def test_signatures_of_cryptography_are_verified(attempt):
    signer = ec.generate_private_key(ec.SECP256R1())
    key = p256.VerifyingKey(raw(signer.public_key()))
    for _ in range(3):
        message = secrets.token_bytes(100)
        p256.run(key.verify(hashlib.sha256(message).digest(), signature_of(signer, message)))
        with pytest.raises(NotAuthentic):
            p256.run(key.verify(hashlib.sha256(message + b"!").digest(), signature_of(signer, message)))


def test_a_cose_sign1_of_cryptography_is_verified():
    signer = ec.generate_private_key(ec.SECP256R1())
    key = p256.VerifyingKey(raw(signer.public_key()))
    aad, payload = encode(["keycast/gk/1", "pn", "sg"]), secrets.token_bytes(300)
    signature = signature_of(signer, encode(["Signature1", b"\xa1\x01\x26", aad, payload]))
    p256.run(verify_sign1(key, aad, payload, signature))
    with pytest.raises(NotAuthentic):
        p256.run(verify_sign1(key, encode(["keycast/gk/1", "pn", "other"]), payload, signature))


# --- EDHOC against lakers ---


class Party:
    """An entity with its key and credential."""

    def __init__(self, entity_id: str):
        self.private = p256.private_key(secrets.token_bytes)
        self.credential = Credential.of(entity_id, p256.run(p256.public_key(self.private))[:32])


@pytest.fixture(scope="module")
def board():
    return Party("kitchen lamp")


@pytest.fixture(scope="module")
def gateway():
    return Party("gw.home")


def handshake(board, gateway, pinned, by_value, c_i=b"\x01\x02", c_r=b"\x0a\x0b\x0c", change=None):
    """Run one handshake with lakers as responder -> (initiator, responder's PRK_out)."""
    initiator = edhoc.Initiator(
        board.credential, board.private, p256.private_key(secrets.token_bytes), c_i, pinned, by_value
    )
    responder = lakers.EdhocResponder(gateway.private, gateway.credential.ccs)
    got_c_i, _ = responder.process_message_1(p256.run(initiator.message_1()))
    assert got_c_i == c_i
    transfer = lakers.CredentialTransfer.ByValue if by_value else lakers.CredentialTransfer.ByReference
    message_2 = responder.prepare_message_2(transfer, c_r)
    message_3 = p256.run(initiator.message_3(change(message_2) if change else message_2))
    id_cred, _ = responder.parse_message_3(message_3)
    expected = encode({4: board.credential.kid})
    assert id_cred == (b"\xa1\x0e" + board.credential.ccs if by_value else expected)
    prk_out = responder.verify_message_3(board.credential.ccs)
    initiator.finish(responder.prepare_message_4())
    return initiator, responder, prk_out


@pytest.mark.req("CPNS-GKM-50")
@pytest.mark.parametrize("by_value", [False, True])
@pytest.mark.parametrize(
    ("c_i", "c_r"), [(b"\x01\x02", b"\x0a\x0b\x0c"), (b"\x05", b"\x20"), (b"\x00\x00", b"\xff" * 7)]
)
def test_edhoc_with_lakers(board, gateway, by_value, c_i, c_r):
    pinned = None if by_value else gateway.credential
    initiator, responder, prk_out = handshake(board, gateway, pinned, by_value, c_i, c_r)
    assert initiator.peer.ccs == gateway.credential.ccs and initiator.peer.entity_id == "gw.home"
    assert initiator.oscore() == (
        responder.edhoc_exporter(0, b"", 16),
        responder.edhoc_exporter(1, b"", 8),
        c_r,
        c_i,
    )
    exporter = hkdf.expand(prk_out, encode(10) + encode(b"") + encode(32), 32)  # lakers knows labels below 256 only
    info = encode(32768) + encode(b"") + encode(32)
    assert initiator.export(32768, b"", 32) == hkdf.expand(exporter, info, 32)


@pytest.mark.parametrize("by_value", [False, True])
def test_edhoc_with_lakers_and_the_longest_names(by_value):
    board, gateway = Party("b" * 48), Party("g" * 48)
    initiator, _, _ = handshake(board, gateway, None if by_value else gateway.credential, by_value)
    assert initiator.peer.entity_id == "g" * 48


@pytest.mark.req("SEC-16")
def test_a_pinned_gateway_by_value_is_accepted_and_another_refused(board, gateway):
    handshake(board, gateway, gateway.credential, True)
    with pytest.raises(Unknown):
        handshake(board, gateway, Party("gw.home").credential, True)


@pytest.mark.req("SEC-16")
def test_another_key_under_the_pinned_kid_is_refused(board, gateway):
    impostor = Party("gw.home")
    pinned = Credential(gateway.credential.ccs, "gw.home", impostor.credential.kid, gateway.credential.x)
    with pytest.raises(NotAuthentic):
        handshake(board, impostor, pinned, False)


@pytest.mark.req("SEC-16")
def test_the_same_key_under_another_name_is_refused(board, gateway):
    renamed = Party("gw.away")
    renamed.private = gateway.private
    renamed.credential = Credential.of("gw.away", gateway.credential.x)
    with pytest.raises(NotAuthentic):
        handshake(board, renamed, gateway.credential, False)


def test_our_own_credential_is_no_peer(board):
    with pytest.raises(MalformedMessage):
        handshake(board, board, board.credential, False)


def test_equal_connection_identifiers_are_refused(board, gateway):
    with pytest.raises(MalformedMessage):
        handshake(board, gateway, gateway.credential, False, c_i=b"\x01\x02", c_r=b"\x01\x02")


@pytest.mark.req("SEC-21")
@pytest.mark.parametrize("at", [1, 5, 33, 34, 37, 45, -1])
def test_any_changed_octet_of_message_2_ends_the_handshake(board, gateway, at):
    def change(message_2):
        octets = bytearray(message_2)
        octets[at] ^= 0x10
        return bytes(octets)

    with pytest.raises(CpnsError):
        handshake(board, gateway, gateway.credential, False, change=change)


# --- OSCORE against aiocoap ---


class Theirs(aiocoap.oscore.CanProtect, aiocoap.oscore.CanUnprotect, aiocoap.oscore.SecurityContextUtils):
    """An OSCORE context of aiocoap that lives in memory."""

    def __init__(self, secret, salt, sender_id, recipient_id, echo=None):
        self.alg_aead = aiocoap.oscore.algorithms["AES-CCM-16-64-128"]
        self.hashfun = aiocoap.oscore.hashfunctions["sha256"]
        self.id_context = None
        self.sender_id = sender_id
        self.recipient_id = recipient_id
        self.sender_sequence_number = 0
        self.recipient_replay_window = aiocoap.oscore.ReplayWindow(32, lambda: None)
        self.echo_recovery = echo
        if echo is None:
            self.recipient_replay_window.initialize_empty()
        self.derive_keys(salt, secret)

    def post_seqnoincrease(self):
        pass

    def get_oscore_context_for(self, unprotected):
        return self if unprotected.get(aiocoap.oscore.COSE_KID) == self.recipient_id else None

    authenticated_claims = ("test",)


SECRET, SALT = bytes(range(16)), bytes(8)


def contexts(**ours):
    """-> (the board's context, the gateway's of aiocoap), new keys."""
    ours.setdefault("fresh", True)
    return (
        oscore.Context(SECRET, SALT, b"\x0a\x0b\x0c", b"\x01\x02", 0, lambda ceiling: None, **ours),
        Theirs(SECRET, SALT, b"\x01\x02", b"\x0a\x0b\x0c"),
    )


def to_aiocoap(code, options, payload):
    message = aiocoap.Message.decode(coap.Message(coap.CON, code, 1, b"t", options, payload).encode())
    message.direction = Direction.INCOMING
    return message


def from_aiocoap(message):
    message.mtype, message.mid, message.token = aiocoap.CON, 1, b"t"
    return coap.decode(message.encode())


def test_our_requests_are_understood_by_aiocoap_and_its_answers_by_us():
    ours, theirs = contexts()
    for payload in (b"", b"x", secrets.token_bytes(1000)):
        options = [(11, b"cpns"), (12, b"\x3c")]
        code, outer, octets, request = ours.protect_request(2, options, payload)
        plain, request_id = theirs.unprotect(to_aiocoap(code, outer, octets))
        assert (plain.code, plain.opt.uri_path, plain.payload) == (aiocoap.POST, ("cpns",), payload)
        assert plain.opt.content_format == 60
        answer, _ = theirs.protect(
            aiocoap.Message(code=aiocoap.CHANGED, payload=payload, content_format=60), request_id
        )
        answer = from_aiocoap(answer)
        assert ours.unprotect_response(request, answer.options, answer.payload) == (0x44, [(12, b"\x3c")], payload)


def test_an_answer_of_aiocoap_with_its_own_number_is_understood():
    ours, theirs = contexts()
    code, outer, octets, request = ours.protect_request(2, [], b"")
    _, request_id = theirs.unprotect(to_aiocoap(code, outer, octets))
    request_id.can_reuse_nonce = False
    answer = from_aiocoap(theirs.protect(aiocoap.Message(code=aiocoap.CHANGED, payload=b"own"), request_id)[0])
    assert coap.option(answer.options, 9) == b"\x01\x00"
    assert ours.unprotect_response(request, answer.options, answer.payload) == (0x44, [], b"own")


def test_requests_of_aiocoap_are_understood_by_us_and_our_answers_by_it():
    ours, theirs = contexts()
    for payload in (b"", secrets.token_bytes(1000)):
        message = aiocoap.Message(code=aiocoap.POST, uri_path=["cpns"], content_format=60, payload=payload)
        outer, request_id = theirs.protect(message)
        outer = from_aiocoap(outer)
        assert oscore.kid_of(outer.options) == b"\x01\x02"
        code, options, octets, request = ours.unprotect_request(outer.options, outer.payload)
        assert (code, options, octets) == (2, [(11, b"cpns"), (12, b"\x3c")], payload)
        answer = to_aiocoap(*ours.protect_response(request, 0x44, [(12, b"\x3c")], payload))
        plain, _ = theirs.unprotect(answer, request_id)
        assert (plain.code, plain.payload) == (aiocoap.CHANGED, payload)
        with pytest.raises(Stale):
            ours.unprotect_request(outer.options, outer.payload)


@pytest.mark.req("SEC-22")
def test_aiocoap_answers_our_challenge_after_a_reboot():
    ours, theirs = contexts(fresh=False, echo=b"eightoct")
    outer, request_id = theirs.protect(aiocoap.Message(code=aiocoap.POST, uri_path=["cpns"]))
    outer = from_aiocoap(outer)
    with pytest.raises(oscore.WindowLost) as caught:
        ours.unprotect_request(outer.options, outer.payload)
    challenge, _ = theirs.unprotect(to_aiocoap(*ours.challenge(caught.value.request)), request_id)
    assert challenge.code == aiocoap.UNAUTHORIZED
    message = aiocoap.Message(code=aiocoap.POST, uri_path=["cpns"], echo=challenge.opt.echo)
    outer = from_aiocoap(theirs.protect(message)[0])
    assert ours.unprotect_request(outer.options, outer.payload)[0] == 2


# --- the whole client side against a real aiocoap server ---


class Wire(asyncio.DatagramProtocol):
    """Drives an Endpoint over a loopback socket; may lose the first datagrams that are sent."""

    def __init__(self, lose=0):
        self.endpoint = Endpoint(secrets.token_bytes)
        self.lose = lose
        self.sent = 0
        self.results = {}

    @classmethod
    async def open(cls, server, lose=0):
        loop = asyncio.get_running_loop()
        _, wire = await loop.create_datagram_endpoint(lambda: cls(lose), remote_addr=server)
        return wire

    def connection_made(self, transport):
        self.transport = transport

    def now(self):
        return int(asyncio.get_running_loop().time() * 1000)

    def datagram_received(self, data, address):
        self.perform(self.endpoint.datagram("server", data, self.now()))

    def perform(self, actions):
        for action in actions:
            if action[0] == "send":
                self.sent += 1
                if self.sent > self.lose:
                    self.transport.sendto(action[2])
            else:
                self.results[action[1]].set_result(action)

    async def ask(self, code, options, payload, **more):
        token, actions = self.endpoint.request("server", code, options, payload, self.now(), **more)
        self.results[token] = asyncio.get_running_loop().create_future()
        self.perform(actions)
        while not self.results[token].done():
            wake = self.endpoint.next_wake()
            pause = 1 if wake is None else max(wake - self.now(), 0) / 1000
            await asyncio.wait([self.results[token]], timeout=pause)
            self.perform(self.endpoint.tick(self.now()))
        return self.results.pop(token).result()


class Cpns(aiocoap.resource.Resource):
    """Answers with the payload reversed, after `delay` seconds."""

    delay = 0.0

    async def render_post(self, request):
        await asyncio.sleep(self.delay)
        return aiocoap.Message(code=aiocoap.CHANGED, payload=request.payload[::-1], content_format=60)


@pytest.fixture
async def server():
    """-> (address, credentials, the /cpns resource) of an aiocoap server on loopback."""
    resource = Cpns()
    site = aiocoap.resource.Site()
    site.add_resource(["cpns"], resource)
    credentials = aiocoap.credentials.CredentialsMap()
    wrapped = aiocoap.oscore_sitewrapper.OscoreSiteWrapper(site, credentials)
    address = ("127.0.0.1", own_port())
    context = await aiocoap.Context.create_server_context(wrapped, bind=address, transports=["simplesocketserver"])
    yield address, credentials, resource
    await context.shutdown()


CPNS = [(11, b"cpns"), (12, b"\x3c")]


async def exchange(wire, ours, payload, options=CPNS):
    """One OSCORE request over the wire -> (code, options, payload) of its answer."""
    code, outer, octets, request = ours.protect_request(2, options, payload)
    kind, _, message, _ = await wire.ask(code, outer, octets)
    assert kind == "response" and message.code == 0x44
    return ours.unprotect_response(request, message.options, message.payload)


async def test_oscore_requests_over_udp(server):
    address, credentials, _ = server
    ours, credentials[":board"] = contexts()
    wire = await Wire.open(address)
    for i in range(5):
        payload = b"message %d" % i
        assert await exchange(wire, ours, payload) == (0x44, [(12, b"\x3c")], payload[::-1])
    wire.transport.close()


async def test_a_lost_datagram_is_sent_again(server, monkeypatch):
    monkeypatch.setattr(endpoint, "ACK_TIMEOUT", 50)
    monkeypatch.setattr(endpoint, "ACK_SPREAD", 0)
    address, credentials, _ = server
    ours, credentials[":board"] = contexts()
    wire = await Wire.open(address, lose=2)
    assert (await exchange(wire, ours, b"lost"))[2] == b"tsol"
    assert wire.sent == 3
    wire.transport.close()


async def test_a_slow_server_answers_separately(server):
    address, credentials, resource = server
    resource.delay = 0.5  # aiocoap acknowledges after 0.1 s
    ours, credentials[":board"] = contexts()
    wire = await Wire.open(address)
    assert (await exchange(wire, ours, b"slow"))[2] == b"wols"
    assert wire.sent == 2  # the request, and our ACK of the answer
    wire.transport.close()


@pytest.mark.req("SEC-22")
async def test_a_server_that_lost_its_window_asks_for_echo(server):
    address, credentials, _ = server
    ours, _ = contexts()
    credentials[":board"] = Theirs(SECRET, SALT, b"\x01\x02", b"\x0a\x0b\x0c", echo=b"anything")
    wire = await Wire.open(address)
    code, outer, octets, request = ours.protect_request(2, CPNS, b"first")
    message = (await wire.ask(code, outer, octets))[2]
    code, options, _ = ours.unprotect_response(request, message.options, message.payload)
    assert code == 0x81
    again = [*CPNS, (252, coap.option(options, 252))]
    assert (await exchange(wire, ours, b"again", again))[2] == b"niaga"
    wire.transport.close()


async def test_a_request_without_a_session_is_refused_unprotected(server):
    address, _, _ = server
    ours, _ = contexts()
    wire = await Wire.open(address)
    code, outer, octets, request = ours.protect_request(2, CPNS, b"who are you")
    message = (await wire.ask(code, outer, octets))[2]
    assert message.code == 0x81
    with pytest.raises(NotAuthentic):
        ours.unprotect_response(request, message.options, message.payload)
    wire.transport.close()


async def test_requests_of_an_aiocoap_client_are_answered_by_our_endpoint():
    class Board(asyncio.DatagramProtocol):
        def connection_made(self, transport):
            self.transport = transport
            self.endpoint = Endpoint(secrets.token_bytes)

        def datagram_received(self, data, address):
            for action in self.endpoint.datagram(address, data, 0):
                if action[0] == "request":
                    _, known, message, _ = action
                    assert coap.path(message.options) == "cpns"
                    (action,) = self.endpoint.reply(known, 0x44, [(12, b"\x3c")], message.payload[::-1], 0)
                self.transport.sendto(action[2], action[1])

    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Board, local_addr=("127.0.0.1", 0))
    client = await aiocoap.Context.create_client_context(transports=["simple6"])
    port = transport.get_extra_info("sockname")[1]
    for payload in (b"abc", bytes(range(256)) * 3):
        request = aiocoap.Message(code=aiocoap.POST, uri=f"coap://127.0.0.1:{port}/cpns", payload=payload)
        answer = await client.request(request).response
        assert (answer.code, answer.payload, answer.opt.content_format) == (aiocoap.CHANGED, payload[::-1], 60)
    await client.shutdown()
    transport.close()
