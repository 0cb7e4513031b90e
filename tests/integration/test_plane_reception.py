"""The limits of the reception, by a clock of the test's own: what one address may have, and what a bad one gets."""

import random

import pytest
from aiocoap import BAD_REQUEST, CHANGED, SERVICE_UNAVAILABLE, TOO_MANY_REQUESTS

from message_plane import edhoc, tuning
from message_plane.edhoc import Initiator
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
        echo = self.reception._guard.echo(host, 5683, now)
        return self.reception.answer(self.message_1, host, 5683, echo, now)[0].code


@pytest.fixture
async def door(tmp_path):
    async with parties(tmp_path, *LAMP_AND_GATEWAY) as (lamp, gateway):
        yield Door(lamp, gateway)


@pytest.mark.req("SEC-21")
async def test_one_address_keeps_few_handshakes_half_open_and_others_are_served_meanwhile(door):
    answers = [door.knock("10.0.0.1", NOW + 2 * step) for step in range(8)]
    most = tuning.HALF_OPEN_PER_ADDRESS
    assert answers == [CHANGED] * most + [SERVICE_UNAVAILABLE] * (8 - most)
    assert door.counters["handshakes_started"] == most  # nothing was computed for the others
    assert door.knock("10.0.0.2", NOW + 16) == CHANGED
    assert door.knock("10.0.0.1", NOW + 16 + tuning.HALF_OPEN_S) == CHANGED


@pytest.mark.req("SEC-21")
async def test_an_address_whose_octets_break_the_library_waits_a_minute(door, monkeypatch):
    broken = edhoc.HandshakeBroken("the library gave up")
    broken.library_panic = True

    def panics(octets):
        raise broken

    with monkeypatch.context() as patch:
        patch.setattr(edhoc, "split_message_3", panics)
        assert door.reception.answer(b"anything", "10.0.0.1", 5683, None, NOW)[0].code == BAD_REQUEST
    assert door.knock("10.0.0.1", NOW + 1) == TOO_MANY_REQUESTS
    assert door.knock("10.0.0.2", NOW + 1) == CHANGED
    assert door.knock("10.0.0.1", NOW + 1 + tuning.PENALTY_S) == CHANGED
