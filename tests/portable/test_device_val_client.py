"""A board as VAL client: how it answers notices of a group management server."""

import os

from val_world import World
from vmtest import raises, req

from cpns import cborlite
from cpns.errors import MalformedMessage
from device_agent.val_client import key_cache, records
from mikey_sakke.curve import run
from mikey_sakke.endpoint_key import endpoint_key, proof

FIRST = ("01234567", "000102030405060708090a0b0c0d0e0f")
NEXT = ("0234abcd", "101112131415161718191a1b1c1d1e1f")


@req("SEAL-GMK-27", "SEAL-GMK-29", "SEAL-GMK-30", "SEAL-GMK-32", "SEAL-GMK-33", "SEAL-GMK-34", "SEAL-GMK-35")
def test_notices_one_after_the_other():
    world = World()
    world.prepare()
    try:
        gmk_id, shown, _ = world.notice("first key")
        assert gmk_id.hex() == FIRST[0] and world.keys == [FIRST]
        gmk = records.load_gmks(world.store)[0]
        key = endpoint_key(gmk.gmk, "group-management", world.user, gmk.guk_id)
        assert key == gmk.endpoint_key and shown == proof(key, "n-1", gmk_id)
        assert (gmk.groups, gmk.text, gmk.gms) == ([world.group], "kitchen", world.gms)
        assert FIRST[1] not in repr(gmk)

        assert world.notice("first key")[0] == gmk_id  # repeated
        assert world.keys == [FIRST]
        assert world.notice("another key under the first GMK-ID")[2] == "duplicate-key-id"
        assert world.notice("group of nobody")[2] == "unauthorised-group"
        assert world.notice("without group")[2] == "bad-parameters"
        assert world.notice("expired")[2] == "expired"
        assert world.notice("next key", gms="sip:gms@elsewhere.example")[2] == "wrong-initiator"
        assert world.notice("next key", now=1)[2] == "outside-window"
        assert world.notice("next key", purpose="revocation")[2] == "bad-parameters"
        changed = bytearray(world.message("next key")[0])
        changed[300] ^= 1
        assert world.notice("next key", octets=bytes(changed))[2] == "bad-signature"
        assert world.notice("next key", octets=bytes(changed[:-1]))[2] == "malformed"
        assert world.keys == [FIRST]

        assert world.notice("next key", now=0)[0].hex() == NEXT[0]  # a board that knows no time
        assert world.keys == [FIRST, NEXT]
        now = world.message("next key")[1]
        assert records.sending_gmk(records.load_gmks(world.store), world.group, now).gmk_id.hex() == NEXT[0]

        world.notice("revocation of the first key", purpose="revocation")
        assert world.keys == [NEXT, (FIRST[0], "")]
        assert world.notice("first key")[2] == "revoked"
    finally:
        key_cache.erase(world.client.path(world.number))


def test_key_material_of_a_period_that_ended_is_deleted():
    world = World()
    path = world.client.path(world.number)
    world.prepare()
    end = world.message("next key")[1]
    world.prepare(end)
    os.stat(path)
    world.prepare(end + records.load_client(world.store).period)
    with raises(OSError):
        os.stat(path)
    assert records.load_rsks(world.store) == {}
    assert world.notice("next key")[2] == "no-key-for-period"


def test_what_is_no_notice_has_no_answer():
    world = World()
    for value in ([], ["n", "key", "gms", "text"], ["", "key", "gms", b"x"], ["n", "other", "gms", b"x"], 7):
        with raises(MalformedMessage):
            run(world.client.receive(cborlite.encode(value), 0))
