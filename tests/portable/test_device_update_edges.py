"""Manifests that nobody can take, and pieces that are not offered any more: what they leave behind."""

import device_world  # noqa: F401 - the stack of the VM has no room for imports within imports
from update_world import KEY, Update, member, updatable
from vmtest import req

from device_agent import tuning
from device_agent.key_store import KeyStore
from suit import numbers as n

VM_HEAP_KIB = 256  # the PNE, its PN GW and the images in one heap


@req("SEC-30")
def test_what_is_broadcast_around_the_id_of_an_update_and_not_understood_keeps_out_nothing():
    world, offers = member()
    update = Update()
    world.hear(update.manifest(world, b"\xff" * 40))
    assert not world.updates.begun and world.agent.updating.known == b""
    world.run_for(2 * tuning.UPDATE_LOOK_EVERY)
    world.hear(update.manifest(world))
    assert world.updates.begun == 1 and not offers.pulled


def test_an_update_that_is_gone_when_its_envelope_is_pulled_is_asked_for_at_once():
    world, offers = member()
    offers.update = Update()
    offers.ask()
    world.run_for(tuning.UPDATE_LEISURE)
    assert offers.reports and not offers.pulled
    offers.update, reports = None, len(offers.reports)
    world.run_for(tuning.UPDATE_PULL_LEISURE + tuning.UPDATE_LEISURE)
    assert len(offers.reports) == reports + 1 and world.agent.updating.offer == b""


@req("SEC-30")
def test_an_update_key_that_is_no_point_of_the_curve_refuses_each_update():
    world, offers = updatable()
    KeyStore(world.medium).save("upkey", KEY[:32] + bytes(31) + b"\x05")
    world.join("kitchen", 5)
    offers.update = Update()
    world.run_for(60000)
    assert offers.states()[-1] == (n.REFUSED, 5, n.OTHER_KEY) and not world.updates.begun


def test_pages_that_were_stored_before_a_restart_are_not_pulled_again():
    world, offers = member()
    offers.update = update = Update(blocks=9)
    offers.ask()
    while len(offers.pulled) < 5:
        world.run_for(tuning.UPDATE_PULL_GAP)
    world.agent.updating.collecting.close()
    offers.pulled.clear()
    world.boot()
    world.run_for(60000)
    assert offers.pulled and not [what for _, what, _ in offers.pulled if what != n.FRAME]
    assert update.held_in(world.updates.collection)


@req("SEC-30")
def test_a_page_that_was_missed_starts_no_board_into_an_update_that_is_whole_and_not_named():
    world, offers = member()
    update = Update(blocks=3)
    offers.update, offers.by_air = update, 3600
    offers.ask()
    world.run_for(tuning.UPDATE_LEISURE)
    world.hear(update.manifest(world))
    world.hear(update.aired(n.PAGE, 0))
    world.agent.updating.miss()  # as a frame of another page does
    world.gateway.deaf = True
    for index in range(3):
        world.hear(update.aired(n.FRAME, index))
    world.run_for(60000)
    assert world.updates.collection.flushed and not world.updates.restarts


def test_boards_do_not_all_restart_at_once():
    moments = []  # ms from the last frame to the restart

    def restarts(world):
        moments.append(world.clock.ms - begun[0])

    begun = [0]
    for drawn in range(8):
        world, offers = member()
        world._drawn = 100 * drawn
        offers.update, offers.by_air = update, _ = Update(blocks=1), 3600
        world.updates.restart = lambda world=world: restarts(world)
        offers.ask()
        world.run_for(tuning.UPDATE_LEISURE)
        for what in (update.manifest(world), update.aired(n.PAGE), update.aired(n.FRAME)):
            world.hear(what)
        begun[0] = world.clock.ms
        world.run_for(tuning.UPDATE_LEISURE + tuning.UPDATE_RESTART_SPREAD)
    assert len(moments) == 8 and max(moments) - min(moments) > tuning.UPDATE_LEISURE


@req("SEC-30")
def test_a_piece_that_comes_after_the_withdrawal_is_not_stored():
    world, offers = member()
    offers.update = update = Update(blocks=9)
    offers.ask()
    while len(offers.pulled) < 4:
        world.run_for(tuning.UPDATE_PULL_GAP)
    collecting, collection = world.agent.updating.collecting, world.updates.collection
    before = dict(collection.frames)
    answer = update.piece

    def withdrawn(what, index):
        collecting.drop("withdrawn")
        return answer(what, index)

    update.piece = withdrawn
    world.run_for(60000)
    assert collection.frames == before and world.updates.dropped == 1
