"""Resources of the message plane: each with its own handler, formats, size and blocks, and none known to the engine."""

import asyncio
import contextlib
import dataclasses

import pytest
from aiocoap import GET, NON, Message

from message_plane.blockwise import TRANSFERS_PER_PEER
from message_plane.cpns_resource import PATH as CPNS
from message_plane.errors import PeerRefused, PeerUnreachable
from message_plane.resource import Answer
from tests.integration import notes_resource
from tests.integration.plane_world import Foreigner, Party

GATEWAY_AND_SERVER = (("home-gw", "gateway"), ("cpns-server", "server"))
LAMP_AND_GATEWAY = (("lamp", "pne"), ("home-gw", "gateway"))
NOTES = notes_resource.PATH

pytestmark = pytest.mark.usefixtures("each_link")


@contextlib.asynccontextmanager
async def parties_with_notes(folder, names_and_roles, *, asks=notes_resource.NOTES, answers=notes_resource.NOTES):
    """The first has a session with the second; the notes of each are as told."""
    first, second = [Party(folder, entity_id, role) for entity_id, role in names_and_roles]
    first.resources[second.role][NOTES], second.resources[first.role][NOTES] = asks, answers
    try:
        await first.start()
        await second.start()
        first.knows(second)
        second.knows(first)
        await first.endpoint.connect(second.entity_id, second.place)
        yield first, second
    finally:
        await first.stop()
        await second.stop()


async def notes(party, entity_id, body):
    return await party.endpoint.request(entity_id, body, resource=NOTES)


@pytest.mark.parametrize("names_and_roles", [GATEWAY_AND_SERVER, LAMP_AND_GATEWAY])
@pytest.mark.parametrize("length", [5, 1024, 1025, notes_resource.SIZE])
async def test_a_further_resource_travels_in_blocks_both_ways_beside_cpns(tmp_path, names_and_roles, length):
    async with parties_with_notes(tmp_path, names_and_roles) as (first, second):
        body = (b"milk, eggs; " * (length // 12 + 1))[:length]
        assert await notes(first, second.entity_id, body) == body.upper()
        assert await notes(second, first.entity_id, body) == body.upper()
        assert await first.ask(second.entity_id, b"\xa0") == b"\xa1\xa0"
        assert [message for _, message in second.got] == [b"\xa0"]


async def test_a_body_longer_than_the_resource_has_is_refused_at_either_end(tmp_path):
    small = dataclasses.replace(notes_resource.NOTES, size=3000)
    async with parties_with_notes(tmp_path, GATEWAY_AND_SERVER, answers=small) as (gateway, server):
        assert await notes(gateway, "cpns-server", b"a" * 3000) == b"A" * 3000
        with pytest.raises(PeerRefused, match=r"4\.13"):
            await notes(gateway, "cpns-server", b"a" * 3001)
        with pytest.raises(PeerUnreachable, match="at most 3000 octets"):  # it is the answer that is too long
            await notes(server, "home-gw", b"a" * 3001)


async def test_each_resource_has_transfers_of_its_own(tmp_path):
    """The first block at one path and the second at another, of one session and tag, make no body."""
    async with parties_with_notes(tmp_path, GATEWAY_AND_SERVER) as (gateway, server):
        outgoing = gateway.endpoint._outgoing
        exchange = outgoing._exchange

        async def elsewhere(session, address, payload, options, departed):
            if options["block1"][0] == 1:
                options = {**options, "uri_path": [CPNS], "content_format": 60}
            return await exchange(session, address, payload, options, departed)

        outgoing._exchange = elsewhere
        with pytest.raises(PeerRefused, match="no such transfer"):
            await notes(gateway, "cpns-server", b"a" * 2000)
        assert server.got == []


@pytest.mark.req("SEC-35")
async def test_a_peer_that_ends_no_transfer_fills_its_own_places_however_many_sessions_it_makes(tmp_path):
    async with parties_with_notes(tmp_path, GATEWAY_AND_SERVER) as (gateway, server):
        outgoing = gateway.endpoint._outgoing
        exchange = outgoing._exchange

        async def stops(session, address, payload, options, departed):
            if options["block1"][0] == 1:
                raise PeerUnreachable("the peer stops in the middle")
            return await exchange(session, address, payload, options, departed)

        outgoing._exchange = stops
        for _ in range(3):
            for _ in range(TRANSFERS_PER_PEER):
                with pytest.raises(PeerUnreachable, match="in the middle"):
                    await notes(gateway, "cpns-server", b"a" * 2000)
            await gateway.endpoint.drop("cpns-server")
            await gateway.endpoint.connect("cpns-server", server.place)
            await asyncio.sleep(1)  # HANDSHAKES_PER_ADDRESS
        assert len(server.endpoint._incoming._transfers[NOTES]) == TRANSFERS_PER_PEER


@pytest.mark.parametrize("length", [300, 301])
async def test_without_blocks_the_size_holds_for_the_one_datagram(tmp_path, length):
    answers = dataclasses.replace(notes_resource.NOTES, size=300, blocks=False)
    asks = dataclasses.replace(answers, size=1000)
    async with parties_with_notes(tmp_path, GATEWAY_AND_SERVER, asks=asks, answers=answers) as (gateway, _):
        if length <= 300:
            assert await notes(gateway, "cpns-server", b"a" * length) == b"A" * length
        else:
            with pytest.raises(PeerRefused, match=r"4\.13"):
                await notes(gateway, "cpns-server", b"a" * length)


async def test_blocks_to_a_resource_without_them_are_an_unknown_option(tmp_path):
    answers = dataclasses.replace(notes_resource.NOTES, blocks=False)
    async with parties_with_notes(tmp_path, LAMP_AND_GATEWAY, answers=answers) as (lamp, _):
        with pytest.raises(PeerRefused, match=r"4\.02"):
            await notes(lamp, "home-gw", b"a" * 2000)


async def test_a_format_that_the_resource_does_not_have_is_refused(tmp_path):
    asks = dataclasses.replace(notes_resource.NOTES, formats={60: b""})
    async with parties_with_notes(tmp_path, GATEWAY_AND_SERVER, asks=asks) as (gateway, _):
        with pytest.raises(PeerRefused, match=r"4\.15"):
            await notes(gateway, "cpns-server", b"milk")


async def test_what_is_only_asked_for_is_not_served(tmp_path):
    asks = dataclasses.replace(notes_resource.NOTES, handler=None)
    async with parties_with_notes(tmp_path, GATEWAY_AND_SERVER, asks=asks) as (gateway, server):
        assert await notes(gateway, "cpns-server", b"milk") == b"MILK"
        with pytest.raises(PeerRefused, match=r"4\.04"):
            await notes(server, "home-gw", b"milk")


@pytest.mark.req("SEC-16")
async def test_a_resource_is_there_for_the_peers_of_its_role_only(tmp_path):
    async with parties_with_notes(tmp_path, GATEWAY_AND_SERVER) as (gateway, server):
        assert await notes(gateway, "cpns-server", b"milk") == b"MILK"
        server.resources["pne"] = server.resources.pop("gateway")
        with pytest.raises(PeerRefused, match=r"4\.04"):
            await notes(gateway, "cpns-server", b"milk")


async def test_a_kind_is_announced_to_whoever_asks_for_it_or_for_all(tmp_path):
    """The answer is the list of RFC 6690; nothing else of the table shows."""
    announced = dataclasses.replace(notes_resource.NOTES, kind="house.notes")
    all_of_them = b'</cpns>;rt="keycast.gw",</house/notes>;rt="house.notes"'
    async with parties_with_notes(tmp_path, LAMP_AND_GATEWAY, answers=announced) as (_, gateway):
        stranger = await Foreigner.open()
        for query, links in (((), all_of_them), (["rt=house.notes"], all_of_them[24:]), (["rt=house"], None)):
            question = Message(code=GET, uri_path=(".well-known", "core"), uri_query=query, _mtype=NON, _mid=1)
            answer = await stranger.ask(question.encode(), gateway.place, 1.0 if links else 0.3)
            assert answer is None if links is None else answer.endswith(b"\xff" + links)
        await stranger.close()


async def test_what_follows_an_answer_begins_when_the_answer_has_left(tmp_path):
    """Here the answer waits for its turn: one exchange at a time goes to one peer (NSTART)."""
    left = asyncio.Event()

    async def slow(peer, body):
        await asyncio.sleep(0.5)  # acknowledged by then, so that the answer is an exchange of its own
        return Answer(body.upper(), left)

    answers = dataclasses.replace(notes_resource.NOTES, handler=slow)
    async with parties_with_notes(tmp_path, GATEWAY_AND_SERVER, answers=answers) as (gateway, server):
        assert await notes(gateway, "cpns-server", b"at once") == b"AT ONCE"
        assert left.is_set()
        left.clear()
        lost = server.endpoint._exchanges._messages
        send, lost._send_via_transport = lost._send_via_transport, lambda message: None
        asked = asyncio.ensure_future(server.ask("home-gw", b"\xa0"))
        await asyncio.sleep(0.1)
        lost._send_via_transport = send  # what the Server asked was lost, and is repeated after two seconds
        answered = asyncio.ensure_future(notes(gateway, "cpns-server", b"in turn"))
        await asyncio.sleep(1)
        assert not left.is_set() and not answered.done() and not asked.done()
        assert await answered == b"IN TURN"
        assert left.is_set() and await asked == b"\xa1\xa0"


async def test_what_follows_an_answer_that_cannot_leave_is_not_kept_back(tmp_path):
    left = asyncio.Event()

    async def ended(peer, body):
        server.endpoint.drop("home-gw")
        return Answer(body, left)

    answers = dataclasses.replace(notes_resource.NOTES, handler=ended)
    async with parties_with_notes(tmp_path, GATEWAY_AND_SERVER, answers=answers) as (gateway, server):
        unanswered = asyncio.ensure_future(notes(gateway, "cpns-server", b"a"))
        await asyncio.wait_for(left.wait(), 5)
        unanswered.cancel()
