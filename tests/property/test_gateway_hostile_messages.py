"""Well-formed messages with any content, from a member and from the CPNS Server, are answered or refused."""

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpns import messages, numbers
from cpns.errors import CpnsError
from tests.property import cpns_strategies
from tests.unit.gateway_world import World
from tests.virtual_time import run

SG, MEMBER, OTHER = "lights", "lamp.1", "lamp.2"
KNOWN = {messages.SG_ID: (SG, "attic"), messages.SGID: (SG, "attic"), messages.PNE_ID: (MEMBER, OTHER, "lamp.3")}


FROM_PNE = [
    numbers.CREATE_SERVICE_GROUP_REQUEST,
    numbers.DELETE_SERVICE_GROUP_REQUEST,
    numbers.GKDK_ASSIGNMENT_REQUEST,
    numbers.GROUP_KEY_DELIVERY_RESPONSE,
    numbers.JOIN_REQUEST,
    numbers.KEY_MESSAGE_REQUEST,
    numbers.KEY_PULL_REQUEST,
    numbers.LEAVE_REQUEST,
    numbers.PAIRING_REQUEST,
    numbers.TUNNEL_REQUEST,
]
FROM_SERVER = [
    numbers.DELETE_SERVICE_GROUP_REQUEST,
    numbers.GROUP_KEY_DELIVERY_REQUEST,
    numbers.INVENTORY_UPDATE_REQUEST,
    numbers.S_GROUP_KEY_DELIVERY_REQUEST,
]


@st.composite
def hostile(draw, usual):
    """A message, mostly of the `usual` codes and about the group and PNEs there are."""
    code = draw(st.sampled_from(usual) if draw(st.integers(0, 7)) else cpns_strategies.CODES)
    fields = draw(cpns_strategies.fields(code))
    for label, values in KNOWN.items():
        if isinstance(fields.get(label), str) and draw(st.integers(0, 3)):
            fields[label] = draw(st.sampled_from(values))
    if messages.GROUP_KEY_INFO in fields and draw(st.integers(0, 3)):
        fields[messages.GROUP_KEY_INFO] = (draw(st.sampled_from(KNOWN[messages.PNE_ID])), bytes(24))
    return messages.encode(code, fields)


async def after(octets, how):
    """A home with two members, given each of `octets` by `how(world, message)`; what of it must hold is checked."""
    with tempfile.TemporaryDirectory() as folder:
        world = await World(Path(folder)).start()
        try:
            await world.board(MEMBER, SG)
            other = await world.board(OTHER, SG)
            await world.server.rekey(SG)
            await world.delivered(SG)
            for message in octets:
                world.clock.ahead += 60  # patience: limits of rate are for other tests
                try:
                    answer = await how(world, message)
                except CpnsError:
                    continue
                if answer:
                    messages.decode(answer, 1 << 20)
            await asyncio.sleep(0)
            assert not world.gateway.failed.done()
            return world, other, {member.pne_id for member in world.store.inventory.members(SG)}
        finally:
            await world.close()


@pytest.mark.req("CPNS-GKM-43", "SEC-16")
@settings(max_examples=25)
@given(st.lists(hostile(FROM_PNE), min_size=1, max_size=25))
def test_a_member_can_say_what_it_likes_and_nobody_else_is_touched(octets):
    async def say(world, message):
        return await world.gateway.handle_pne(MEMBER, message)

    world, other, members = run(after(octets, say))
    assert OTHER in members and "lamp.3" not in members
    assert other.version(SG) == world.server.group(SG).version


@settings(max_examples=25)
@given(st.lists(hostile(FROM_SERVER), min_size=1, max_size=25))
def test_a_server_can_say_what_it_likes_and_the_gateway_goes_on(octets):
    async def say(world, message):
        return await world.gateway.handle_server(message)

    run(after(octets, say))


@pytest.mark.req("SEC-14")
@settings(max_examples=25)
@given(st.lists(st.binary(max_size=64) | hostile([numbers.GROUP_KEY_DELIVERY_RESPONSE]), min_size=1, max_size=25))
def test_a_radio_may_hear_what_it_likes_and_nothing_is_raised_or_confirmed(octets):
    async def hear(world, message):
        world.medium.heard(message)

    world, _, _ = run(after(octets, hear))
    assert world.gateway.counters["reports_unproven"] == len(octets)
