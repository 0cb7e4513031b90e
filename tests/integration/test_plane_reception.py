"""The limits of the reception, by a clock of the test's own: the share of one address, and the end of a bad one."""

import random

import pytest
from aiocoap import BAD_REQUEST, CHANGED, TOO_MANY_REQUESTS

from device_agent.cose import Credential
from device_agent.crypto import p256
from device_agent.edhoc import Initiator as InitiatorOfBoard
from message_plane import edhoc, tuning
from message_plane.edhoc import Initiator
from message_plane.links.udp import UdpAddress, UdpLink
from tests.integration.plane_world import parties

LAMP_AND_GATEWAY = (("lamp", "pne"), ("home-gw", "gateway"))
NOW = 1_000_000.0


class Door:
    """The reception of a gateway, and a genuine message_1 that anybody may have recorded."""

    def __init__(self, lamp, gateway):
        self.reception = gateway.endpoint._reception
        self.counters = gateway.counters
        self.message_1 = b"\xf5" + Initiator(lamp.identity, gateway.credential, random.randbytes(2)).message_1

    def knock(self, host, now):
        """The CoAP code of the answer to message_1 from `host`, which gets answers at that address."""
        echo = self.reception._guard.echo(at(host), now)
        return self.reception.answer(self.message_1, at(host), echo, now)[0].code


def at(host, port=5683):
    """An address of a host that no socket has to reach."""
    return UdpAddress(UdpLink([]), None, (host, port))


@pytest.fixture
async def door(tmp_path):
    async with parties(tmp_path, *LAMP_AND_GATEWAY) as (lamp, gateway):
        yield Door(lamp, gateway)


@pytest.mark.req("SEC-21")
async def test_one_address_keeps_few_handshakes_half_open_and_its_newest_is_among_them(door):
    """A board that is started again and again is not kept waiting for what it began before."""
    for step in range(8):
        assert door.knock("10.0.0.1", NOW + 2 * step) == CHANGED
        assert len(door.reception._half_open) == min(step + 1, tuning.HALF_OPEN_PER_ADDRESS)
    assert door.knock("10.0.0.2", NOW + 16) == CHANGED
    assert len(door.reception._half_open) == tuning.HALF_OPEN_PER_ADDRESS + 1


@pytest.mark.req("SEC-21", "SEC-35")
async def test_message_1_from_a_forged_address_keeps_its_owner_from_nothing(door):
    """They come in the owner's name, as many as he would be allowed and more, and nobody goes on with them."""
    assert door.knock("10.0.0.1", NOW) == CHANGED
    (waiting,) = door.reception._half_open._entries
    for step in range(100):
        door.reception.answer(door.message_1, at("10.0.0.1"), None, NOW + step / 5)
    now = NOW + 20
    assert tuning.HALF_OPEN_PER_ADDRESS < len(door.reception._half_open) <= 1 + tuning.HALF_OPEN_UNPROVEN
    assert waiting in door.reception._half_open
    assert [door.knock("10.0.0.1", now) for _ in range(3)] == [CHANGED] * 3


@pytest.mark.req("SEC-21", "SEC-35")
async def test_octets_that_break_the_library_in_message_1_are_not_held_against_a_forged_address(door, monkeypatch):
    broken = edhoc.HandshakeBroken("broken")
    broken.library_panic = True

    def panics(*arguments, **named):
        raise broken

    with monkeypatch.context() as patch:
        patch.setattr(edhoc, "Responder", panics)
        assert door.reception.answer(door.message_1, at("10.0.0.1"), None, NOW)[0].code == BAD_REQUEST
        assert door.knock("10.0.0.2", NOW) == BAD_REQUEST
    assert door.knock("10.0.0.1", NOW + 1) == CHANGED
    assert door.knock("10.0.0.2", NOW + 1) == TOO_MANY_REQUESTS


@pytest.mark.req("SEC-21")
async def test_an_address_whose_octets_break_the_library_waits_a_minute(door, monkeypatch):
    broken = edhoc.HandshakeBroken("the library gave up")
    broken.library_panic = True

    def panics(octets):
        raise broken

    with monkeypatch.context() as patch:
        patch.setattr(edhoc, "split_message_3", panics)
        assert door.reception.answer(b"anything", at("10.0.0.1"), None, NOW)[0].code == BAD_REQUEST
    assert door.knock("10.0.0.1", NOW + 1) == TOO_MANY_REQUESTS
    assert door.knock("10.0.0.2", NOW + 1) == CHANGED
    assert door.knock("10.0.0.1", NOW + 1 + tuning.PENALTY_S) == CHANGED


@pytest.mark.req("SEC-20")
async def test_a_credential_by_value_is_taken_in_an_open_window_that_accepts_it_only(tmp_path):
    """Of a stranger who knows the gateway, and needs no window to hear its credential."""
    async with parties(tmp_path, *LAMP_AND_GATEWAY) as (lamp, gateway):
        gateway.store.unregister("lamp")
        reception = gateway.endpoint._reception

        def gets_in(now):
            own, peer = (Credential.parse(party.credential.ccs) for party in (lamp, gateway))
            ephemeral = p256.private_key(random.randbytes)
            initiator = InitiatorOfBoard(own, lamp.identity.private_octets(), ephemeral, b"\1\2", peer, True)
            message_2, _ = reception.answer(b"\xf5" + steps(initiator.message_1()), at("10.0.0.1"), None, now)
            message_3 = steps(initiator.message_3(message_2.payload))
            return reception.answer(initiator.prefix_3 + message_3, at("10.0.0.1"), None, now)[0].code == CHANGED

        assert not gets_in(NOW)
        reception.open_window(lambda credential: credential == lamp.credential, NOW + 20)
        assert gets_in(NOW + 2)
        assert not gets_in(NOW + 20), "its time is over"
        reception.open_window(lambda credential: False, NOW + 60)
        assert not gets_in(NOW + 22)
        reception.open_window(lambda credential: True, NOW + 60)
        reception.close_window()
        assert not gets_in(NOW + 24)


def steps(computation):
    """What the steps of a computation of the board's come to."""
    while True:
        try:
            next(computation)
        except StopIteration as end:
            return end.value


@pytest.mark.req("SEC-20", "SEC-35")
async def test_strangers_in_a_pairing_window_give_way_to_newer_ones_but_not_before_a_board_could_finish(tmp_path):
    """At the most handshakes a second that are computed, from as many addresses as a home has, all under one name."""
    async with parties(tmp_path, *LAMP_AND_GATEWAY) as (lamp, gateway):
        sessions = gateway.endpoint._sessions

        def stranger(number, host):
            recipient_id = number.to_bytes(3, "big")
            established = edhoc.Established(lamp.credential, True, b"\1\2", recipient_id, bytes(32))
            sessions.add_as_responder(established, at(host, 1024 + number % 60_000))
            return sessions.by_recipient_id(recipient_id)

        board = stranger(0, "10.0.0.1")
        for number in range(1, int(5 * tuning.HANDSHAKES_MAX[0])):
            stranger(number, f"10.0.1.{number % 250}")
            assert not board.ended
        ours = [stranger(1 << 20 | number, "10.0.0.2") for number in range(tuning.PROVISIONAL_PER_ADDRESS + 1)]
        assert [session.ended for session in ours] == [True] + [False] * tuning.PROVISIONAL_PER_ADDRESS
        for number in range(1 << 16, (1 << 16) + 2 * tuning.PROVISIONAL_MAX):
            stranger(number, f"10.{number >> 8 & 255}.{number & 255}.1")
            assert len(sessions._provisional) <= tuning.PROVISIONAL_MAX
        assert board.ended and len(sessions._by_recipient_id) == tuning.PROVISIONAL_MAX
