"""A board as VAL client: which keys it keeps, until when, and what a profile changes."""

from val_world import Flash, World
from vmtest import raises, req

from cpns import cborlite
from cpns.errors import MalformedMessage
from device_agent.key_store import KeyStore
from device_agent.val_client import records
from mikey_sakke.identifiers import NTP_OFFSET


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
