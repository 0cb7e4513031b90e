"""Messages of strangers, impostors and hostile members are counted, cheap, and without effect."""

import asyncio
import logging
import random
import socket

import aiocoap
import pytest
from aiocoap import oscore

from cpns import cborlite
from keycast.free_ports import free_port
from message_plane import edhoc, tuning
from message_plane.edhoc import Initiator
from message_plane.endpoint import Peer
from message_plane.errors import HandshakeFailed, PeerRefused
from message_plane.identity import OwnIdentity
from message_plane.links.udp import place_of
from tests.integration.plane_world import UNCONNECTED, Foreigner, Wire, only_on, parties, renumbered
from tests.waiting import until

GATEWAY_AND_SERVER = (("home-gw", "gateway"), ("cpns-server", "server"))
LAMP_AND_GATEWAY = (("lamp", "pne"), ("home-gw", "gateway"))

pytestmark = pytest.mark.usefixtures("each_link")

UNAUTHORIZED, BAD_REQUEST, BAD_OPTION, CHANGED = 0x81, 0x80, 0x82, 0x44


def coap(code, path, payload=b"", options=(), message_id=1, confirmable=True, token=b"tk"):
    """A datagram of one request. `path`: segments; `options`: further (number, value) pairs."""
    out = bytes([0x40 if confirmable else 0x50, code]) + message_id.to_bytes(2, "big")
    out = bytes([out[0] | len(token)]) + out[1:] + token
    last = 0
    for number, value in sorted([*((11, segment.encode()) for segment in path), *options], key=lambda pair: pair[0]):
        out += _nibbles(number - last, len(value)) + value
        last = number
    return out + (b"\xff" + payload if payload else b"")


def _nibbles(delta, length):
    halves, tail = [], b""
    for value in (delta, length):
        halves.append(min(value, 13))
        tail += bytes([value - 13]) if value >= 13 else b""
    return bytes([halves[0] << 4 | halves[1]]) + tail


def edhoc_request(payload, message_id=1, options=()):
    return coap(2, (".well-known", "edhoc"), payload, [(12, b"\x41"), *options], message_id)


@pytest.mark.req("CPNS-GKM-50")
@pytest.mark.parametrize(
    ("code", "path"),
    [(2, ("cpns",)), (1, ("cpns",)), (2, ()), (4, ("x", "y")), (1, (".well-known", "edhoc")), (3, ("cpns", "more"))],
)
async def test_anything_unprotected_gets_4_01_and_reaches_no_handler(tmp_path, code, path):
    async with parties(tmp_path, *LAMP_AND_GATEWAY) as (_, gateway):
        stranger = await Foreigner.open()
        for confirmable in (True, False):
            answer = await stranger.ask(coap(code, path, b"\xa0", confirmable=confirmable), gateway.place)
            assert answer[1] == UNAUTHORIZED
        await stranger.close()
        assert gateway.got == []
        assert gateway.counters["requests_unprotected"] == 2


@only_on("udp")
@pytest.mark.req("CPNS-GKM-50")
async def test_the_plain_client_of_aiocoap_gets_no_further(tmp_path):
    async with parties(tmp_path, *LAMP_AND_GATEWAY) as (_, gateway):
        host, port = gateway.address
        client = await aiocoap.Context.create_client_context(transports=["simple6"])
        try:
            message = aiocoap.Message(code=aiocoap.POST, uri=f"coap://{host}:{port}/cpns", payload=b"\xa0")
            response = await client.request(message).response
            assert response.code == aiocoap.UNAUTHORIZED
        finally:
            await client.shutdown()
        assert gateway.got == []


async def test_discovery_tells_that_a_gateway_is_here_and_nothing_else(tmp_path):
    async with parties(tmp_path, *LAMP_AND_GATEWAY) as (lamp, gateway):
        stranger = await Foreigner.open()
        ask = coap(1, (".well-known", "core"), options=[(15, b"rt=keycast.gw")], confirmable=False)
        answer = await stranger.ask(ask, gateway.place)
        assert answer[1] == 0x45 and answer.endswith(b'</cpns>;rt="keycast.gw"')
        other = coap(1, (".well-known", "core"), options=[(15, b"rt=printer")], confirmable=False)
        assert await stranger.ask(other, gateway.place, 0.3) is None
        assert (await stranger.ask(ask, lamp.place))[1] == UNAUTHORIZED
        await stranger.close()


def may_broadcast(stranger):
    stranger.link._sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)


@only_on("udp")
async def test_a_directed_broadcast_finds_the_gateway_and_the_answer_comes_from_its_own_address(tmp_path):
    """127.255.255.255 is the loopback's directed broadcast address."""
    async with parties(tmp_path, *LAMP_AND_GATEWAY) as (_, gateway):
        await gateway.stop()
        for bind in ([("0.0.0.0", 0)], None):
            if bind is None:
                port = free_port()
                bind = [("127.0.0.1", port), ("127.255.255.255", port)]
            await gateway.start(bind)
            stranger = await Foreigner.open()
            may_broadcast(stranger)
            target = place_of("127.255.255.255", gateway.address[1])
            question = coap(1, (".well-known", "core"), options=[(15, b"rt=keycast.gw")], confirmable=False)
            await stranger.send(question, target)
            _, source = await asyncio.wait_for(stranger.received.get(), 10)
            assert source == place_of("127.0.0.1", gateway.address[1])
            # whatever else comes to everybody is not answered
            await stranger.send(coap(2, ("cpns",), b"\xa0", confirmable=False), target)
            await stranger.send(edhoc_request(b"\xf5\x03\x02"), target)
            await asyncio.sleep(0.3)
            assert stranger.received.empty()
            await stranger.close()
            await gateway.stop()


@only_on("udp")
@pytest.mark.req("SEC-35")
async def test_however_often_strangers_ask_everybody_for_gateways_a_board_is_answered(tmp_path):
    """Nor does it matter in whose name they ask; and an answer is no longer than its question."""
    async with parties(tmp_path, *LAMP_AND_GATEWAY) as (_, gateway):
        await gateway.stop()
        await gateway.start([("0.0.0.0", 0)])
        everybody = place_of("127.255.255.255", gateway.address[1])
        question = coap(1, (".well-known", "core"), options=[(15, b"rt=keycast.gw")], confirmable=False)
        stranger, board = await Foreigner.open(), await Foreigner.open("127.0.0.1")
        for each in (stranger, board):
            may_broadcast(each)
        for _ in range(200):
            await stranger.send(question, everybody)
        for _ in range(20):  # as many as the board would ask in minutes
            answer = await board.ask(question, everybody)
            assert answer[1] == 0x45 and len(answer) <= len(question)
        await stranger.close()
        await board.close()


@pytest.mark.req("SEC-35")
async def test_a_message_id_that_a_forger_took_before_keeps_no_request_from_being_answered(tmp_path):
    """Message IDs are counted up, so the next one of a board is known to whoever hears it ask everybody."""
    async with parties(tmp_path, *LAMP_AND_GATEWAY) as (lamp, gateway):
        address = await Foreigner.open()  # of the board, in whose name the forger speaks too
        message_1 = message_1_of(lamp, gateway)
        forged = coap(2, (".well-known", "edhoc"), message_1, message_id=7, token=b"forger")
        assert b"forger" in await address.ask(forged, gateway.place)
        true = coap(2, (".well-known", "edhoc"), message_1, message_id=7, token=b"board")
        for _ in range(2):  # repeated, it gets the same answer
            assert b"board" in await address.ask(true, gateway.place)
        assert gateway.counters["requests_repeated"] == 1
        await address.close()


@pytest.mark.req("SEC-35")
async def test_a_reset_that_anybody_can_send_ends_no_request(tmp_path):
    async with parties(tmp_path, *GATEWAY_AND_SERVER) as (gateway, server):
        wire = await Wire.open(server.place)
        resets = []

        def forge(data, towards_server):
            if towards_server:
                resets.append(b"\x70\x00" + data[2:4])
                wire.say_to_client(resets[-1])
            return data

        wire.judge = forge
        await gateway.endpoint.connect("cpns-server", wire.place)
        assert await gateway.ask("cpns-server", b"\xa0") == b"\xa1\xa0"
        assert gateway.counters["requests_rejected"] == len(resets) > 2
        await wire.close()


@only_on("udp")
async def test_ten_thousand_garbage_datagrams_leave_counters_and_one_line(tmp_path, caplog):
    source = random.Random(1)
    caplog.set_level(logging.DEBUG)
    async with parties(tmp_path, *GATEWAY_AND_SERVER) as (gateway, server):
        await gateway.endpoint.connect("cpns-server", server.place)
        wire = await Wire.open(server.place)
        gateway.endpoint._homes["cpns-server"] = wire.place
        await gateway.ask("cpns-server", b"\xa0")
        valid = coap(2, ("cpns",), b"\xa0", [(9, b"\x0b\x01abc")])
        caplog.clear()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for n in range(10_000):
                kind = n % 5
                if kind == 0:
                    data = source.randbytes(source.randrange(80))
                elif kind == 1:
                    data = bytes([0x40 | source.randrange(9), source.randrange(256)]) + source.randbytes(40)
                elif kind == 2:
                    data = coap(2, ("cpns",), source.randbytes(30), [(9, source.randbytes(source.randrange(12)))], n)
                elif kind == 3:
                    data = valid[: source.randrange(len(valid))] + source.randbytes(source.randrange(9))
                else:
                    data = edhoc_request(source.randbytes(source.randrange(80)), n)
                sock.sendto(data, server.address)
                if n % 50 == 0:
                    await asyncio.sleep(0)
        await until(lambda: server.counters["datagrams_received"] >= 9_000)
        assert await gateway.ask("cpns-server", b"\xa0alive") == b"\xa1\xa0alive"
        assert [payload for _, payload in server.got] == [b"\xa0", b"\xa0alive"]
        assert server.counters["datagrams_malformed"] > 2_000
        assert server.counters["requests_malformed"] > 500
        assert server.counters["handshakes_failed"] > 500
        lines = [record for record in caplog.records if record.name.startswith(("message_plane", "aiocoap", "coap"))]
        assert len(lines) <= 1, [line.getMessage() for line in lines]
        await wire.close()


@UNCONNECTED
async def test_a_datagram_of_nothing_but_options_costs_little(tmp_path):
    """64 KiB of options would take the library seconds to take apart."""
    async with parties(tmp_path, *GATEWAY_AND_SERVER) as (_, server):
        stranger = await Foreigner.open()
        loop = asyncio.get_running_loop()
        began = loop.time()
        for _ in range(20):
            await stranger.send(b"\x40\x02\x00\x01" + bytes(60_000), server.place)
            await stranger.send(b"\x40\x02\x00\x01" + bytes(8_000), server.place)
        await until(lambda: server.counters["datagrams_malformed"] == 40)
        assert loop.time() - began < 3, "naively it takes more than 20 s"
        await stranger.close()


@pytest.mark.req("CPNS-GKM-50")
async def test_a_request_under_an_unknown_or_a_wrong_key_is_refused(tmp_path):
    async with parties(tmp_path, *GATEWAY_AND_SERVER) as (gateway, server):
        wire = await Wire.open(server.place)
        await gateway.endpoint.connect("cpns-server", wire.place)
        await gateway.ask("cpns-server", b"\xa0")
        genuine = wire.to_server[-1]
        wire.repeat_to_server(renumbered(genuine[:-1] + bytes([genuine[-1] ^ 1]), 2))
        await until(lambda: server.counters["requests_replayed"] == 1)

        def spoil(data, towards_server):
            return data[:-1] + bytes([data[-1] ^ 1]) if towards_server else data

        wire.judge = spoil
        stranger = await Foreigner.open()
        unknown = coap(2, (), bytes(20), [(9, b"\x09\x01xyz")])
        assert (await stranger.ask(unknown, server.place))[1] == UNAUTHORIZED
        assert server.counters["requests_without_context"] == 1
        with pytest.raises(Exception, match="without protection"):
            await gateway.ask("cpns-server", b"\xa0changed")
        assert server.counters["requests_not_authentic"] == 1
        assert len(server.got) == 1
        await wire.close()
        await stranger.close()


@pytest.mark.parametrize(
    "option",
    [b"", b"\x08abc", b"\x09", b"\x0e\x01\x02\x03\x04\x05\x06abc", b"\x19\x01\x00abc", b"\x29\x01abc", b"\x49\x01abc"],
    ids=["empty", "no piv", "cut", "piv of 6", "kid context", "group", "reserved"],
)
async def test_a_broken_oscore_option_is_a_bad_option(tmp_path, option):
    async with parties(tmp_path, *GATEWAY_AND_SERVER) as (_, server):
        stranger = await Foreigner.open()
        assert (await stranger.ask(coap(2, (), bytes(20), [(9, option)]), server.place))[1] == BAD_OPTION
        assert server.counters["requests_malformed"] == 1
        await stranger.close()


async def test_a_hostile_member_gets_errors_and_nothing_breaks(tmp_path):
    """A lamp with a genuine session sends what no lamp of ours would send inside it."""
    async with parties(tmp_path, *LAMP_AND_GATEWAY) as (lamp, gateway):
        await lamp.endpoint.connect("home-gw", gateway.place)
        await lamp.ask("home-gw", b"\xa0")
        session = lamp.endpoint._sessions.to_send("home-gw")
        address = await lamp.endpoint._exchanges.links.find(gateway.place)

        async def send(message, plaintext=None):
            if plaintext is not None:
                session._split_message = lambda *_: (aiocoap.Message(code=aiocoap.POST), plaintext)
            await lamp.endpoint._sessions.numbers_for(session)
            outer, request_id = session.protect(message)
            session.__dict__.pop("_split_message", None)
            outer.remote = address
            response = await lamp.endpoint._exchanges.ask(outer)
            if response.opt.oscore is None:
                return response.code.dotted
            return session.unprotect(response, request_id)[0].code.dotted

        def message(**options):
            return aiocoap.Message(**{"code": aiocoap.POST, "uri_path": ["cpns"], "payload": b"\xa0", **options})

        assert await send(message(uri_path=["other"])) == "4.04"
        assert await send(message(uri_path=["cpns", "x"])) == "4.04"
        assert await send(message(code=aiocoap.GET, payload=b"")) == "4.05"
        assert await send(message(content_format=0)) == "4.15"
        assert await send(message(content_format=41)) == "4.15", "XML is for the uplink"
        assert await send(message(block1=(0, False, 6))) == "4.02", "boards have no blocks"
        if address.link.datagram_max > 8193:
            assert await send(message(payload=bytes(8193))) == "4.13"
        source = random.Random(5)
        for plaintext in (b"\x02", b"\x02\xff", b"\x02" + bytes(60), b"\x02\xb5\xff\xfe\xfd\xfc\xfb", b"\xe7\xff\xa0"):
            assert await send(message(), plaintext) in ("4.00", "4.04", "4.05", "4.02")
        for _ in range(100):
            assert (await send(message(), source.randbytes(source.randrange(1, 60))))[0] == "4"
        assert len(gateway.got) == 1
        assert await lamp.ask("home-gw", b"\xa0fine") == b"\xa1\xa0fine"


async def test_one_peer_cannot_occupy_all_handlers(tmp_path):
    release = asyncio.Event()

    async def wait(payload):
        if payload == b"\xa0slow":
            await release.wait()
        return b"\xa0"

    two_lamps = (("flooder", "pne"), ("lamp", "pne"), ("home-gw", "gateway"))
    async with parties(tmp_path, *two_lamps) as (flooder, lamp, gateway):
        gateway.answer = wait
        for pne in (flooder, lamp):
            await pne.endpoint.connect("home-gw", gateway.place)
            await pne.ask("home-gw", b"\xa0")
        slow = [asyncio.ensure_future(flooder.ask("home-gw", b"\xa0slow")) for _ in range(tuning.HANDLERS_PER_PEER)]
        await until(lambda: len(gateway.got) == 2 + tuning.HANDLERS_PER_PEER)
        with pytest.raises(PeerRefused, match=r"5\.03"):
            await flooder.ask("home-gw", b"\xa0slow")
        assert gateway.counters["requests_too_many"] == 1
        assert await lamp.ask("home-gw", b"\xa0") == b"\xa0"
        release.set()
        await asyncio.gather(*slow)


@pytest.mark.req("SEC-35")
@UNCONNECTED
async def test_a_peer_whose_requests_come_all_at_once_occupies_no_more_handlers(tmp_path):
    release = asyncio.Event()

    async def wait(payload):
        await release.wait()
        return b"\xa0"

    async with parties(tmp_path, *LAMP_AND_GATEWAY) as (lamp, gateway):
        await lamp.endpoint.connect("home-gw", gateway.place)
        await lamp.ask("home-gw", b"\xa0")
        session = lamp.endpoint._sessions.to_send("home-gw")
        address = await lamp.endpoint._exchanges.links.find(gateway.place)
        gateway.answer = wait
        for message_id in range(tuning.READ_BURST // 2):
            await lamp.endpoint._sessions.numbers_for(session)
            outer, _ = session.protect(aiocoap.Message(code=aiocoap.POST, uri_path=["cpns"], payload=b"\xa0"))
            datagram = coap(2, (), outer.payload, [(9, outer.opt.oscore)], message_id, token=bytes([message_id]))
            address.link.send(address, datagram)
        await until(lambda: gateway.counters["requests_too_many"] == tuning.READ_BURST // 2 - tuning.HANDLERS_PER_PEER)
        assert len(gateway.got) == 1 + tuning.HANDLERS_PER_PEER
        release.set()


# EDHOC


def message_1_of(pne, gateway):
    return b"\xf5" + Initiator(pne.identity, gateway.credential, random.randbytes(2)).message_1


@pytest.mark.req("SEC-21")
@UNCONNECTED
async def test_a_flood_of_handshakes_is_challenged_and_live_sessions_go_on(tmp_path):
    async with parties(tmp_path, *LAMP_AND_GATEWAY) as (lamp, gateway):
        await lamp.endpoint.connect("home-gw", gateway.place)
        await lamp.ask("home-gw", b"\xa0")
        started = gateway.counters["handshakes_started"]
        message_1 = message_1_of(lamp, gateway)
        strangers = [await Foreigner.open(f"127.0.2.{n}") for n in range(1, 101)]
        answers = [
            await stranger.ask(edhoc_request(message_1, n), gateway.place) for n, stranger in enumerate(strangers)
        ]
        challenged = [answer for answer in answers if answer[1] == UNAUTHORIZED]
        assert len(challenged) >= 80
        assert gateway.counters["handshakes_started"] - started <= 20
        assert gateway.counters["handshakes_challenged"] == len(challenged)
        assert await lamp.ask("home-gw", b"\xa0alive") == b"\xa1\xa0alive"
        # and a genuine newcomer, who answers the challenge, gets in meanwhile
        await lamp.endpoint._establish("home-gw")
        assert await lamp.ask("home-gw", b"\xa0new") == b"\xa1\xa0new"
        for stranger in strangers:
            await stranger.close()


@pytest.mark.req("SEC-21")
@UNCONNECTED
async def test_a_challenge_costs_no_point_multiplication(tmp_path, monkeypatch):
    async with parties(tmp_path, *LAMP_AND_GATEWAY) as (lamp, gateway):
        stranger = await Foreigner.open()
        message_1 = message_1_of(lamp, gateway)
        for n in range(3):
            assert (await stranger.ask(edhoc_request(message_1, n), gateway.place))[1] == CHANGED

        def no_computing(*_):
            raise AssertionError("the library was called")

        monkeypatch.setattr(edhoc, "_contained", no_computing)
        monkeypatch.setattr(edhoc, "_check_point", no_computing)
        answer = await stranger.ask(edhoc_request(message_1, 9), gateway.place)
        assert answer[1] == UNAUTHORIZED
        assert gateway.counters["handlers_failed"] == 0
        await stranger.close()


@pytest.mark.req("SEC-21")
async def test_message_1_of_another_shape_is_refused(tmp_path):
    good = bytes.fromhex("0302") + cborlite.encode(OwnIdentity("n", "pne", _key()).x)
    bad = [
        b"",
        b"\x03",
        b"\x00" + good[1:] + b"\x01",
        b"\x03\x00" + good[2:] + b"\x01",
        b"\x03\x80" + good[2:] + b"\x01",
        good,
        good + b"\x43abc",
        good + b"\x40",
        good + b"\xf5",
        good + b"\x18\x30",
        b"\x03\x02\x58\x20" + b"\xff" * 32 + b"\x01",
        b"\x03\x02\x58\x1f" + bytes(31) + b"\x01",
        good + b"\x01" + bytes(100),
        b"\xf9\x3e\x00" + good[1:] + b"\x01",
    ]
    for n, message_1 in enumerate(bad):
        with pytest.raises((edhoc.WrongSuite, edhoc.MalformedMessage)):
            edhoc.check_message_1(message_1)
        assert n < len(bad)
    assert edhoc.check_message_1(good + b"\x0a") == b"\x0a"
    assert edhoc.check_message_1(good + b"\x37") == b"\x37"
    assert edhoc.check_message_1(good + b"\x42ab") == b"ab"
    assert edhoc.check_message_1(good + b"\x41\xfe") == b"\xfe"
    assert edhoc.check_message_1(b"\x03\x82\x06\x02" + good[2:] + b"\x0a") == b"\x0a"


def _key():
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


@pytest.mark.req("SEC-21")
async def test_hostile_handshake_messages_end_the_handshake_and_nothing_else(tmp_path):
    """Octets that make the EDHOC library panic included: the address then waits."""
    source = random.Random(11)
    async with parties(tmp_path, *LAMP_AND_GATEWAY) as (lamp, gateway):
        message_1 = message_1_of(lamp, gateway)
        for n in range(150):
            stranger = await Foreigner.open(f"127.0.{3 + n // 200}.{n % 200 + 1}")
            answer = await stranger.ask(edhoc_request(message_1, n), gateway.place, 10)  # connecting has its rate
            if answer[1] == UNAUTHORIZED:
                echo = aiocoap.Message.decode(answer).opt.echo
                answer = await stranger.ask(edhoc_request(message_1, n, [(252, echo)]), gateway.place)
            assert answer[1] == CHANGED
            responder = next(iter(gateway.endpoint._reception._half_open._entries))
            octets = source.randbytes(source.randrange(0, 60))
            message_3 = cborlite.encode(responder) + (cborlite.encode(octets) if n % 2 else octets)
            answer = await stranger.ask(edhoc_request(message_3, 1000 + n), gateway.place)
            assert answer[1] == BAD_REQUEST and answer.endswith(b"\xff\x01\x67refused")
            await stranger.close()
        assert gateway.endpoint.entities() == set()
        await lamp.endpoint.connect("home-gw", gateway.place)
        assert await lamp.ask("home-gw", b"\xa0") == b"\xa1\xa0"


@pytest.mark.req("SEC-21")
async def test_message_3_from_another_address_neither_finishes_nor_ends_a_handshake(tmp_path):
    seen = []
    async with parties(tmp_path, *LAMP_AND_GATEWAY) as (lamp, gateway):
        wire = await Wire.open(gateway.place)

        def hold(data, towards_server):
            if towards_server and len(seen) < 1 and b"\xff\x43" in data:
                seen.append(data)
                return None
            return data

        wire.judge = hold
        connecting = asyncio.ensure_future(lamp.endpoint.connect("home-gw", wire.place))
        await until(lambda: seen)
        stranger = await Foreigner.open()
        assert (await stranger.ask(seen[0], gateway.place))[1] == BAD_REQUEST
        await connecting  # by the retransmission of message_3
        assert await lamp.ask("home-gw", b"\xa0") == b"\xa1\xa0"
        await stranger.close()
        await wire.close()


@pytest.mark.parametrize("which", [1, 2])
async def test_a_changed_message_from_the_responder_makes_no_session(tmp_path, which):
    async with parties(tmp_path, *LAMP_AND_GATEWAY) as (lamp, gateway):
        wire = await Wire.open(gateway.place)

        def spoil(data, towards_server):
            last = not towards_server and len(wire.to_client) == which - 1
            return data[:-1] + bytes([data[-1] ^ 1]) if last else data

        wire.judge = spoil
        with pytest.raises(HandshakeFailed):
            await lamp.endpoint.connect("home-gw", wire.place)
        assert not lamp.endpoint.has_session("home-gw")
        assert not gateway.endpoint.has_session("lamp")
        assert lamp.store.contexts() == gateway.store.contexts() == []
        await wire.close()


# A foreign peer of another make: aiocoap's own client with its own EDHOC


@only_on("udp")
@pytest.mark.req("CPNS-GKM-50")
async def test_the_edhoc_and_oscore_client_of_aiocoap_is_served_as_any_pne(tmp_path):
    async with parties(tmp_path, *LAMP_AND_GATEWAY) as (lamp, gateway):
        host, port = gateway.address
        client = await aiocoap.Context.create_client_context(transports=["oscore", "simple6"])
        try:
            uri = f"coap://{host}:{port}"
            client.client_credentials.load_from_dict({f"{uri}/*": {"edhoc-oscore": _credentials(lamp, gateway)}})
            for n in range(3):
                message = aiocoap.Message(
                    code=aiocoap.POST, uri=f"{uri}/cpns", payload=b"\xa0%d" % n, content_format=60
                )
                response = await client.request(message).response
                assert (response.code, response.payload) == (aiocoap.CHANGED, b"\xa1\xa0%d" % n)
        finally:
            await client.shutdown()
        assert gateway.got == [(Peer("lamp", "pne"), b"\xa0%d" % n) for n in range(3)]


def _credentials(own, peer):
    def ccs(credential):
        key = {1: 2, 2: credential.kid, -1: 1, -2: credential.x}
        return {14: {2: credential.entity_id, 8: {1: key}}}

    return {
        "suite": 2,
        "method": 3,
        "own_cred_style": "by-key-id",
        "own_cred": ccs(own.credential),
        "private_key": {1: 2, -1: 1, -4: own.identity.private_octets()},
        "peer_cred": ccs(peer.credential),
        "use_combined_edhoc": False,
    }


async def test_the_session_class_is_aiocoaps_oscore_by_the_vectors_of_rfc_8613():
    """RFC 8613, C.1.1 and C.4: the derived keys and the first protected request."""
    from message_plane.lease import Lease
    from message_plane.session import Session
    from message_plane.session_store import StoredContext

    stored = StoredContext(
        recipient_id=b"\x01",
        sender_id=b"",
        entity_id="server",
        master_secret=bytes(range(1, 17)),
        master_salt=bytes.fromhex("9e7ca92223786340"),
        established=0,
        sender_ceiling=64,
    )
    server = Peer("server", "server")
    session = Session(stored, server, Lease(1, 1 << 62), credential=None, stands=lambda credential: True, echo=None)
    assert session.sender_key.hex() == "f0910ed7295e6ad4b54fc793154302ff"
    assert session.recipient_key.hex() == "ffb14e093c94c9cac9471648b4f98710"
    assert session.common_iv.hex() == "4622d4dd6d944168eefb54987c"
    session.sender_sequence_number = 20
    outer, _ = session.protect(aiocoap.Message(code=aiocoap.GET, uri_path=["tv1"]))
    assert outer.opt.oscore.hex() == "0914"
    assert outer.payload.hex() == "612f1092f1776f1c1668b3825e"
    session.sender_sequence_number = 64
    with pytest.raises(oscore.ContextUnavailable):
        session.protect(aiocoap.Message(code=aiocoap.GET, uri_path=["tv1"]))
