"""A process that did not run for longer than its lease, as on a busy machine, goes on when it runs again, unless
another process has taken the lease meanwhile (SEC-23)."""

import asyncio

import pytest

from message_plane import holder
from message_plane.errors import LeaseLost, PeerUnreachable
from message_plane.lease import LEASE_MS
from message_plane.session_file import SessionFile
from message_plane.sessions import _RENEWALS
from tests.integration.plane_world import UNCONNECTED, parties
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("each_link")

LAMP_AND_GATEWAY = ("lamp", "pne"), ("home-gw", "gateway")


@pytest.fixture
def machine(monkeypatch):
    """`sleeps` lets so much time pass that every lease lapses, and nothing runs meanwhile."""

    class Machine:
        ahead_ms = 0

        def sleeps(self):
            self.ahead_ms += LEASE_MS + 1

    machine, real = Machine(), holder.boot_milliseconds
    monkeypatch.setattr(holder, "boot_milliseconds", lambda: real() + machine.ahead_ms)
    return machine


async def _ready(lamp, gateway):
    await lamp.endpoint.connect("home-gw", gateway.place)
    assert await lamp.ask("home-gw", b"first") == b"\xa1first"


def _take_over(party):
    """Another process takes the sessions of this one."""
    store = SessionFile(party.folder / f"{party.entity_id}.db")
    store.release(store.acquire(party.identity.x))
    store.close()


@pytest.mark.req("SEC-23")
async def test_a_request_under_way_when_the_lease_lapses_is_answered(tmp_path, machine, caplog):
    async with parties(tmp_path, *LAMP_AND_GATEWAY) as (lamp, gateway):
        await _ready(lamp, gateway)
        token = gateway.endpoint._lease.token

        def answer(payload):
            machine.sleeps()
            assert not gateway.endpoint._lease.valid
            return b"\xa1" + payload

        gateway.answer = answer
        assert await lamp.ask("home-gw", b"second") == b"\xa1second"
        assert gateway.counters["requests_repeated"] == 0, "at the first try"
        assert gateway.counters["leases_lapsed"] == 1 and gateway.endpoint._lease.token == token
        assert "KC3009" not in caplog.text


@pytest.mark.req("SEC-23")
async def test_requests_read_after_a_lapse_are_processed_once_when_the_lease_is_renewed(tmp_path, machine):
    async with parties(tmp_path, *LAMP_AND_GATEWAY) as (lamp, gateway):
        await _ready(lamp, gateway)
        received = gateway.counters["datagrams_received"]
        machine.sleeps()
        asked = [asyncio.ensure_future(lamp.ask("home-gw", b"%d" % number)) for number in range(3)]
        assert await asyncio.gather(*asked) == [b"\xa1%d" % number for number in range(3)]
        assert sorted(payload for _, payload in gateway.got) == [b"0", b"1", b"2", b"first"]
        assert gateway.counters["leases_lapsed"] and not gateway.counters["requests_replayed"]
        assert gateway.counters["datagrams_received"] - received == 3, "none was repeated"


@UNCONNECTED
@pytest.mark.req("SEC-23")
async def test_copies_of_a_request_that_wait_together_are_one_request(tmp_path, machine):
    async with parties(tmp_path, *LAMP_AND_GATEWAY) as (lamp, gateway):
        await _ready(lamp, gateway)
        link = (await lamp.endpoint._exchanges.links.find(gateway.place)).link
        send = link.send
        link.send = lambda *datagram: [send(*datagram) for _ in range(3)]
        machine.sleeps()
        assert await lamp.ask("home-gw", b"thrice") == b"\xa1thrice"
        link.send = send
        assert [payload for _, payload in gateway.got] == [b"first", b"thrice"]
        assert not gateway.counters["requests_replayed"]


@pytest.mark.req("SEC-23")
async def test_own_requests_are_sent_after_a_lapse(tmp_path, machine):
    async with parties(tmp_path, *LAMP_AND_GATEWAY) as (lamp, gateway):
        await _ready(lamp, gateway)
        for _ in range(3):
            machine.sleeps()
            assert await lamp.ask("home-gw", b"later") == b"\xa1later"


@pytest.mark.req("SEC-23")
async def test_nothing_is_sent_or_accepted_if_the_lease_was_taken_meanwhile(tmp_path, machine, caplog):
    async with parties(tmp_path, *LAMP_AND_GATEWAY) as (lamp, gateway):
        await _ready(lamp, gateway)
        machine.sleeps()
        _take_over(gateway)
        heard = lamp.counters["datagrams_received"]
        with pytest.raises(PeerUnreachable):
            await lamp.ask("home-gw", b"too late", timeout_s=2)
        with pytest.raises(LeaseLost, match="taken over"):
            await gateway.ask("lamp", b"too late")
        assert [payload for _, payload in gateway.got] == [b"first"]
        assert lamp.counters["datagrams_received"] == heard and "KC3007" in caplog.text
        await until(gateway.endpoint.failed.done)
        assert isinstance(gateway.endpoint.failed.result(), LeaseLost)


@pytest.mark.req("SEC-23")
async def test_an_answer_is_not_sent_if_the_lease_was_taken_while_it_was_made(tmp_path, machine, caplog):
    async with parties(tmp_path, *LAMP_AND_GATEWAY) as (lamp, gateway):
        await _ready(lamp, gateway)

        def answer(payload):
            machine.sleeps()
            _take_over(gateway)
            return b"\xa0"

        gateway.answer = answer
        with pytest.raises(PeerUnreachable):
            await lamp.ask("home-gw", b"second", timeout_s=2)
        assert gateway.endpoint._lease.lost and "KC3009" in caplog.text


@pytest.mark.req("SEC-23")
async def test_a_lease_that_lapses_in_each_renewal_is_given_up_for_this_request(tmp_path, machine, monkeypatch):
    async with parties(tmp_path, *LAMP_AND_GATEWAY) as (lamp, gateway):
        await _ready(lamp, gateway)
        queue, renewals = lamp.endpoint._queue, []
        renew = queue.renew

        async def slow(lease):
            renewals.append(lease)
            await renew(lease)
            machine.sleeps()

        monkeypatch.setattr(queue, "renew", slow)
        machine.sleeps()
        with pytest.raises(LeaseLost, match="lapsed"):
            await lamp.ask("home-gw", b"second")
        assert len(renewals) == _RENEWALS
        monkeypatch.setattr(queue, "renew", renew)
        assert await lamp.ask("home-gw", b"third") == b"\xa1third"
