"""A PNE that collects an update: by broadcast, by pieces, over restarts; withdrawn, replaced, without room."""

from device_world import key_of  # first: the stack of the VM has no room for imports within imports
from update_world import FIRMWARE, KEY, Update, member, record
from vmtest import req

from device_agent import tuning
from suit import numbers as n
from suit import sealing

VM_HEAP_KIB = 256  # the PNE, its PN GW and the image in one heap


def air(world, update, lost=(), pause=100):
    """Broadcast all of an update but the frames `lost`."""
    world.hear(update.manifest(world))
    for index in range(len(update.pages)):
        world.hear(update.aired(n.PAGE, index))
    for index in range(update.code.frames):
        if index not in lost:
            world.hear(update.aired(n.FRAME, index))
            world.run_for(pause)


@req("SEC-30")
def test_an_update_is_collected_from_what_is_broadcast_and_installed_when_the_gateway_names_it():
    world, offers = member()
    offers.update = update = Update()
    offers.by_air = 60
    offers.ask()
    world.run_for(tuning.UPDATE_LEISURE)
    air(world, update, lost=(1,))
    flash = world.updates
    assert flash.collection.flushed and update.held_in(flash.collection) and not offers.pulled
    assert not flash.collection.is_full
    assert world.agent.receiver.verifications == 1
    world.run_for(tuning.UPDATE_LEISURE + tuning.UPDATE_RESTART_SPREAD)
    assert flash.restarts == 1 and flash.collection.is_full
    assert offers.states() == [(n.IDLE, 0, 0), (n.WAITING, 5, 0)]
    assert [told["state"] for told in world.told("update")] == ["collecting", "waiting"]


def test_an_update_is_collected_in_pieces_one_at_a_time():
    world, offers = member()
    offers.update = update = Update()
    offers.ask()
    world.run_for(60000)
    flash = world.updates
    assert update.held_in(flash.collection) and flash.restarts >= 1
    assert [pulled[1:] for pulled in offers.pulled[:2]] == [(n.ENVELOPE, 0), (n.PAGE, 0)]
    assert sorted(index for _, what, index in offers.pulled if what == n.FRAME) == list(range(5))
    times = [pulled[0] for pulled in offers.pulled]
    for place in range(1, len(times)):
        assert times[place] - times[place - 1] >= tuning.UPDATE_PULL_GAP
    assert offers.states() == [(n.IDLE, 0, 0), (n.WAITING, 5, 0)]


def test_what_was_not_heard_is_pulled_and_no_more_than_is_needed():
    world, offers = member()
    offers.update = update = Update(blocks=12)
    offers.by_air = 20
    offers.ask()
    world.run_for(tuning.UPDATE_LEISURE)
    air(world, update, lost=(2, 3, 4, 6, 11, 12, 13, 17))
    offers.by_air = 0
    assert not world.updates.collection.flushed
    world.run_for(60000)
    assert update.held_in(world.updates.collection)
    assert 2 <= len(offers.pulled) <= 4
    assert (n.COLLECTING, 5, 2) in offers.states()


def test_boards_do_not_all_pull_at_once():
    begun = []
    for drawn in range(12):
        world, offers = member()
        world._drawn += drawn
        offers.update = Update()
        offers.ask()
        world.run_for(30000)
        begun.append(offers.pulled[0][0])
    assert max(begun) - min(begun) > 3000 and len(set(begun)) > 8


def test_a_manifest_or_page_that_was_missed_is_pulled_while_the_rest_is_broadcast():
    world, offers = member()
    offers.update = update = Update(blocks=50)
    offers.by_air = 600
    offers.ask()
    world.run_for(tuning.UPDATE_LEISURE)
    world.run_for(60000)
    assert not offers.pulled
    world.hear(update.aired(n.FRAME, 0))
    world.run_for(tuning.UPDATE_LEISURE)
    world.hear(update.aired(n.PAGE, 0))
    world.hear(update.aired(n.FRAME, 0))
    world.run_for(60000)
    assert [pulled[1:] for pulled in offers.pulled] == [(n.ENVELOPE, 0)]
    world.hear(update.aired(n.FRAME, 70))
    world.hear(update.aired(n.FRAME, 71))
    world.run_for(tuning.UPDATE_LEISURE)
    world.hear(update.aired(n.FRAME, 71))
    assert [pulled[1:] for pulled in offers.pulled] == [(n.ENVELOPE, 0), (n.PAGE, 1)]
    assert sorted(world.updates.collection.frames) == [0, 71]
    world.run_for(60000)
    assert len(offers.pulled) == 2


def test_the_answer_to_a_report_does_not_keep_a_board_from_the_page_that_it_misses():
    world, offers = member()
    offers.update = update = Update()
    offers.by_air = 600
    world.hear(update.manifest(world))
    world.hear(update.aired(n.FRAME, 0))
    world.agent.updating.report_at = world.clock.ms  # before the pull of the page is due
    world.run_for(1)
    assert len(offers.reports) == 1 and not offers.pulled
    world.hear(update.aired(n.FRAME, 2))
    world.run_for(tuning.UPDATE_MISSED)
    assert [pulled[1:] for pulled in offers.pulled] == [(n.PAGE, 0)]


def test_a_board_that_has_waited_for_its_turn_pulls_at_once():
    world, offers = member()
    offers.update = update = Update(blocks=12)
    offers.by_air = 20
    offers.ask()
    world.run_for(tuning.UPDATE_LEISURE)
    air(world, update, lost=(2, 3, 4, 6, 11, 12, 13, 17))
    offers.by_air = 0
    world.run_for(60000)
    reported = max(at for at, _ in offers.reports if at <= offers.pulled[0][0])
    assert offers.pulled[0][0] - reported < 1000


def test_a_board_that_knows_nothing_of_the_offer_asks_once_it_hears_frames():
    world, offers = member()
    world.run_for(60000)
    offers.update = update = Update()
    offers.by_air = 60
    world.hear(update.aired(n.FRAME, 0))
    world.run_for(tuning.UPDATE_LEISURE)
    assert len(offers.reports) == 1
    air(world, update)
    world.run_for(30000)
    assert world.updates.restarts == 1


def test_after_a_restart_it_goes_on_with_what_is_in_the_flash():
    world, offers = member()
    offers.update = update = Update(blocks=9)
    offers.by_air = 60
    world.hear(update.manifest(world))
    world.hear(update.aired(n.PAGE, 0))
    for index in range(6):
        world.hear(update.aired(n.FRAME, index))
    checked = world.agent.receiver.verifications
    world.boot()
    assert world.agent.updating.collecting.state == (n.COLLECTING, 5, 3)
    for index in range(6, 9):
        world.hear(update.aired(n.FRAME, index))
    world.run_for(30000)
    assert update.held_in(world.updates.collection) and world.updates.restarts == 1
    assert checked == 1 and world.agent.receiver.verifications == 0
    world.boot()  # the power failed before it was installed
    world.run_for(30000)
    assert world.updates.restarts >= 2


@req("SEC-10", "SEC-30")
def test_what_is_broadcast_for_the_members_of_a_group_is_opened_by_them():
    world, offers = member()
    offers.update = update = Update()
    offers.by_air = 60
    world.hear(update.manifest(world))
    world.hear(update.aired(n.PAGE, 0))
    head, sealed = sealing.head(world.agent.membership.groups["kitchen"].alias, 6), []
    for index in range(5):
        seal = sealing.Seal(key_of(6), "kitchen", 6, update.id)
        sealed.append(update.aired(n.SEALED, index, head + seal.turn(index, update.frame(index))))
    for datagram in sealed:
        world.hear(datagram)
    assert world.agent.receiver.refused == {"no key": 5} and not world.updates.collection.frames
    world.deliver("kitchen", 6)
    world.hear(sealed[0][:-1] + bytes((sealed[0][-1] ^ 1,)))
    assert world.agent.receiver.refused == {"no key": 5, "forged": 1}
    made = sealing.Seal
    sealing.Seal = None  # a forged frame costs AES and a hash, and no derivation of a key (SEC-10)
    world.hear(sealed[0][:-1] + bytes((sealed[0][-1] ^ 2,)))
    sealing.Seal = made
    assert world.agent.receiver.refused == {"no key": 5, "forged": 2}
    for datagram in sealed:
        world.hear(datagram)
    assert update.held_in(world.updates.collection)
    other = sealing.head(77, 6) + bytes(n.BLOCK)
    world.hear(update.aired(n.SEALED, 5, other))
    world.hear(update.aired(n.SEALED, update.code.frames, other))
    assert world.agent.receiver.refused == {"no key": 5, "forged": 2, "duplicate": 1, "out of range": 1}


@req("SEC-30")
def test_a_withdrawn_update_is_dropped_and_not_begun_again():
    world, offers = member()
    offers.update = update = Update()
    offers.by_air = 60
    world.hear(update.manifest(world))
    world.run_for(tuning.UPDATE_LEISURE)
    offers.update = None
    offers.ask()
    world.run_for(2 * tuning.UPDATE_LEISURE)
    flash = world.updates
    assert flash.dropped == 1 and flash.collection is None
    assert offers.states()[-1] == (n.IDLE, 0, 0)
    for _ in range(10):
        world.run_for(2000)
        air(world, update, pause=0)
    assert flash.begun == 1
    offers.update = update
    offers.ask()
    world.run_for(tuning.UPDATE_LEISURE)
    air(world, update)
    assert flash.collection.flushed


@req("SEC-30")
def test_an_update_that_the_gateway_does_not_name_is_not_installed():
    world, offers = member()
    update = Update()
    air(world, update, pause=0)  # by a member who has kept it
    flash = world.updates
    assert update.held_in(flash.collection) and not flash.collection.flushed
    world.run_for(86400 * 1000)
    assert not flash.restarts and flash.collection is None
    assert offers.states()[0] == (n.COLLECTING, 5, 0)


def test_an_update_that_is_replaced_makes_room():
    world, offers = member()
    offers.update = first = Update()
    offers.by_air = 60
    world.hear(first.manifest(world))
    world.hear(first.aired(n.PAGE, 0))
    world.hear(first.aired(n.FRAME, 0))
    offers.update = second = Update(6, seed=b"second")
    offers.by_air = 0
    world.hear(second.aired(n.FRAME, 0))
    assert world.agent.receiver.refused == {"other update": 1}
    offers.ask()
    world.run_for(60000)
    assert second.held_in(world.updates.collection) and world.updates.dropped == 1


def test_withdrawn_between_report_and_pull():
    world, offers = member()
    offers.update = Update()
    offers.by_air = 0
    offers.ask()
    while len(offers.pulled) < 4:
        world.run_for(100)
    offers.update = None
    world.run_for(20000)
    assert world.updates.collection is None and offers.states()[-1] == (n.IDLE, 0, 0)


def refused(update, **flash):
    """-> (reason that the PN GW hears, World, Offers) of a board that is offered an update."""
    world, offers = member(update_key=flash.pop("update_key", KEY))
    for name, value in flash.items():
        setattr(world.updates, name, value)
    offers.update = update
    offers.ask()
    world.run_for(60000)
    state, number, reason = offers.states()[-1]
    assert (state, number) == (n.REFUSED, update.number)
    assert len(offers.pulled) == 1 and world.updates.collection is None and not world.updates.restarts
    world.run_for(3 * 86400 * 1000)
    assert len(offers.pulled) == 1  # it is not tried again
    return reason, world


@req("SEC-30")
def test_what_a_board_refuses():
    stranger = bytes(31) + b"\x0c"
    for expected, update, flash, checked in (
        (n.OTHER_KEY, Update(private=stranger), {}, 1),
        (n.NO_KEY, Update(), {"update_key": b""}, 0),
        (n.OTHER_CLASS, Update(of_class=b"another class 16"), {}, 0),
        (n.OTHER_CLASS, Update(of_class=FIRMWARE), {}, 0),
        (n.OLD_NUMBER, Update(4), {}, 0),
        (n.OLD_NUMBER, Update(3), {}, 0),
        (n.TRIED_BEFORE, Update(5), {"record": record(wanted=5, reason=n.NOT_CONFIRMED)}, 0),
        (n.NO_ROOM, Update(), {"free": 4000}, 0),
        (n.NO_HEAP, Update(), {"small_heap": True}, 0),
        (n.NO_SLOT, Update(), {"no_slot": True}, 0),
        (n.FLASH_FAILED, Update(), {"fails": True}, 1),
    ):
        reason, world = refused(update, **flash)
        assert reason == expected, (reason, expected)
        assert world.agent.receiver.verifications == checked and world.updates.begun == 0


def test_a_firmware_has_a_number_of_its_own():
    world, offers = member()
    offers.update = Update(3, of_class=FIRMWARE, kind=b"firmware")
    offers.ask()
    world.run_for(60000)
    assert world.updates.restarts >= 1


def test_a_flash_that_fails_halfway_ends_the_update():
    world, offers = member()
    offers.update = Update()
    offers.ask()
    while len(offers.pulled) < 4:
        world.run_for(100)
    world.updates.fails = True
    world.run_for(30000)
    assert offers.states()[-1] == (n.REFUSED, 5, n.FLASH_FAILED) and world.updates.collection is None


def test_a_flash_without_room_for_more_frames_ends_the_update():
    world, offers = member()
    offers.update = Update()
    offers.ask()
    while len(offers.pulled) < 4:
        world.run_for(100)
    world.updates.collection.room = 3
    world.run_for(60000)
    assert offers.states()[-1] == (n.REFUSED, 5, n.NO_ROOM) and world.updates.collection is None


def test_a_board_on_trial_begins_no_other_update():
    world, offers = member()
    world.updates.record = record(trial=2, wanted=5)
    world.boot()
    world.gateway.deaf = True
    air(world, Update(6, seed=b"6"), pause=0)
    assert world.agent.receiver.verifications == 1 and not world.updates.begun
    world.gateway.deaf = False
    offers.update = Update(6, seed=b"6")
    world.run_for(3 * tuning.UPDATE_RETRY_MIN)
    assert world.updates.collection.is_full and offers.states()[0] == (n.TRIAL, 5, 0)


def test_a_board_that_was_removed_hangs_nowhere():
    world, offers = member()
    offers.update = update = Update()
    offers.ask()
    while len(offers.pulled) < 3:
        world.run_for(100)
    world.gateway.forgetful = True  # no session of it is known any more
    world.run_for(600000)
    pulled = len(offers.pulled)
    for index in range(update.code.frames):
        world.hear(update.aired(n.FRAME, index))
    world.run_for(86400 * 1000)
    assert len(offers.pulled) == pulled and not world.updates.restarts


@req("SEC-30")
def test_a_newer_signed_update_in_the_middle_does_not_end_the_one_that_is_named():
    """A member, or the gateway before it names that one to this board, broadcasts it."""
    world, offers = member()
    offers.update = update = Update(blocks=6)
    offers.by_air = 60
    offers.ask()
    world.run_for(tuning.UPDATE_LEISURE)
    newer = Update(9, blocks=6, seed=b"newer")
    world.hear(update.manifest(world))
    world.hear(update.aired(n.PAGE, 0))
    for index in range(6):
        for datagram in (newer.manifest(world), newer.aired(n.PAGE, 0), newer.aired(n.FRAME, index)):
            world.hear(datagram)
        world.hear(update.aired(n.FRAME, index))
        world.run_for(1000)
    flash = world.updates
    assert update.held_in(flash.collection) and (flash.begun, flash.dropped) == (1, 0)
    assert world.agent.receiver.verifications == 1 and world.agent.receiver.refused == {"other update": 18}
    world.run_for(tuning.UPDATE_LEISURE + tuning.UPDATE_RESTART_SPREAD)
    assert flash.restarts == 1


@req("SEC-10", "SEC-30")
def test_when_the_group_of_a_sealed_broadcast_is_deleted_a_board_pulls_the_rest():
    world, offers = member()
    offers.update = update = Update()
    offers.by_air = 60
    offers.ask()
    world.run_for(tuning.UPDATE_LEISURE)
    world.deliver("kitchen", 6)
    head = sealing.head(world.agent.membership.groups["kitchen"].alias, 6)
    seal = sealing.Seal(key_of(6), "kitchen", 6, update.id)
    world.hear(update.manifest(world))
    world.hear(update.aired(n.PAGE, 0))
    for index in range(5):
        if index == 2:
            world.hear(world.gateway.signed_delete("kitchen", 7))
        world.hear(update.aired(n.SEALED, index, head + seal.turn(index, update.frame(index))))
    collection = world.updates.collection
    assert sorted(collection.frames) == [0, 1] and world.agent.receiver.refused == {"no key": 3}
    offers.by_air = 0
    world.run_for(120000)
    assert update.held_in(collection) and world.updates.restarts == 1
    assert sorted(index for _, what, index in offers.pulled if what == n.FRAME) == [2, 3, 4]
