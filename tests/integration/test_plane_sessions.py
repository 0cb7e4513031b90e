"""Two ends of the message plane over loopback: sessions, requests both ways, restarts, replays."""

import asyncio
import random

import pytest

from cpns.errors import MalformedMessage, NotAllowed, NotMember, TooMany
from message_plane import endpoint as endpoint_module
from message_plane import tuning
from message_plane.endpoint import Peer
from message_plane.errors import (
    HandshakeFailed,
    LeaseHeld,
    NoSession,
    PeerRefused,
    PeerUnreachable,
    PortInUse,
    StoreError,
)
from tests.integration.plane_world import LOOPBACK, UNCONNECTED, Links, Party, Wire, only_on, parties, renumbered
from tests.waiting import PATIENCE_S, until

GATEWAY_AND_SERVER = (("home-gw", "gateway"), ("cpns-server", "server"))
LAMP_AND_GATEWAY = (("lamp", "pne"), ("home-gw", "gateway"))

pytestmark = pytest.mark.usefixtures("each_link")


@pytest.mark.req("CPNS-GKM-50")
async def test_a_message_travels_both_ways_in_one_session_and_the_peer_is_who_authenticated(tmp_path):
    async with parties(tmp_path, *GATEWAY_AND_SERVER) as (gateway, server):
        await gateway.endpoint.connect("cpns-server", server.place)
        assert await gateway.ask("cpns-server", b"\xa0up") == b"\xa1\xa0up"
        assert await server.ask("home-gw", b"\xa0down") == b"\xa1\xa0down"
        assert server.got == [(Peer("home-gw", "gateway"), b"\xa0up")]
        assert gateway.got == [(Peer("cpns-server", "server"), b"\xa0down")]
        assert gateway.counters["handshakes_done"] == server.counters["handshakes_done"] == 1


@pytest.mark.req("CPNS-GKM-50")
async def test_a_pne_and_its_gateway_have_a_session_too(tmp_path):
    async with parties(tmp_path, *LAMP_AND_GATEWAY) as (lamp, gateway):
        await lamp.endpoint.connect("home-gw", gateway.place)
        assert await lamp.ask("home-gw", b"\xa0") == b"\xa1\xa0"
        assert await gateway.ask("lamp", b"\xa0key") == b"\xa1\xa0key"
        assert gateway.got == [(Peer("lamp", "pne"), b"\xa0")]


@pytest.mark.req("CPNS-GKM-50")
async def test_nothing_of_a_message_can_be_read_on_the_way(tmp_path):
    async with parties(tmp_path, *GATEWAY_AND_SERVER) as (gateway, server):
        wire = await Wire.open(server.place)
        await gateway.endpoint.connect("cpns-server", wire.place)
        await gateway.ask("cpns-server", b"\xa0 the key of the house")
        await wire.close()
        seen = b"".join(wire.to_server + wire.to_client)
        assert b"key of the house" not in seen and b"cpns" not in seen
        assert b"home-gw" not in seen and b"cpns-server" not in seen


async def test_an_empty_answer_is_empty(tmp_path):
    async with parties(tmp_path, *GATEWAY_AND_SERVER) as (gateway, server):
        server.answer = lambda payload: None
        await gateway.endpoint.connect("cpns-server", server.place)
        assert await gateway.ask("cpns-server", b"\xa0") == b""


@pytest.mark.parametrize(
    ("problem", "code"),
    [
        (MalformedMessage("what is this"), "4.00"),
        (NotAllowed("not you"), "4.03"),
        (NotMember("nor you"), "4.03"),
        (TooMany("later"), "4.29"),
    ],
)
async def test_a_protocol_error_of_the_handler_reaches_the_peer_with_its_reason(tmp_path, problem, code):
    async with parties(tmp_path, *GATEWAY_AND_SERVER) as (gateway, server):
        server.answer = lambda payload: problem
        await gateway.endpoint.connect("cpns-server", server.place)
        with pytest.raises(PeerRefused) as refused:
            await gateway.ask("cpns-server", b"\xa0")
        assert (refused.value.code, refused.value.reason) == (code, problem.reason)


async def test_a_fault_in_the_handler_is_answered_without_details_and_the_endpoint_goes_on(tmp_path, caplog):
    async with parties(tmp_path, *GATEWAY_AND_SERVER) as (gateway, server):
        server.answer = lambda payload: 1 // 0
        await gateway.endpoint.connect("cpns-server", server.place)
        with pytest.raises(PeerRefused) as refused:
            await gateway.ask("cpns-server", b"\xa0")
        assert (refused.value.code, refused.value.reason) == ("5.00", "")
        assert server.counters["handlers_failed"] == 1
        assert "ZeroDivisionError" in caplog.text
        server.answer = lambda payload: b"\xa0"
        assert await gateway.ask("cpns-server", b"\xa0") == b"\xa0"


@pytest.mark.parametrize("length", [1024, 1025, 20_000, 131_072])
async def test_a_long_message_crosses_the_uplink_in_blocks_both_ways(tmp_path, length):
    message = b"\xa0" + random.Random(length).randbytes(length - 1)
    async with parties(tmp_path, *GATEWAY_AND_SERVER) as (gateway, server):
        wire = await Wire.open(server.place)
        server.answer = lambda payload: payload[::-1]
        await gateway.endpoint.connect("cpns-server", wire.place)
        assert await gateway.ask("cpns-server", message) == message[::-1]
        assert server.got == [(Peer("home-gw", "gateway"), message)]
        await wire.close()
        assert max(map(len, wire.to_server + wire.to_client)) <= 1280, "no datagram is fragmented"


async def test_a_message_longer_than_any_is_refused(tmp_path):
    async with parties(tmp_path, *GATEWAY_AND_SERVER) as (gateway, server):
        await gateway.endpoint.connect("cpns-server", server.place)
        with pytest.raises(PeerRefused, match=r"4\.13"):
            await gateway.ask("cpns-server", bytes(131_073))
        assert server.got == []


async def test_requests_at_once_get_each_its_own_answer(tmp_path):
    async def slowly(payload):
        await asyncio.sleep(random.Random(payload).random() / 5)
        return payload * 400

    async with parties(tmp_path, *GATEWAY_AND_SERVER) as (gateway, server):
        server.answer = slowly
        await gateway.endpoint.connect("cpns-server", server.place)
        messages = [b"\xa0" + bytes([n]) * (n % 3 + 1) for n in range(8)]
        answers = await asyncio.gather(*(gateway.ask("cpns-server", message) for message in messages))
        assert answers == [message * 400 for message in messages]


async def test_a_slow_handler_is_waited_for_and_asked_once(tmp_path, monkeypatch):
    async def slowly(payload):
        await asyncio.sleep(3.5)
        return b"\xa0"

    async with parties(tmp_path, *GATEWAY_AND_SERVER) as (gateway, server):
        server.answer = slowly
        await gateway.endpoint.connect("cpns-server", server.place)
        assert await gateway.ask("cpns-server", b"\xa0") == b"\xa0"
        assert len(server.got) == 1


async def test_lost_datagrams_are_sent_again_and_the_handler_sees_each_request_once(tmp_path):
    source = random.Random(3)

    def lossy(data, towards_server):
        return None if source.random() < 0.25 else data

    async with parties(tmp_path, *GATEWAY_AND_SERVER) as (gateway, server):
        wire = await Wire.open(server.place)
        await gateway.endpoint.connect("cpns-server", wire.place)
        wire.judge = lossy
        messages = [b"\xa0%d" % n for n in range(6)]
        for message in messages:
            await gateway.ask("cpns-server", message, timeout_s=PATIENCE_S)
        await wire.close()
        assert [payload for _, payload in server.got] == messages


async def test_no_answer_is_unreachable_and_the_next_request_does_not_wait_behind_the_dead_one(tmp_path):
    deaf = True
    async with parties(tmp_path, *GATEWAY_AND_SERVER) as (gateway, server):
        wire = await Wire.open(server.place)
        await gateway.endpoint.connect("cpns-server", wire.place)
        wire.judge = lambda data, towards_server: None if deaf else data
        with pytest.raises(PeerUnreachable):
            await gateway.ask("cpns-server", b"\xa0", timeout_s=0.3)
        deaf = False
        assert await gateway.ask("cpns-server", b"\xa0", timeout_s=1.0) == b"\xa1\xa0"
        await wire.close()


async def test_a_server_that_moved_is_found_again_by_its_name(tmp_path, monkeypatch):
    places = {}
    kind = type(Links.on([LOOPBACK]))
    find = kind.find
    monkeypatch.setattr(kind, "find", lambda self, place: find(self, places.get(place, place)))
    async with parties(tmp_path, *GATEWAY_AND_SERVER) as (gateway, server):
        name = f"{kind.scheme}:cpns.example:5683"
        places[name] = server.place
        await gateway.endpoint.connect("cpns-server", name)
        await gateway.ask("cpns-server", b"\xa0here")
        await server.stop()
        with pytest.raises(PeerUnreachable):
            await gateway.ask("cpns-server", b"\xa0", timeout_s=0.1)
        await server.start([("127.0.9.9", 0)])
        places[name] = server.place
        assert await gateway.ask("cpns-server", b"\xa0there", timeout_s=2) == b"\xa1\xa0there"


async def test_without_session_or_address_there_is_nothing_to_send_on(tmp_path):
    async with parties(tmp_path, *LAMP_AND_GATEWAY) as (_, gateway):
        with pytest.raises(NoSession):
            await gateway.ask("lamp", b"\xa0")
        with pytest.raises(NoSession):
            gateway.endpoint.export("lamp", 32768, 32)


# Restarts


@pytest.mark.req("CPNS-GKM-50", "SEC-22")
@pytest.mark.parametrize("who", ["gateway", "server", "both"])
async def test_a_session_survives_a_restart_of_either_end(tmp_path, who):
    async with parties(tmp_path, *GATEWAY_AND_SERVER) as (gateway, server):
        await gateway.endpoint.connect("cpns-server", server.place)
        await gateway.ask("cpns-server", b"\xa0before")
        for party in (gateway, server):
            if who in (party.role, "both"):
                await party.restart()
                assert party.endpoint.entities() == {"home-gw", "cpns-server"} - {party.entity_id}
        assert await server.ask("home-gw", b"\xa0down") == b"\xa1\xa0down"
        assert await gateway.ask("cpns-server", b"\xa0up") == b"\xa1\xa0up"
        assert gateway.counters["handshakes_done"] == server.counters["handshakes_done"] == 1


@pytest.mark.req("SEC-22")
async def test_after_a_restart_the_first_request_is_challenged_with_echo_before_it_is_acted_on(tmp_path):
    async with parties(tmp_path, *GATEWAY_AND_SERVER) as (gateway, server):
        await gateway.endpoint.connect("cpns-server", server.place)
        await gateway.ask("cpns-server", b"\xa0before")
        await server.restart()
        server.got.clear()
        assert await gateway.ask("cpns-server", b"\xa0after") == b"\xa1\xa0after"
        assert server.counters["requests_echo_challenged"] == 1
        assert server.got == [(Peer("home-gw", "gateway"), b"\xa0after")]
        await gateway.ask("cpns-server", b"\xa0again")
        assert server.counters["requests_echo_challenged"] == 1


@pytest.mark.req("SEC-22")
@UNCONNECTED
async def test_requests_recorded_before_a_restart_are_not_acted_on_after_it(tmp_path):
    async with parties(tmp_path, *GATEWAY_AND_SERVER) as (gateway, server):
        wire = await Wire.open(server.place)
        await gateway.endpoint.connect("cpns-server", wire.place)
        await gateway.ask("cpns-server", b"\xa0before")
        recorded = wire.to_server[-1]
        await server.restart()
        server.got.clear()
        for n in range(30):
            wire.repeat_to_server(renumbered(recorded, n))
        await until(lambda: server.counters["datagrams_received"] >= 30)
        await asyncio.sleep(0.1)
        assert server.got == []
        challenges = server.counters["requests_echo_challenged"]
        assert 1 <= challenges <= tuning.ECHO_CHALLENGES[1] + 1, "each challenge uses up a sender number"
        await wire.close()


@pytest.mark.req("SEC-22")
async def test_sender_numbers_go_on_from_the_ceiling_after_a_restart(tmp_path):
    async with parties(tmp_path, *GATEWAY_AND_SERVER) as (gateway, server):
        wire = await Wire.open(server.place)
        await gateway.endpoint.connect("cpns-server", wire.place)
        for _ in range(3):
            for _ in range(71):
                await gateway.ask("cpns-server", b"\xa0")
            await gateway.restart()
            gateway.endpoint._homes["cpns-server"] = wire.place
        await wire.close()
        sent = dict.fromkeys(wire.to_server)  # what CoAP repeats on a busy machine is the same datagram
        numbers = [partial_iv(data) for data in sent if partial_iv(data) is not None]
        assert len(numbers) > 210
        assert len(set(numbers)) == len(numbers)
        assert numbers == sorted(numbers)


def partial_iv(datagram):
    """The sequence number in the OSCORE option of a protected request, or None."""
    from aiocoap import Message

    from message_plane.session import parse_option

    option = Message.decode(datagram).opt.oscore
    return parse_option(option)[0] if option else None


# Replays and renewals


@pytest.mark.req("SEC-27")
async def test_a_replayed_request_is_dropped_without_an_answer(tmp_path):
    async with parties(tmp_path, *GATEWAY_AND_SERVER) as (gateway, server):
        wire = await Wire.open(server.place)
        await gateway.endpoint.connect("cpns-server", wire.place)
        await gateway.ask("cpns-server", b"\xa0once")
        answers = len(wire.to_client)
        wire.repeat_to_server(renumbered(wire.to_server[-1]))
        await until(lambda: server.counters["requests_replayed"] == 1)
        await asyncio.sleep(0.3)
        assert len(wire.to_client) == answers
        assert len(server.got) == 1
        await wire.close()


async def test_a_retransmitted_request_gets_the_same_octets_again_and_is_handled_once(tmp_path):
    async with parties(tmp_path, *GATEWAY_AND_SERVER) as (gateway, server):
        wire = await Wire.open(server.place)
        await gateway.endpoint.connect("cpns-server", wire.place)
        await gateway.ask("cpns-server", b"\xa0once")
        answers = len(wire.to_client)
        wire.repeat_to_server(wire.to_server[-1])
        await until(lambda: len(wire.to_client) == answers + 1)
        assert wire.to_client[-1] == wire.to_client[-2]
        assert len(server.got) == 1
        assert server.counters["requests_repeated"] == 1
        await wire.close()


@pytest.mark.req("SEC-27")
async def test_late_and_reordered_requests_within_the_window_are_taken_once(tmp_path):
    held = []
    async with parties(tmp_path, *GATEWAY_AND_SERVER) as (gateway, server):
        wire = await Wire.open(server.place)
        await gateway.endpoint.connect("cpns-server", wire.place)
        await gateway.ask("cpns-server", b"\xa0first")

        def hold(data, towards_server):
            if towards_server and not held:
                held.append(data)
                return None
            return data

        wire.judge = hold
        with pytest.raises(PeerUnreachable):
            await gateway.ask("cpns-server", b"\xa0late", timeout_s=0.1)
        for n in range(tuning.REPLAY_WINDOW - 2):
            await gateway.ask("cpns-server", b"\xa0%d" % n)
        wire.repeat_to_server(held[0])
        await until(lambda: server.got[-1][1] == b"\xa0late")
        for n in range(3):
            await gateway.ask("cpns-server", b"\xa0x%d" % n)
        wire.repeat_to_server(renumbered(held[0]))
        await until(lambda: server.counters["requests_replayed"] == 1)
        assert [payload for _, payload in server.got].count(b"\xa0late") == 1
        await wire.close()


@pytest.mark.req("SEC-21")
async def test_the_live_session_stays_until_the_new_one_has_verified_a_request(tmp_path):
    """A handshake whose last message never arrives leaves the old session in use on both sides."""
    async with parties(tmp_path, *LAMP_AND_GATEWAY) as (lamp, gateway):
        await lamp.endpoint.connect("home-gw", gateway.place)
        await lamp.ask("home-gw", b"\xa0old")
        old = gateway.endpoint._sessions.to_send("lamp")
        await lamp.endpoint._establish("home-gw")
        assert gateway.counters["handshakes_done"] == 2
        assert gateway.endpoint._sessions.to_send("lamp") is old
        assert await gateway.ask("lamp", b"\xa0still") == b"\xa1\xa0still"
        assert [stored.recipient_id for stored in gateway.store.contexts()] == [old.recipient_id]
        await lamp.ask("home-gw", b"\xa0new")
        new = gateway.endpoint._sessions.to_send("lamp")
        assert new is not old and old.ended
        assert [stored.recipient_id for stored in gateway.store.contexts()] == [new.recipient_id]
        assert await gateway.ask("lamp", b"\xa0now") == b"\xa1\xa0now"
        assert len(lamp.store.contexts()) == 1


@pytest.mark.req("SEC-27")
async def test_a_session_that_the_peer_has_lost_is_made_anew_once_a_minute(tmp_path):
    async with parties(tmp_path, *GATEWAY_AND_SERVER) as (gateway, server):
        await gateway.endpoint.connect("cpns-server", server.place)
        await gateway.ask("cpns-server", b"\xa0")
        await server.endpoint.drop("home-gw")
        assert await gateway.ask("cpns-server", b"\xa0again") == b"\xa1\xa0again"
        assert gateway.counters["handshakes_done"] == 2
        await server.endpoint.drop("home-gw")
        with pytest.raises(NoSession, match="waits for its minute"):
            await gateway.ask("cpns-server", b"\xa0")
        assert gateway.counters["handshakes_done"] == 2


async def test_many_requests_that_find_no_session_share_one_handshake(tmp_path):
    async with parties(tmp_path, *GATEWAY_AND_SERVER) as (gateway, server):
        await gateway.endpoint.connect("cpns-server", server.place)
        await gateway.endpoint.drop("cpns-server")
        await asyncio.gather(*(gateway.ask("cpns-server", b"\xa0%d" % n) for n in range(6)))
        assert gateway.counters["handshakes_done"] == 2


@pytest.mark.req("SEC-06")
async def test_a_dropped_peer_has_no_session_at_once_and_none_after_a_restart(tmp_path):
    async with parties(tmp_path, *LAMP_AND_GATEWAY) as (lamp, gateway):
        await lamp.endpoint.connect("home-gw", gateway.place)
        await lamp.ask("home-gw", b"\xa0")
        await gateway.endpoint.drop("lamp")
        gateway.store.unregister("lamp")
        assert not gateway.endpoint.has_session("lamp")
        with pytest.raises((HandshakeFailed, NoSession)):
            await lamp.ask("home-gw", b"\xa0")
        await gateway.restart()
        assert gateway.endpoint.entities() == set()
        assert len(gateway.got) == 1


@pytest.mark.req("SEC-06")
@pytest.mark.parametrize("waited_for", [True, False])
async def test_a_session_that_is_dropped_is_gone_from_the_disk_before_the_endpoint_is_closed(tmp_path, waited_for):
    async with parties(tmp_path, *LAMP_AND_GATEWAY) as (lamp, gateway):
        await lamp.endpoint.connect("home-gw", gateway.place)
        await lamp.ask("home-gw", b"\xa0")
        dropped = gateway.endpoint.drop("lamp")
        assert not gateway.endpoint.has_session("lamp")
        if waited_for:
            await dropped
            assert gateway.store.contexts() == []
        await gateway.restart()
        assert gateway.store.contexts() == [] and gateway.endpoint.entities() == set()


@pytest.mark.req("SEC-06")
async def test_who_is_unregistered_by_another_process_loses_the_session_soon(tmp_path, monkeypatch):
    from message_plane.session_file import SessionFile

    monkeypatch.setattr(endpoint_module, "_HOUSEKEEPING_S", 0.05)
    async with parties(tmp_path, *LAMP_AND_GATEWAY) as (lamp, gateway):
        await lamp.endpoint.connect("home-gw", gateway.place)
        await lamp.ask("home-gw", b"\xa0")
        command_line = SessionFile(gateway.store.path)
        assert command_line.unregister("lamp")
        command_line.close()
        await until(lambda: not gateway.endpoint.has_session("lamp"))
        with pytest.raises((HandshakeFailed, NoSession)):
            await lamp.ask("home-gw", b"\xa0")


async def test_a_delivery_to_many_reserves_its_numbers_in_few_commits(tmp_path):
    """After a restart every session needs a block: they share commits, an SD card does 20 a second."""
    async with parties(tmp_path, ("home-gw", "gateway")) as (gateway,):
        lamps = [Party(tmp_path, f"lamp-{n}", "pne") for n in range(12)]
        try:
            for n, lamp in enumerate(lamps, 1):
                await lamp.start([(f"127.0.1.{n}", 0)])
                lamp.knows(gateway)
                gateway.knows(lamp)
                await lamp.endpoint.connect("home-gw", gateway.place)
                await lamp.ask("home-gw", b"\xa0")
            await gateway.restart()
            answers = await asyncio.gather(*(gateway.ask(lamp.entity_id, b"\xa0") for lamp in lamps))
            assert answers == [b"\xa1\xa0"] * len(lamps)
            assert gateway.endpoint._queue.commits <= 4
        finally:
            for lamp in lamps:
                await lamp.stop()


# Roles and names


@pytest.mark.req("SEC-16")
async def test_a_pne_credential_is_refused_as_responder(tmp_path):
    async with parties(tmp_path, ("home-gw", "gateway"), ("lamp", "pne")) as (gateway, lamp):
        with pytest.raises(HandshakeFailed, match="registered as pne"):
            await gateway.endpoint.connect("lamp", lamp.place)
        assert lamp.counters["datagrams_received"] == 0


@pytest.mark.req("SEC-16")
async def test_a_key_registered_as_pne_does_not_pass_for_the_server(tmp_path):
    """The responder is a lamp that answers in the server's place: it has not the server's key."""
    async with parties(tmp_path, ("home-gw", "gateway"), ("cpns-server", "server")) as (gateway, server):
        impostor = Party(tmp_path, "lamp", "server")
        await impostor.start()
        impostor.knows(gateway)
        with pytest.raises(HandshakeFailed, match="the responder is not 'cpns-server'"):
            await gateway.endpoint.connect("cpns-server", impostor.place)
        assert not gateway.endpoint.has_session("cpns-server") and gateway.endpoint.entities() == set()
        assert server.counters["handshakes_started"] == 0
        await impostor.stop()


@pytest.mark.req("SEC-16")
@pytest.mark.parametrize("pair", [GATEWAY_AND_SERVER, LAMP_AND_GATEWAY])
@pytest.mark.parametrize("registered_as", ["server", None])
async def test_a_responder_takes_initiators_of_its_own_roles_only(tmp_path, pair, registered_as):
    """A server takes gateways and PNEs, a gateway PNEs; this key is registered as something else, or not at all."""
    async with parties(tmp_path, *pair) as (initiator, responder):
        name = initiator.credential.entity_id
        responder.store.unregister(name)
        if registered_as:
            responder.store.register(type(initiator.credential)(name, registered_as, *_rest(initiator.credential)))
        with pytest.raises(HandshakeFailed):
            await initiator.endpoint.connect(responder.credential.entity_id, responder.place)
        counter = "handshakes_wrong_role" if registered_as else "handshakes_unknown_peer"
        assert responder.counters[counter] == 1
        assert responder.endpoint.entities() == set()


def _rest(credential):
    return credential.x, credential.ccs, credential.kid


@pytest.mark.req("SEC-16")
async def test_two_entities_with_one_kid_both_get_sessions_under_their_own_names(tmp_path, monkeypatch):
    from message_plane import credentials

    monkeypatch.setattr(credentials, "kid_of", lambda x: b"same-kid")
    async with parties(tmp_path, ("anna", "pne"), ("bert", "pne"), ("home-gw", "gateway")) as (anna, bert, gateway):
        for lamp in (anna, bert, anna):
            lamp.endpoint._homes["home-gw"] = gateway.place
            for attempt in range(2):
                try:
                    await lamp.endpoint._establish("home-gw")
                    break
                except HandshakeFailed:
                    assert attempt == 0, "the second handshake finds the credential that fits"
            await lamp.ask("home-gw", b"\xa0" + lamp.entity_id.encode())
        assert [(peer.entity_id, payload) for peer, payload in gateway.got] == [
            ("anna", b"\xa0anna"),
            ("bert", b"\xa0bert"),
            ("anna", b"\xa0anna"),
        ]


async def test_an_initiator_without_the_peers_credential_is_told_to_register_it(tmp_path):
    async with parties(tmp_path, *GATEWAY_AND_SERVER) as (gateway, server):
        gateway.store.unregister("cpns-server")
        with pytest.raises(HandshakeFailed, match="register its credential first"):
            await gateway.endpoint.connect("cpns-server", server.place)


# Starting


@only_on("udp")
async def test_a_port_in_use_is_said_in_one_sentence(tmp_path):
    async with parties(tmp_path, ("home-gw", "gateway")) as (gateway,):
        second = Party(tmp_path, "other-gw", "gateway")
        with pytest.raises(PortInUse, match="is used by another program"):
            await second.start([LOOPBACK, gateway.address])
        await second.start()
        await second.stop()


@pytest.mark.req("SEC-23")
async def test_a_store_serves_one_endpoint_at_a_time(tmp_path):
    async with parties(tmp_path, ("home-gw", "gateway")) as (gateway,):
        second = Party.__new__(Party)
        second.__dict__.update(gateway.__dict__)
        with pytest.raises(LeaseHeld):
            await second.start()


# Pairing


@pytest.mark.req("SEC-20")
async def test_both_sides_of_a_handshake_export_the_same_key_for_pairing(tmp_path):
    async with parties(tmp_path, *LAMP_AND_GATEWAY) as (lamp, gateway):
        await lamp.endpoint.connect("home-gw", gateway.place)
        key = lamp.endpoint.export("home-gw", 32768, 32)
        assert len(key) == 32
        assert gateway.endpoint.export("lamp", 32768, 32) == key
        assert gateway.endpoint.export("lamp", 32769, 32) != key


async def test_admitting_needs_a_provisional_peer(tmp_path):
    async with parties(tmp_path, *LAMP_AND_GATEWAY) as (lamp, gateway):
        with pytest.raises(NoSession):
            await gateway.endpoint.admit(Peer("lamp", "pne"))
        await lamp.endpoint.connect("home-gw", gateway.place)
        await lamp.ask("home-gw", b"\xa0")
        (ordinary, _), *_ = gateway.got
        with pytest.raises(NoSession):
            await gateway.endpoint.admit(ordinary)


@pytest.mark.req("SEC-22")
async def test_a_session_that_a_full_disk_did_not_take_is_not_used_until_it_is_there(tmp_path, monkeypatch):
    """The first request is not answered; once there is room the same session is written, and survives a restart."""
    async with parties(tmp_path, *LAMP_AND_GATEWAY) as (lamp, gateway):
        await lamp.endpoint.connect("home-gw", gateway.place)
        commit = gateway.store.commit

        def full(lease, changes=()):
            raise StoreError("database or disk is full")

        monkeypatch.setattr(gateway.store, "commit", full)
        with pytest.raises(PeerUnreachable):
            await lamp.ask("home-gw", b"\xa0", timeout_s=0.5)
        assert gateway.got == [] and not gateway.endpoint.has_session("lamp")
        monkeypatch.setattr(gateway.store, "commit", commit)
        assert await lamp.ask("home-gw", b"\xa0") == b"\xa1\xa0"
        assert [stored.sender_ceiling for stored in gateway.store.contexts()] == [tuning.NUMBERS_STEP]
        await gateway.restart()
        assert await lamp.ask("home-gw", b"\xa1") == b"\xa1\xa1"
        assert lamp.counters["handshakes_done"] == 1


async def test_a_fault_in_housekeeping_is_told_to_whoever_runs_the_endpoint(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(endpoint_module, "_HOUSEKEEPING_S", 0.01)
    async with parties(tmp_path, *LAMP_AND_GATEWAY) as (_, gateway):
        monkeypatch.setattr(gateway.endpoint._sessions, "sweep", lambda: 1 // 0)
        assert isinstance(await asyncio.wait_for(gateway.endpoint.failed, 5), ZeroDivisionError)
        assert gateway.endpoint.places == []
    assert "cannot go on" in caplog.text
