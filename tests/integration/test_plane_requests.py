"""Requests of an endpoint on the message plane: what they wait for, and how long."""

import asyncio

import pytest

from message_plane.errors import PeerUnreachable
from tests.integration.plane_world import Wire, parties
from tests.waiting import until

GATEWAY_AND_SERVER = (("home-gw", "gateway"), ("cpns-server", "server"))

pytestmark = pytest.mark.usefixtures("each_link")


@pytest.mark.parametrize("places", [1, 256])
async def test_the_time_limit_of_a_request_runs_from_when_it_goes_out(tmp_path, places):
    """Behind another it waits for a place, or for its turn with the peer (NSTART): that says nothing of the peer."""
    async with parties(tmp_path, *GATEWAY_AND_SERVER) as (gateway, server):
        gateway.endpoint._places = asyncio.Semaphore(places)
        wire = await Wire.open(server.place)
        await gateway.endpoint.connect("cpns-server", wire.place)
        await gateway.ask("cpns-server", b"\xa0")
        lost = []
        first = asyncio.ensure_future(gateway.ask("cpns-server", b"\xa0first", timeout_s=2.0))
        wire.judge = lambda data, towards_server: lost.append(data) if towards_server and not first.done() else data
        await until(lambda: lost)
        second = asyncio.ensure_future(gateway.ask("cpns-server", b"\xa0second", timeout_s=1.5))
        with pytest.raises(PeerUnreachable):
            await first
        assert await second == b"\xa1\xa0second"
        await wire.close()
