"""What happens to an update in the middle: two ways at once, a flash that fails, another gateway, an old collection."""

import sys

import device_world
from update_world import FIRMWARE, KEY, Update, member, record
from vmtest import raises, req

from cpns import cborlite
from cpns.errors import MalformedMessage
from device_agent import tuning
from device_agent.cose import Credential
from device_agent.key_store import KeyStore
from device_agent.update import key as update_key
from suit import numbers as n

VM_HEAP_KIB = 256  # the PNE, its PN GW and the image in one heap


def pulling(pieces):
    """-> (World, Offers, Update) of a PNE that has pulled so many pieces."""
    world, offers = member()
    offers.update = update = Update()
    offers.ask()
    while len(offers.pulled) < pieces:
        world.run_for(100)
    return world, offers, update


def meanwhile(update, act):
    """Call `act(what, index)` while the PN GW answers the next PIECE."""
    right = update.piece

    def piece(what, index):
        update.piece = right
        act(what, index)
        return right(what, index)

    update.piece = piece


def test_a_manifest_that_comes_on_two_ways_begins_one_collection():
    world, offers = member()
    offers.update = update = Update()
    meanwhile(update, lambda what, index: world.hear(update.manifest(world)))
    offers.ask()
    world.run_for(60000)
    assert world.updates.begun == 1 and update.held_in(world.updates.collection)
    assert world.agent.receiver.verifications == 2


def test_a_frame_that_comes_on_two_ways_is_stored_once():
    world, _, update = pulling(3)
    meanwhile(update, lambda what, index: world.hear(update.aired(what, index)))
    world.run_for(60000)
    assert update.held_in(world.updates.collection) and world.updates.restarts == 1
    assert world.agent.receiver.refused == {"duplicate": 1}


def test_a_broadcast_that_makes_an_update_whole_ends_the_pull():
    world, offers, update = pulling(3)

    def rest(what, index):
        for frame in range(update.code.frames):
            world.hear(update.aired(n.FRAME, frame))

    meanwhile(update, rest)
    world.run_for(2 * tuning.UPDATE_LEISURE + tuning.UPDATE_RESTART_SPREAD)
    assert len(offers.pulled) == 4 and world.updates.restarts == 1
    assert "duplicate" in world.agent.receiver.refused


def test_an_update_that_is_withdrawn_during_a_pull_stays_withdrawn():
    world, offers = member()
    offers.update = update = Update()

    def withdraw(what, index):
        offers.update = None
        world.agent.updating.new_gateway()

    meanwhile(update, withdraw)
    offers.ask()
    world.run_for(60000)
    assert world.updates.begun == 0 and len(offers.pulled) == 1


def test_a_flash_that_fails_during_a_pull_ends_it_once():
    world, offers, update = pulling(3)

    def fail(what, index):
        world.updates.fails = True
        world.hear(update.aired(n.FRAME, update.code.frames - 1))
        world.updates.fails = False

    meanwhile(update, fail)
    world.run_for(600000)
    assert offers.states()[-1] == (n.REFUSED, 5, n.FLASH_FAILED)
    assert world.updates.dropped == 1 and len(offers.pulled) == 4
    assert [told["state"] for told in world.told("update")] == ["collecting", "refused"]
    assert world.agent.receiver.refused == {"no flash": 1}


def test_a_flash_that_fails_when_all_is_there_ends_the_update():
    for attribute in ("flush", "full", "drop"):
        world, offers, update = pulling(3)

        def failing():
            raise OSError(5)

        setattr(world.updates.collection, attribute, failing)
        if attribute == "drop":
            offers.update = None
            offers.ask()
        world.run_for(60000)
        state = (n.IDLE, 0, 0) if attribute == "drop" else (n.REFUSED, update.number, n.FLASH_FAILED)
        assert offers.states()[-1] == state and not world.updates.restarts


def test_another_gateway_gets_a_report_and_what_was_collected_is_dropped():
    world, offers, _ = pulling(3)
    world.run_for(20000)
    assert offers.states()[-1] == (n.WAITING, 5, 0)
    restarts = world.updates.restarts
    offers.update = None
    world.agent._forget_gateway()
    world.agent.session.address = world.at
    world.agent.session.adopt(world.agent.session._live or session(world), world.clock.ms, world.at)
    assert world.agent.updating.due <= world.clock.ms + tuning.UPDATE_LEISURE
    assert world.updates.restarts == restarts and world.agent.updating.offer == b""


def session(world):
    from device_agent.session import _Held

    return _Held(world.agent.store, "sess", list(device_world.SESSION), 0, False, world.random)


def test_a_collection_of_an_update_that_is_not_wanted_any_more_is_dropped_at_the_start():
    for state in (record(5), record(wanted=5, reason=n.NOT_WHOLE)):
        world, _, _ = pulling(3)
        world.updates.record = state
        world.boot()
        assert world.updates.dropped == 1 and world.agent.updating.collecting is None
    world, _, _ = pulling(3)
    world.updates.collection.envelope = b"\x80"
    world.boot()
    assert world.updates.dropped == 1 and world.agent.updating.collecting is None


@req("SEC-30")
def test_a_collection_that_cannot_be_read_at_the_start_does_not_keep_the_agent_from_starting():
    for fault in (OSError(5), MemoryError()):
        world, _, update = pulling(3)

        def resume(fault=fault):
            raise fault

        world.updates.resume = resume
        world.boot()
        assert world.agent.updating.collecting is None
        world.run_for(60000)
        assert world.updates.begun == 2 and update.held_in(world.updates.collection)


def test_what_a_manifest_says_of_itself_is_remembered_and_not_told():
    world, offers = member()
    for update in (Update(of_class=b"another class 16"), Update(4)):
        world.agent.receiver.refused.clear()
        for _ in range(3):
            world.hear(update.manifest(world))
            world.run_for(2000)
        assert world.agent.receiver.refused == {"refused update": 2}
    world.run_for(60000)
    assert not world.told("update") and (n.REFUSED, 4, n.OLD_NUMBER) not in offers.states()


@req("SEC-30")
def test_another_vendor_or_a_class_of_the_other_kind_is_not_for_this_board():
    for update in (Update(of_class=FIRMWARE), Update(vendor=b"another vendor16")):
        world, offers = member()
        offers.update = update
        offers.ask()
        world.run_for(60000)
        assert offers.states()[-1] == (n.REFUSED, 5, n.OTHER_CLASS)


def test_what_is_broadcast_and_refused_is_reported_when_the_gateway_offers_it():
    world, offers = member()
    offers.update, offers.by_air = Update(), 3600
    world.updates.free = 0
    offers.ask()
    world.run_for(tuning.UPDATE_LEISURE)
    world.hear(offers.update.manifest(world))
    world.run_for(tuning.UPDATE_LEISURE)
    assert offers.states()[-1] == (n.REFUSED, 5, n.NO_ROOM) and not offers.pulled
    world.run_for(2000)
    world.hear(offers.update.manifest(world))
    assert world.agent.receiver.refused == {"refused update": 1}


@req("SEC-17")
def test_an_update_key_that_has_another_job_is_not_the_right_one():
    world, offers = member()
    KeyStore(world.medium).save("upkey", world.agent.identity.signing_key)
    offers.update = Update()
    offers.ask()
    world.run_for(60000)
    assert offers.states()[-1] == (n.REFUSED, 5, n.OTHER_KEY)
    assert offers.reports[-1][1][1] == b"" and world.agent.receiver.verifications == 0
    assert KeyStore(world.medium).load("upkey") == world.agent.identity.signing_key


@req("SEC-17")
def test_the_update_key_is_compared_with_each_credential_of_the_home():
    class Identity:
        signing_key, ccs, gateway_ccs, server_ccs = bytes(64), b"", b"", b""

    for holder in ("ccs", "gateway_ccs", "server_ccs"):
        store = KeyStore(device_world.Medium())
        identity = Identity()
        update_key.take(store, identity, KEY)
        setattr(identity, holder, Credential.of("who", KEY[:32]).ccs)
        with raises(MalformedMessage):
            update_key.load(store, identity)
        with raises(MalformedMessage):
            update_key.take(store, identity, KEY)


@req("SEC-30")
def test_a_key_that_comes_after_a_refusal_lets_the_update_in_and_is_told():
    world, offers = member(update_key=b"")
    offers.update = Update()
    offers.ask()
    world.run_for(60000)
    assert offers.states()[-1] == (n.REFUSED, 5, n.NO_KEY)
    from update_world import KEY

    offers.key = KEY
    offers.ask()
    offers.reports.clear()
    world.run_for(10000)
    assert [len(told[1]) for _, told in offers.reports] == [0, n.ID]
    world.run_for(60000)
    assert offers.states()[-1] == (n.WAITING, 5, 0)


def test_an_answer_that_is_no_piece_ends_nothing():
    world, offers, update = pulling(3)
    right = world.gateway.resources[n.PATH]
    wrong = [b"", b"\x80", cborlite.encode("text"), b"\x59"]

    def asked(octets):
        if cborlite.decode(octets)[0] == n.PIECE and wrong:
            return 0x44, wrong.pop()
        return right(octets)

    world.gateway.resources[n.PATH] = asked
    world.run_for(300000)
    assert not wrong and len(world.failures) == 4
    assert update.held_in(world.updates.collection) and offers.states()[-1] == (n.WAITING, 5, 0)


def test_a_piece_that_is_not_offered_any_more_as_some_gateways_say_it():
    for code in (0x83, 0x84):
        world, offers, _ = pulling(3)
        right = world.gateway.resources[n.PATH]

        def asked(octets, code=code, right=right):
            return (code, b"") if cborlite.decode(octets)[0] == n.PIECE else right(octets)

        world.gateway.resources[n.PATH] = asked
        offers.update = None
        world.run_for(20000)
        assert world.updates.dropped == 1 and offers.states()[-1] == (n.IDLE, 0, 0)


def test_a_heap_without_room_for_pieces_is_made_anew_by_one_restart():
    world, offers, update = pulling(3)
    collection, put = world.updates.collection, world.updates.collection.put

    def no_room(index, octets):
        raise MemoryError

    collection.put = no_room
    world.run_for(60000)
    assert world.updates.restarts == 1 and world.agent.updating.collecting and collection.is_closed
    world.run_for(600000)
    assert world.updates.restarts == 1
    world.boot()
    world.run_for(600000)
    assert world.updates.restarts == 1  # it was begun before this start
    collection.put = put
    world.run_for(120000)
    assert update.held_in(collection) and world.updates.restarts == 2
    assert offers.states()[-1] == (n.WAITING, 5, 0)


def test_a_heap_in_which_answers_find_no_room_is_made_anew_by_one_restart():
    """The link cuts those with a piece, so to the agent they have not come; shorter ones have."""
    world, offers, update = pulling(3)
    whole = world.gateway.coap

    def cut(*request):
        answer = whole(*request)
        return None if answer and len(answer.payload) > 512 else answer

    def look_for_room():
        raise MemoryError

    world.gateway.coap = cut
    world.run_for(120000)
    assert not world.updates.restarts and world.agent.updating.collecting  # there is room: it is the network that cuts
    world.agent.updating.look_for_room = look_for_room
    world.run_for(600000)
    assert world.updates.restarts == 1 and world.agent.updating.collecting
    world.gateway.coap = whole
    world.boot()
    world.run_for(600000)
    assert update.held_in(world.updates.collection) and offers.states()[-1] == (n.WAITING, 5, 0)


def test_a_flash_that_does_not_free_what_is_withdrawn_is_counted_and_hinders_nothing():
    world, offers, _ = pulling(3)

    def fails():
        raise OSError(5)

    world.updates.collection.drop = fails
    offers.update = None
    offers.ask()
    world.run_for(10000)
    assert world.agent.receiver.refused == {"no flash": 1} and not world.agent.updating.collecting
    assert offers.states()[-1] == (n.IDLE, 0, 0)


def test_a_board_without_memory_for_the_equations_collects_all_blocks():
    world, offers = member()
    offers.update = update = Update()
    offers.by_air = 60
    offers.ask()
    world.run_for(tuning.UPDATE_LEISURE)
    for datagram in (update.manifest(world), update.aired(n.PAGE, 0)):
        world.hear(datagram)
    code = sys.modules["suit.erasure"].Code  # that of the board, which loads the module anew for each update
    solve = code.solve

    def no_memory(code, segment, held):
        if [block for block in range(segment, code.blocks, code.segments) if not held(block)]:
            raise MemoryError
        return solve(code, segment, held)

    code.solve = no_memory
    try:
        for index in range(2, update.code.frames):  # without two blocks, with repairs in their place
            world.hear(update.aired(n.FRAME, index))
            world.run_for(100)
        assert not world.updates.collection.is_full and not world.updates.restarts
        offers.by_air = 0
        world.run_for(120000)
        assert [world.updates.collection.held(block) for block in range(update.code.blocks)] == [True] * 5
        assert world.updates.restarts == 1
    finally:
        code.solve = solve


def test_an_update_that_is_whole_before_the_gateway_answers_is_told_soon():
    world, offers = member()
    offers.update = update = Update()
    world.gateway.deaf = True
    world.hear(update.manifest(world))
    world.hear(update.aired(n.PAGE, 0))
    world.run_for(300000)  # its report that it collects is not answered, and repeated after long
    for index in range(4):
        world.hear(update.aired(n.FRAME, index))
    world.gateway.deaf = False
    offers.reports.clear()
    world.hear(update.aired(n.FRAME, 4))
    world.run_for(tuning.UPDATE_LEISURE + 1000)
    assert offers.states()[0] == (n.COLLECTING, 5, 0)
