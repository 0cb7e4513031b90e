"""A board as VAL client: its cache of one RSK, and what it does with notices of a group management server."""

import json
import os

from vmtest import raises, req

from cpns import cborlite
from cpns.errors import MalformedMessage
from device_agent.key_store import KeyStore
from device_agent.val_client import key_cache, records
from device_agent.val_client.client import BoardClient
from mikey_sakke import sakke
from mikey_sakke.curve import run
from mikey_sakke.endpoint_key import endpoint_key, proof
from mikey_sakke.identifiers import NTP_OFFSET

FOLDER = "build/val-cache-%d-" % id(object())
VM_HEAP_KIB = 96
if "build" not in os.listdir():
    os.mkdir("build")


class Flash:
    """A Storage in the heap."""

    def __init__(self):
        self.kept = {}

    def get(self, name):
        return self.kept.get(name)

    def set(self, name, octets):
        self.kept[name] = bytes(octets)

    def delete(self, name):
        self.kept.pop(name, None)

    def commit(self):
        pass


def vectors(name):
    with open("tests/vectors/%s.json" % name) as file:
        return json.load(file)


def unhex(text):
    return bytes.fromhex(text)


def exists(path):
    try:
        os.stat(path)
    except OSError:
        return False
    return True


def rfc_6508():
    """(identifier, Z, RSK, Encapsulated Data, SSV) of the RFC's example."""
    data = vectors("rfc6508")
    given, expected = data["inputs"], data["expected"]
    return (
        unhex(given["b"]),
        unhex(expected["Z"]),
        unhex(expected["rsk"]),
        unhex(expected["encapsulated"]),
        unhex(given["ssv"]),
    )


def decapsulated(path, identifier, z, rsk, data):
    cache = key_cache.KeyCache(path, identifier, z, rsk)
    try:
        return sakke.DecryptionKey(cache, identifier, rsk, lambda point: cache).decapsulate(data)
    finally:
        cache.close()


def change_octet(path, place):
    with open(path, "r+b") as file:
        file.seek(place)
        octet = file.read(1)[0]
        file.seek(place)
        file.write(bytes([octet ^ 1]))


@req("SEAL-GMK-28")
def test_cache_decapsulates_and_every_damage_is_found():
    identifier, z, rsk, data, ssv = rfc_6508()
    path = FOLDER + "rfc"
    last = 0
    for percent in key_cache.build_steps(path, identifier, z, rsk):
        assert last <= percent <= 100
        last = percent
    try:
        assert decapsulated(path, identifier, z, rsk, data) == ssv
        with raises(sakke.NotDecapsulated):
            decapsulated(path, identifier, z, rsk, data[:-1] + bytes([data[-1] ^ 1]))
        with raises(key_cache.Damaged):
            decapsulated(path, b"somebody else", z, rsk, data)
        for place in (3, 10, 100000, os.stat(path)[6] - 1):  # magic, fingerprint, a function, its last octet
            change_octet(path, place)
            with raises(key_cache.Damaged):
                decapsulated(path, identifier, z, rsk, data)
            change_octet(path, place)
        assert decapsulated(path, identifier, z, rsk, data) == ssv
    finally:
        key_cache.erase(path)
    assert not exists(path)
    with raises(OSError):
        decapsulated(path, identifier, z, rsk, data)


def test_power_cut_while_the_cache_is_made_leaves_the_old_one_or_none():
    identifier, z, rsk, data, ssv = rfc_6508()
    path = FOLDER + "cut"
    with open(path, "wb") as file:
        file.write(b"the old one")
    for yields in (1, 60, 500):
        steps = key_cache.build_steps(path, identifier, z, rsk)
        for _ in range(yields):
            next(steps)
        del steps
        with open(path, "rb") as file:
            assert file.read() == b"the old one"
    run(key_cache.build_steps(path, identifier, z, rsk))  # over what the cut left behind
    assert not exists(path + "~")
    assert decapsulated(path, identifier, z, rsk, data) == ssv
    key_cache.erase(path)


@req("SEAL-GMK-28")
def test_key_of_somebody_else_never_becomes_a_cache():
    _, z, rsk, _, _ = rfc_6508()
    path = FOLDER + "foreign"
    with raises(sakke.BadKey):
        run(key_cache.build_steps(path, b"somebody else", z, rsk))
    assert not exists(path)
    key_cache.erase(path)


class World:
    """Alice's board, provisioned, with its cache."""

    def __init__(self):
        public = vectors("mikey_sakke_public")
        kms, user = public["kms"], public["users"]["Alice"]
        given = vectors("board_val_client")
        self.gms = given["gms"]
        self.number = user["key_period_no"]
        self.group = given["group"]
        self.store = KeyStore(Flash())
        client = records.Client(
            user["user_uri"],
            kms["kms_uri"],
            kms["user_key_period"],
            kms["user_key_offset"],
            unhex(kms["pub_auth_key"]),
            unhex(kms["pub_enc_key"]),
            {self.group: self.gms},
        )
        self.store.save(records.PROVISIONING, records.pack_client(client))
        records.save_rsks(self.store, {self.number: unhex(user["user_decrypt_key"])})
        self.client = BoardClient(self.store, FOLDER, records.load_client(self.store))
        self.user = user["user_uri"]

    def prepare(self, unix_time=0):
        run(self.client.prepare(unix_time, lambda number, percent: None))

    def message(self, name):
        """Return (octets, Unix seconds) of a message of the file, one line of which is in the heap at a time."""
        with open("tests/vectors/board_val_client_messages.jsonl") as file:
            for line in file:
                each = json.loads(line)
                if each["name"] == name:
                    return unhex(each["i_message_hex"]), each["ntp_seconds"] - NTP_OFFSET

    def notice(self, name, purpose="key", gms=None, now=None, octets=None):
        """-> (GMK-ID, proof, error code) of the answer."""
        message, sent = self.message(name)
        octets = cborlite.encode(["n-1", purpose, gms or self.gms, octets or message])
        unix_time = sent if now is None else now
        answered, gmk_id, shown, code, text = cborlite.decode(run(self.client.receive(octets, unix_time)))
        assert answered == "n-1" and bool(code) == bool(text) != bool(gmk_id)
        return gmk_id, shown, code

    @property
    def keys(self):
        found = records.load_gmks(self.store)
        return [(gmk.gmk_id.hex(), gmk.gmk.hex() if gmk.gmk else "") for gmk in found]  # b"".hex() differs on the VM


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


def test_the_sixth_key_takes_the_place_of_one_that_can_be_spared_or_of_none():
    def gmk(name, groups, key=b"k"):
        return records.Gmk(name, key, b"", "", groups, 0, 0, "", 1, b"", b"")

    def left(*gmks):
        found = list(gmks)
        records.make_room(found)
        return [each.gmk_id for each in found]

    alone = [gmk(bytes([48 + number]), ["g%d" % number]) for number in range(5)]
    assert left(*alone) == [b"0", b"1", b"2", b"3", b"4"]
    with raises(OSError):
        left(*(alone + [gmk(b"new", ["g5"])]))
    assert left(*(alone + [gmk(b"new", ["g2", "g5"])])) == [b"0", b"1", b"3", b"4", b"new"]
    assert left(*(alone[:1] + [gmk(b"gone", ["g0"], b"")] + alone[1:])) == [b"0", b"1", b"2", b"3", b"4"]
    both = gmk(b"both", ["g0", "g1"])  # a part of its groups has a later one: it stays
    with raises(OSError):
        left(*([both] + alone[1:] + [gmk(b"new", ["g5"])]))


def test_key_material_of_a_period_that_ended_is_deleted():
    world = World()
    path = world.client.path(world.number)
    world.prepare()
    end = world.message("next key")[1]
    world.prepare(end)
    assert exists(path)
    world.prepare(end + records.load_client(world.store).period)
    assert not exists(path) and records.load_rsks(world.store) == {}
    assert world.notice("next key")[2] == "no-key-for-period"


def test_what_is_no_notice_has_no_answer():
    world = World()
    for value in ([], ["n", "key", "gms", "text"], ["", "key", "gms", b"x"], ["n", "other", "gms", b"x"], 7):
        with raises(MalformedMessage):
            run(world.client.receive(cborlite.encode(value), 0))


def test_the_board_knows_when_its_keys_end():
    world = World()
    client = records.load_client(world.store)
    end = (world.number + 1) * client.period + client.offset - NTP_OFFSET
    assert records.keys_end(world.store) == end
    records.save_rsks(world.store, {})
    assert records.keys_end(world.store) == 0 == records.keys_end(KeyStore(Flash()))


def profile_of(groups):
    return cborlite.encode(["", "profile", "7", cborlite.encode([list(each) for each in groups])])


@req("SEAL-GMK-36", "SEAL-GMK-45", "SEAL-GMK-47")
def test_a_profile_without_a_group_deletes_its_keys_but_those_that_serve_another():
    world = World()
    other = "sip:other@gms.example.org"
    for gmk_id, groups in ((b"only", [world.group]), (b"both", [world.group, other])):
        gmks = records.load_gmks(world.store)
        gmks.append(records.Gmk(gmk_id, b"k" * 16, b"guk ", world.gms, groups, 0, 0, "", 1, b"digest", b"e" * 16))
        records.save_gmks(world.store, gmks)
    answer = records.take_profile(world.store, profile_of([(world.group, world.gms), (other, world.gms)]))
    assert cborlite.decode(answer) == ["", b"", b"", "", "7"]
    assert [gmk.gmk_id for gmk in records.load_gmks(world.store)] == [b"only", b"both"]
    records.take_profile(world.store, profile_of([(other, world.gms)]))
    assert [(gmk.gmk_id, gmk.groups) for gmk in records.load_gmks(world.store)] == [(b"both", [other])]
    records.take_profile(world.store, profile_of([]))
    assert records.load_gmks(world.store) == [] and records.load_client(world.store).groups == {}
    records.take_profile(world.store, profile_of([(world.group, world.gms)]))
    assert records.load_client(world.store).groups == {world.group: world.gms}


def test_a_profile_names_no_server_that_the_board_was_not_provisioned_for():
    world = World()
    records.take_profile(world.store, profile_of([(world.group, "sip:gms@elsewhere.example"), ("sip:g", world.gms)]))
    assert records.load_client(world.store).groups == {"sip:g": world.gms}


def test_what_is_no_profile_changes_nothing():
    world = World()
    assert records.take_profile(world.store, cborlite.encode(["n-1", "key", world.gms, b"x"])) is None
    for groups in (7, [["g"]], [["g", 7]], ["gg"]):
        with raises(MalformedMessage):
            records.take_profile(world.store, cborlite.encode(["", "profile", "7", cborlite.encode(groups)]))
    with raises(MalformedMessage):
        records.take_profile(world.store, cborlite.encode(["", "profile", 7, b"\x80"]))
    assert records.load_client(world.store).groups == {world.group: world.gms}
    with raises(MalformedMessage):
        records.take_profile(KeyStore(Flash()), profile_of([]))
