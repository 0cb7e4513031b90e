"""The time at which a peer was heard last: only verified messages count."""

import asyncio
import sqlite3

import pytest

from message_plane.errors import StoreError
from message_plane.identity import OwnIdentity
from tests.integration.plane_world import Wire, parties, renumbered
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("each_link")

LAMP_AND_GATEWAY = (("lamp", "pne"), ("home-gw", "gateway"))


def ago(seconds):
    return pytest.approx(seconds, abs=1)


def in_contact(gateway):
    return gateway.endpoint.contacts("pne")["lamp"].session


async def test_a_peer_was_heard_when_something_of_it_verified_from_its_handshake_on(tmp_path):
    async with parties(tmp_path, *LAMP_AND_GATEWAY) as (lamp, gateway):
        assert not in_contact(gateway) and gateway.endpoint.last_heard("lamp") is None
        wire = await Wire.open(gateway.place)
        await lamp.endpoint.connect("home-gw", wire.place)
        await until(lambda: in_contact(gateway))
        assert gateway.endpoint.last_heard("lamp").age_s == ago(0)
        await asyncio.sleep(100)
        assert gateway.endpoint.last_heard("lamp").age_s == ago(100)
        await lamp.ask("home-gw", b"\xa0")
        assert gateway.endpoint.last_heard("lamp").age_s == ago(0)
        assert gateway.endpoint.last_heard("lamp").place == wire.place
        await asyncio.sleep(100)
        wire.repeat_to_server(renumbered(wire.to_server[-1]))
        await until(lambda: gateway.counters["requests_replayed"] == 1)
        assert gateway.endpoint.last_heard("lamp").age_s == ago(100)
        assert await gateway.ask("lamp", b"\xa0key") == b"\xa1\xa0key"  # its answer counts too
        assert gateway.endpoint.last_heard("lamp").age_s == ago(0)
        await wire.close()


async def test_who_asks_for_a_session_while_the_store_cannot_be_read_hears_of_none(tmp_path, monkeypatch):
    """These questions are asked in the middle of other work, which must not end with the store's fault."""

    class Broken:
        def execute(self, *_):
            raise sqlite3.OperationalError("disk I/O error")

    async with parties(tmp_path, *LAMP_AND_GATEWAY) as (lamp, gateway):
        await lamp.endpoint.connect("home-gw", gateway.place)
        await lamp.ask("home-gw", b"\xa0")
        there = gateway.endpoint
        assert there.has_session("lamp") and in_contact(gateway) and there.last_heard("lamp") is not None
        with monkeypatch.context() as patched:
            patched.setattr(gateway.store, "_view", Broken())
            assert not there.has_session("lamp") and there.last_heard("lamp") is None
            with pytest.raises(StoreError):
                await gateway.ask("lamp", b"\xa0")
        assert there.has_session("lamp") and in_contact(gateway) and there.last_heard("lamp") is not None


async def test_all_contacts_at_once_are_those_of_registered_entities_of_the_role(tmp_path):
    async with parties(tmp_path, *LAMP_AND_GATEWAY) as (lamp, gateway):
        there = gateway.endpoint
        assert there.contacts("pne") == {"lamp": (False, None)} and there.contacts("server") == {}
        await lamp.endpoint.connect("home-gw", gateway.place)
        await lamp.ask("home-gw", b"\xa0")
        await asyncio.sleep(100)
        contact = there.contacts("pne")["lamp"]
        assert contact.session and contact.heard.place and contact.heard.age_s == ago(100)
        assert set(lamp.endpoint.contacts("gateway")) == {"home-gw"} and lamp.endpoint.contacts("pne") == {}
        gateway.store.unregister("lamp")
        assert there.contacts("pne") == {}, "though its session is still in memory"
        gateway.store.register(OwnIdentity.new("lamp", "pne").credential)
        assert there.contacts("pne") == {"lamp": (False, None)}, "the session was made with another key (SEC-32)"
