"""Removed boards, other members and a wrong clock cannot harm a PNE."""

from device_world import PN_ALIAS, SIGNING, Peer, frame, key_of, member
from vmtest import req

from cpns import beacon
from cpns import messages as m
from cpns import numbers as n
from device_agent.crypto import p256

VM_HEAP_KIB = 192  # the PNE and its PN GW in one heap

HOUR = 3600000  # ms


@req("SEC-13")
def test_a_removed_board_that_beacons_with_the_old_key_keeps_no_sleeper_from_the_new_one():
    world, group = member()
    world.gateway.groups["kitchen"][1:] = [6, True]
    world.run_for(10000)  # the pull after the join: nothing new
    world.gateway.groups["kitchen"][1] = 7  # made and broadcast while this board slept
    for _ in range(4 * 24):
        world.hear(beacon.build(key_of(6), "kitchen", PN_ALIAS, group.alias, 1, 6))
        world.run_for(HOUR // 4)
    assert group.version == 7


@req("SEC-15")
def test_nothing_that_a_member_says_under_the_group_key_is_an_order():
    world, group = member()
    key = p256.run(p256.public_key(bytes(31) + b"\x0b"))
    delivery = {m.SG_ID: "kitchen", m.GROUP_KEY: [(key_of(66), None)], m.VERSION: 9, m.ACTIVATION: 0, m.REASON: 2}
    delivery[m.TIME] = 2000000000
    orders = [
        m.encode(n.DELETE_SERVICE_GROUP_REQUEST, {m.SG_ID: "kitchen", m.VERSION: 6}),
        m.encode(n.GROUP_KEY_DELIVERY_REQUEST, delivery),
        m.encode(n.ROLL_OVER_REQUEST, {m.SIGNING_KEY: key, m.SIGNING_EPOCH: 2, m.SIGNATURE: bytes(64)}),
        frame("keycast/delete/1", "kitchen", [n.DELETE_SERVICE_GROUP_REQUEST, PN_ALIAS, group.alias, 6], SIGNING),
    ]
    peer = Peer(group)
    for order in orders:
        world.hear(peer.say(order))
    assert [values["opened"].message for values in world.told("message")] == orders  # for the application to read
    membership = world.agent.membership
    assert membership.groups["kitchen"] is group and group.joined
    assert (group.ring.floor, group.ring.receiving_keys(0)) == (6, {6: key_of(6)})
    assert (world.agent.identity.signing_epoch, membership.unix_time(world.clock.ms)) == (1, 0)


@req("SEC-05")
def test_an_expelled_member_is_refused_after_thirty_seconds_whatever_the_gateways_clock_says():
    for time in (0, 100, 0x7FFFFFFF, 0xFFFFFFFF):  # not set, 1970, 2038, 2106
        for ahead in (0, 86400):
            world, group = member(time)
            peer = Peer(group)
            last_words = peer.say(b"in time"), peer.say(b"too late")
            leave = {m.SG_ID: "kitchen", m.GROUP_KEY: [(key_of(7), None)], m.VERSION: 7, m.REASON: n.REASON_LEAVE}
            leave[m.ACTIVATION] = min(time + ahead, 0xFFFFFFFF)
            leave[m.TIME] = time
            assert world.ask(n.GROUP_KEY_DELIVERY_REQUEST, leave)[1][m.RESULT] == n.RESULT_SUCCESS
            assert group.ring.sending_key(world.clock.ms // 1000) == (7, key_of(7))
            world.hear(last_words[0])
            world.clock.ms += 30000
            world.hear(last_words[1])
            assert [values["opened"].message for values in world.told("message")] == [b"in time"]
            assert group.ring.sending_key(world.clock.ms // 1000) == (7, key_of(7))
