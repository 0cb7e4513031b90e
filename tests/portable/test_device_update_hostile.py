"""Frames and manifests that are forged, replayed, mixed or out of place: each costs one hash and is counted."""

import gc
import sys

import device_world  # noqa: F401 - the stack of the VM has no room for imports within imports
from update_world import TREE_GENERATION, Update, member, record
from vmtest import req

from device_agent import tuning
from suit import erasure, frames
from suit import numbers as n

VM_HEAP_KIB = 256  # the PNE, its PN GW and the images in one heap

STRANGER = bytes(31) + b"\x0c"


def collecting(update):
    """A World whose PNE collects `update`, has its pages and frames 0 and 1, and Offers that broadcast it."""
    world, offers = member()
    offers.update, offers.by_air = update, 3600
    offers.ask()
    world.run_for(tuning.UPDATE_LEISURE)
    world.hear(update.manifest(world))
    for index in range(len(update.pages)):
        world.hear(update.aired(n.PAGE, index))
    for index in (0, 1):
        world.hear(update.aired(n.FRAME, index))
    world.agent.receiver.refused.clear()
    return world, offers


class Hashes:
    """Counts the hashes of frames and pages that are computed, by the module that is loaded at the moment."""

    def __enter__(self):
        self.count = 0
        self._frames = sys.modules["suit.frames"]
        self._hashed = self._frames.hashed
        self._frames.hashed = self._counted
        return self

    def __exit__(self, *error):
        self._frames.hashed = self._hashed

    def _counted(self, octets):
        self.count += 1
        return self._hashed(octets)


@req("SEC-10", "SEC-30")
def test_a_flood_of_forged_frames_costs_one_hash_each_and_spoils_nothing():
    update = Update(blocks=9)
    world, _ = collecting(update)
    collection = world.updates.collection
    with Hashes() as hashes:
        for number in range(500):
            forged = number.to_bytes(2, "big") * 512
            world.hear(update.aired(n.FRAME, 2 + number % (update.code.frames - 2), forged))
    assert hashes.count == 500
    assert world.agent.receiver.refused == {"forged": 500}
    assert sorted(collection.frames) == [0, 1]
    for index in range(2, 9):
        world.hear(update.aired(n.FRAME, index))
    assert update.held_in(collection) and collection.flushed
    assert world.agent.receiver.verifications == 1


def test_what_does_not_belong_to_the_update_has_a_counter_each_and_costs_no_hash():
    update, other = Update(blocks=9), Update(6, blocks=9, seed=b"other")
    world, _ = collecting(update)
    datagrams = [
        ("other update", other.aired(n.FRAME, 3)),
        ("other update", other.aired(n.PAGE, 0)),
        ("other update", other.manifest(world)),
        ("duplicate", update.aired(n.FRAME, 1)),
        ("duplicate", update.aired(n.PAGE, 0)),
        ("duplicate", update.manifest(world)),
        ("out of range", update.aired(n.FRAME, update.code.frames, bytes(n.BLOCK))),
        ("out of range", update.aired(n.FRAME, 65535, bytes(n.BLOCK))),
        ("out of range", update.aired(n.PAGE, 1, bytes(16))),
        ("out of range", update.aired(n.PAGE, 65535, bytes(16))),
        ("MalformedMessage", update.aired(n.FRAME, 3)[:-1]),
        ("MalformedMessage", update.aired(n.FRAME, 3) + b"x"),
        ("MalformedMessage", b"\x55"),
        ("MalformedMessage", b"\x55\x03" + update.aired(n.FRAME, 3)[2:]),
        ("MalformedMessage", update.aired(n.PAGE, 0) + b"x"),
    ]
    with Hashes() as hashes:
        for name, datagram in datagrams:
            world.agent.receiver.refused.clear()
            world.hear(datagram)
            assert world.agent.receiver.refused == {name: 1}, name
    assert not hashes.count
    assert sorted(world.updates.collection.frames) == [0, 1] and world.updates.begun == 1


@req("SEC-10")
def test_the_frames_of_two_images_do_not_mix():
    one, two = Update(blocks=9), Update(6, blocks=9, seed=b"other")
    world, _ = collecting(one)
    for index in range(one.code.frames):
        mixed = two.frame(index)
        world.hear(one.aired(n.FRAME, index, mixed))
        world.hear(two.aired(n.FRAME, index))
        world.hear(one.aired(n.FRAME, index))
    assert one.held_in(world.updates.collection) and world.updates.collection.flushed


@req("SEC-10")
def test_a_forged_page_is_not_stored():
    update = Update(blocks=50)
    world, _ = member()
    world.hear(update.manifest(world))
    forged = frames.hashed(b"x" * n.BLOCK) * 64
    world.hear(update.aired(n.PAGE, 0, forged))
    world.hear(update.aired(n.PAGE, 1, forged[:16]))
    world.hear(update.aired(n.FRAME, 0, b"x" * n.BLOCK))
    assert world.agent.receiver.refused == {"forged": 2, "no page": 1}
    assert not world.updates.collection.pages and not world.updates.collection.frames


@req("SEC-09", "SEC-30")
def test_an_outsider_does_not_reach_the_signature_of_a_manifest():
    world, _ = member()
    update = Update()
    genuine = update.manifest(world)
    for place in range(12, len(genuine), 7):
        changed = bytearray(genuine)
        changed[place] ^= 1
        world.hear(bytes(changed))
        world.clock.ms += tuning.UPDATE_LOOK_EVERY
    receiver = world.agent.receiver
    assert receiver.verifications == 0 and world.updates.begun == 0
    assert set(receiver.refused) <= {"NotAuthentic", "Unknown"}
    world.hear(genuine)
    assert world.updates.begun == 1


@req("SEC-09")
def test_a_flood_of_manifests_is_looked_at_once_a_second():
    world, _ = member()
    for number in range(1000):  # ten seconds
        world.hear(frames.build(n.ENVELOPE, number.to_bytes(8, "big"), 0, b"\0\1" + bytes(700)))
        world.run_for(10)
    refused = world.agent.receiver.refused
    assert 9 <= refused["NotAuthentic"] <= 11 and sum(refused.values()) == 1000
    assert world.agent.receiver.verifications == 0
    world.run_for(1000)
    world.hear(Update().manifest(world))
    assert world.updates.begun == 1


@req("SEC-09", "SEC-30")
def test_a_member_who_forges_signatures_is_ignored_as_with_deletes():
    world, offers = member()
    forged = [Update(5 + each, private=STRANGER) for each in range(4)]
    for second in range(600):
        world.hear(forged[second % 4].manifest(world))
        world.run_for(1000)
    assert world.agent.receiver.verifications <= 15  # 3, then silence of 60, 120, 240 s
    assert world.updates.begun == 0 and set(offers.states()) <= {(n.IDLE, 0, 0)}


@req("SEC-09", "SEC-30")
def test_a_bad_manifest_that_is_repeated_is_verified_once():
    world, _ = member()
    forged = [Update(5 + each, private=STRANGER) for each in range(2)]
    for second in range(600):
        world.hear(forged[second % 2].manifest(world))
        world.run_for(1000)
    receiver = world.agent.receiver
    assert receiver.verifications == 2 and receiver.refused == {"NotAuthentic": 598}
    for each in range(20):  # what is remembered is bounded
        world.hear(Update(9 + each, private=STRANGER).manifest(world))
        world.run_for(3600000)
    assert len(world.agent.updating.limiter.seen) == 3
    update = Update()
    world.hear(update.manifest(world))
    assert world.updates.begun == 1


@req("SEC-09", "SEC-10", "SEC-30")
def test_a_flood_while_an_update_is_collected_costs_a_hash_for_each_forged_frame_and_no_heap():
    """Frames and manifests of this update and of others, by a stranger and by a member."""
    update, forged = Update(blocks=9), Update(6, private=STRANGER)
    world, _ = collecting(update)
    verified = world.agent.receiver.verifications
    flood = [update.manifest(world, forged.envelope), forged.manifest(world), forged.aired(n.FRAME, 0)]
    flood.append(frames.build(n.ENVELOPE, update.id, 0, b"\0\1" + bytes(700)))
    places, in_use = list(range(2, update.code.frames)), []
    with Hashes() as hashes:
        for number in range(600):
            world.hear(update.aired(n.FRAME, places[number % len(places)], number.to_bytes(2, "big") * 512))
            for datagram in flood:
                world.hear(datagram)
            if number in (100, 599):
                in_use.append(heap())
    assert hashes.count == 600 and world.agent.receiver.verifications == verified
    assert in_use[1] - in_use[0] < 512, in_use
    for index in range(2, 9):
        world.hear(update.aired(n.FRAME, index))
    assert update.held_in(world.updates.collection) and world.updates.collection.flushed


def heap():
    """Octets of the heap that are in use; Python on Linux does not tell."""
    gc.collect()
    return gc.mem_alloc() if hasattr(gc, "mem_alloc") else 0


@req("SEC-09", "SEC-30")
def test_a_member_who_broadcasts_signed_updates_that_are_not_offered_costs_few_signatures_and_little_flash():
    world, offers = member()
    signed = [Update(5 + each, seed=b"%d" % each) for each in range(3)]
    for second in range(3600):
        world.hear(signed[second % 3].manifest(world))
        world.run_for(1000)
    assert world.agent.receiver.verifications == world.updates.begun == world.updates.dropped <= 27
    offers.update, offers.by_air = update, _ = Update(9), 60
    offers.ask()
    world.run_for(tuning.UPDATE_LEISURE)
    world.hear(update.manifest(world))
    world.hear(update.aired(n.FRAME, 0))
    world.run_for(tuning.UPDATE_MISSED)  # it pulls what it does not listen to
    assert world.updates.collection is not None


@req("SEC-30")
def test_a_member_cannot_make_a_board_refuse_what_its_gateway_offers():
    """The id of an update says nothing about the signature, nor about octets that are no envelope."""
    world, offers = member()
    offers.update, offers.by_air = Update(), 60
    update = offers.update
    offers.ask()
    world.run_for(tuning.UPDATE_LEISURE)
    signature = update.envelope.find(b"\x58\x40") + 10
    broken = update.envelope[:signature] + b"\0" + update.envelope[signature + 1 :]
    for octets in (broken, b"\x80", update.envelope[:-1], Update(9, private=STRANGER).envelope):
        world.hear(update.manifest(world, octets))
        world.run_for(2000)
    assert world.updates.begun == 0 and world.agent.updating.refused is None
    world.hear(update.manifest(world))
    assert world.updates.begun == 1


@req("SEC-30")
def test_a_signed_manifest_under_the_id_of_another_update_is_not_begun():
    world, offers = member()
    offers.update, offers.by_air = Update(), 3600
    offers.ask()
    world.run_for(tuning.UPDATE_LEISURE)
    world.hear(Update(6, seed=b"other").manifest(world, update_id=offers.update.id))
    assert world.updates.begun == 0 and world.agent.receiver.verifications == 0
    world.run_for(2000)
    world.hear(offers.update.manifest(world))
    assert world.updates.begun == 1


@req("SEC-30")
def test_replayed_manifests_of_old_updates_cost_no_signature():
    world, _ = member()
    old = [Update(number, seed=b"%d" % number) for number in (1, 2, 4)]
    for second in range(30):
        world.hear(old[second % 3].manifest(world))
        world.run_for(1000)
    assert world.agent.receiver.verifications == 0 and world.updates.begun == 0
    assert world.agent.receiver.refused == {} or set(world.agent.receiver.refused) <= {"refused update"}


@req("SEC-30")
def test_a_manifest_that_fell_back_is_not_begun_again():
    world, _ = member()
    world.updates.record = record(wanted=5, reason=n.NOT_CONFIRMED)
    world.hear(Update(5).manifest(world))
    assert world.updates.begun == 0 and world.agent.receiver.verifications == 0


def test_a_tag_under_another_generation_is_unknown():
    world, _ = member()
    update = Update()
    body = frames.manifest_body(b"k" * 16, TREE_GENERATION + 1, update.id, update.envelope)
    world.hear(frames.build(n.ENVELOPE, update.id, 0, body))
    assert world.agent.receiver.refused == {"Unknown": 1}


def test_wrong_pieces_of_the_gateway_are_not_stored_and_asked_for_at_leisure():
    world, offers = member()
    offers.update = update = Update()
    right = update.piece
    update.piece = lambda what, index: right(what, index) if what != n.FRAME else bytes(n.BLOCK)
    offers.ask()
    world.run_for(600000)
    assert len(offers.pulled) < 20 and not world.updates.collection.frames
    for octets in (b"", bytes(5), bytes(1025)):
        update.piece = lambda what, index, octets=octets: octets
        world.run_for(600000)
    assert not world.updates.collection.frames and not world.updates.restarts
    update.piece = right
    world.run_for(600000)
    assert update.held_in(world.updates.collection)


def test_a_segment_is_solved_only_when_its_equations_suffice():
    update = Update(blocks=9)
    world, _ = collecting(update)
    asked = []

    class Code(erasure.Code):
        def solve(self, segment, held):
            found = erasure.Code.solve(self, segment, held)
            asked.append(found is not None)
            return found

    world.agent.updating.collecting._code = Code(update.size)
    for index in reversed(range(2, update.code.frames)):
        world.hear(update.aired(n.FRAME, index))
    assert update.held_in(world.updates.collection)
    assert asked[-1] and True not in asked[:-1]


def test_a_request_that_is_no_request_for_a_report_is_refused():
    world, offers = member()
    for octets in (b"", b"\x80", b"\x81\x04", b"\x82\x03\x00", b"\xff"):
        assert world.ask_resource(n.PATH, octets)[0] == 0x80
    world.run_for(60000)
    assert not offers.reports
