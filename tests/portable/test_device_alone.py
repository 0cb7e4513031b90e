"""A PNE in no group whose key comes from its PN GW: it learns soon that the PN GW was restored, and asks seldom."""

from device_world import PN_ALIAS, key_of
from update_world import in_a_group, updatable, without_updates
from vmtest import req

from cpns import beacon
from cpns import numbers as n
from cpns.key_ring import KeyRing
from device_agent import tuning

VM_HEAP_KIB = 192  # the PNE and its PN GW in one heap

HOUR = 3600 * 1000


@req("SEC-02")
def test_a_board_in_no_group_finds_within_an_hour_that_the_gateway_has_lost_its_session_and_asks_no_more_often():
    world, offers = updatable()
    world.run_for(tuning.UPDATE_LEISURE)
    world.run_for(10 * HOUR)
    assert len(offers.reports) == 10  # the first one, and one less than once an hour, as each has its leisure
    world.gateway.forgetful = True
    for _ in range(HOUR // 60000 + 2):
        if world.agent.session.wants_handshake(world.clock.ms):
            break
        world.run_for(60000)
    assert world.agent.session.wants_handshake(world.clock.ms) and world.clock.ms <= 11 * HOUR + 120000


@req("SEC-02")
def test_a_board_whose_groups_are_all_end_to_end_asks_its_gateway_as_often():
    world, offers = updatable()
    group = in_a_group(world)
    group.ring = KeyRing(n.PROTECTION_SEALED, None, True)
    world.run_for(10 * HOUR)
    assert len(offers.reports) == 10


def test_a_board_that_has_left_its_last_group_reports_within_an_hour_and_then_every_hour():
    world, offers = updatable()
    group = in_a_group(world)
    world.run_for(60000)
    before = len(offers.reports)
    world.perform(world.agent.membership.leave(group))
    world.run_for(HOUR)
    assert len(offers.reports) == before + 1
    world.run_for(10 * HOUR)
    assert 10 <= len(offers.reports) - before <= 11


def test_a_board_in_no_group_reports_when_its_network_or_its_silent_gateway_is_back():
    world, offers = updatable()
    world.run_for(60000)
    before = len(offers.reports)
    world.agent.session.network_lost()
    world.agent.session.try_again(world.clock.ms)
    world.run_for(60000)
    assert len(offers.reports) == before + 1


@req("SEC-02", "SEC-13")
def test_a_board_in_no_group_that_hears_of_another_tree_reports_soon_and_at_most_once_an_hour():
    world, offers = updatable()
    world.run_for(HOUR // 2)
    before = len(offers.reports)
    world.hear(beacon.build(key_of(7), "kitchen", PN_ALIAS, 1, 257, 7))
    assert len(offers.reports) == before
    world.run_for(tuning.UPDATE_LEISURE)
    assert len(offers.reports) == before + 1
    begun = world.clock.ms
    generation = 300
    while world.clock.ms < begun + 10 * HOUR:
        generation += 1
        world.hear(beacon.build(key_of(7), "kitchen", PN_ALIAS, 1, generation, 7))
        world.run_for(60000)
    assert len(offers.reports) <= before + 12  # each one takes the place of the next hour's
    reported = len(offers.reports)
    for _ in range(120):  # what was heard before says nothing new
        world.hear(beacon.build(key_of(7), "kitchen", PN_ALIAS, 1, generation, 7))
        world.run_for(60000)
    assert len(offers.reports) <= reported + 3


@req("SEC-13")
def test_a_board_in_a_group_reports_nothing_because_of_trees_of_others():
    world, offers = updatable()
    in_a_group(world)
    world.run_for(60000)
    before = len(offers.reports)
    for generation in range(2, 12):
        world.hear(beacon.build(key_of(7), "cellar", PN_ALIAS, 9, generation, 7))
        world.run_for(HOUR)
    assert len(offers.reports) == before


@req("SEC-02")
def test_a_gateway_without_updates_is_asked_once_an_hour_by_a_board_in_no_group():
    world, asked = without_updates()
    world.run_for(10 * HOUR)
    assert len(asked) == 10 and not world.failures


@req("SEC-02", "SEC-13")
def test_a_board_that_was_expelled_says_nothing_because_of_keys_of_the_tree_that_it_knows():
    world, offers = updatable()
    group = in_a_group(world)
    world.run_for(60000)
    world.perform(world.agent.membership.leave(group))
    before = len(offers.reports)
    world.hear(beacon.build(key_of(7), "kitchen", PN_ALIAS, 1, world.gateway.generation, 7))
    assert world.agent.updating.report_at > world.clock.ms + tuning.UPDATE_LEISURE
    world.hear(beacon.build(key_of(7), "kitchen", PN_ALIAS, 1, world.gateway.generation + 256, 7))
    world.run_for(tuning.UPDATE_LEISURE)
    assert len(offers.reports) == before + 1
