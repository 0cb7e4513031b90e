"""Sessions end by age: after 30 days that the process lived through, whatever the wall clock says (SEC-36)."""

import asyncio
import time

import pytest

from message_plane import endpoint as endpoint_module
from tests.integration.plane_world import parties

pytestmark = pytest.mark.usefixtures("each_link")

GATEWAY_AND_SERVER = ("home-gw", "gateway"), ("cpns-server", "server")


@pytest.mark.req("CPNS-GKM-50")
async def test_a_session_ends_after_thirty_days_or_2_to_the_20_messages(tmp_path, monkeypatch):
    async with parties(tmp_path, *GATEWAY_AND_SERVER) as (gateway, server):
        await gateway.endpoint.connect("cpns-server", server.place)
        await gateway.ask("cpns-server", b"\xa0")
        session = gateway.endpoint._sessions.to_send("cpns-server")
        now = asyncio.get_running_loop().time()
        assert not session.worn_out(now + 30 * 86400 - 60)
        assert session.worn_out(now + 30 * 86400 + 1)
        session.sender_sequence_number = session.ceiling = 2**20 - 1
        assert not session.worn_out(now)
        session.ceiling += 64
        session.sender_sequence_number += 1
        assert gateway.endpoint._sessions.to_send("cpns-server") is None
        assert await gateway.ask("cpns-server", b"\xa0new") == b"\xa1\xa0new"
        assert gateway.counters["handshakes_done"] == 2


@pytest.mark.req("SEC-36")
@pytest.mark.parametrize("years", [-60, 1, 80])
async def test_a_wall_clock_that_jumps_ends_no_session_whether_it_comes_back_or_not(tmp_path, monkeypatch, years):
    tidied = asyncio.Event()
    monkeypatch.setattr(endpoint_module, "_HOUSEKEEPING_S", 0.02)
    async with parties(tmp_path, *GATEWAY_AND_SERVER) as (gateway, server):
        await gateway.endpoint.connect("cpns-server", server.place)
        await gateway.ask("cpns-server", b"\xa0")
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + years * 365 * 86400)
        sweeping = gateway.endpoint._sessions.sweep
        monkeypatch.setattr(gateway.endpoint._sessions, "sweep", lambda: tidied.set() or sweeping())
        await tidied.wait()
        await gateway.restart()
        for _ in range(2):
            assert await gateway.ask("cpns-server", b"\xa0") == b"\xa1\xa0"
            monkeypatch.setattr(time, "time", real)
        assert len(gateway.store.contexts()) == 1 and not server.counters["sessions_ended"]


@pytest.mark.req("SEC-36")
async def test_a_session_ages_by_what_was_lived_through_also_over_restarts(tmp_path):
    async with parties(tmp_path, *GATEWAY_AND_SERVER) as (gateway, server):
        await gateway.endpoint.connect("cpns-server", server.place)
        await gateway.ask("cpns-server", b"\xa0")
        for day in (10, 20):
            gateway.endpoint._sessions._counted_at -= 10 * 86400
            await gateway.restart()
            assert day * 86400 <= gateway.store.contexts()[0].lived_s < day * 86400 + 60
        session = gateway.endpoint._sessions.to_send("cpns-server")
        now = asyncio.get_running_loop().time()
        assert not session.worn_out(now + 10 * 86400 - 60) and session.worn_out(now + 10 * 86400 + 1)
        gateway.endpoint._sessions._counted_at -= 3600
        await gateway.endpoint._tidy()  # after an hour of running
        lived_s = gateway.store.contexts()[0].lived_s
        assert lived_s >= 20 * 86400 + 3600
        await gateway.endpoint._tidy()  # once
        assert gateway.store.contexts()[0].lived_s == lived_s
