"""The whole agent under power cuts: after a cut at any write the next start finds the old state or the new one."""

from device_world import World, key_of
from dying_medium import states_after_cuts
from vmtest import req

from cpns import messages as m
from cpns import numbers as n

VM_HEAP_KIB = 192  # the PNE and its PN GW in one heap


def joined():
    world = World()
    world.join("kitchen", 5)
    world.deliver("kitchen", 6)
    return world


def keys(world):
    group = world.agent.membership.groups.get("kitchen")
    return group and group.ring.receiving_keys(world.clock.ms // 1000)


def test_joining_is_done_or_can_be_done_again():
    def act(world):
        world.join("kitchen", 5)

    for world in states_after_cuts(World, act):
        group = world.join("kitchen", 5)
        assert group.ring.floor == 5
        world.hear(world.gateway.object("kitchen", 6))
        assert keys(world) == {6: key_of(6)}


@req("SEC-04", "CPNS-GKM-20")
def test_a_new_key_is_there_or_the_old_one():
    seen = set()
    for world in states_after_cuts(joined, lambda world: world.hear(world.gateway.object("kitchen", 7))):
        held = keys(world)
        seen.add(max(held))
        assert held[max(held)] == key_of(max(held))
        assert world.agent.membership.groups["kitchen"].ring.floor == max(held)
        world.hear(world.gateway.object("kitchen", 7))
        assert 7 in keys(world)
    assert seen == {6, 7}


@req("SEC-04")
def test_leaving_is_done_or_not_and_the_floor_is_there_either_way():
    def act(world):
        world.perform(world.agent.membership.leave(world.agent.membership.groups["kitchen"]))

    seen = set()
    for world in states_after_cuts(joined, act):
        member = "kitchen" in world.agent.membership.groups
        seen.add(member)
        if member:
            assert keys(world) == {6: key_of(6)}
        assert world.agent.membership._load("kitchen").ring.floor == 6
    assert seen == {True, False}


def test_a_new_generation_is_there_or_the_old_one():
    def act(world):
        world.gateway.generation = 2
        world.ask(n.GENERATION_REQUEST, {m.GKDK: world.gateway.gkdk(), m.GENERATION: 2})

    seen = set()
    for world in states_after_cuts(joined, act):
        gkdks = world.agent.membership.gkdks
        seen.add(gkdks.newest)
        for generation in range(1, gkdks.newest + 1):
            assert gkdks.get(generation).generation == generation
    assert seen == {1, 2}


@req("SEC-24")
def test_no_group_message_number_is_used_twice():
    def act(world):
        for _ in range(3):
            world.agent.send(world.agent.membership.groups["kitchen"], b"light on")
            world.sent.append(world.link.broadcasts[-1])

    def before():
        world = joined()
        world.sent = []
        act(world)
        return world

    for world in states_after_cuts(before, act):
        act(world)
        heads = [datagram[:25] for datagram in world.sent]  # version, inc and sequence are in it
        assert len(set(heads)) == len(heads)
