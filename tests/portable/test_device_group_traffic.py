"""Group messages of a PNE: what is stored before a message counts, restarts, lost records."""

from device_world import Peer, World, member
from vmtest import raises, req

from cpns import cborlite, group_message
from cpns import messages as m
from cpns import numbers as n
from cpns.errors import Unknown
from device_agent.group_traffic import GroupTraffic
from device_agent.key_store import KeyStore
from device_agent.membership import record_name

VM_HEAP_KIB = 192  # the PNE and its PN GW in one heap


def heard(world):
    return [values["opened"].message for values in world.told("message")]


def traffic(world):
    return world.agent.receiver.traffic(world.agent.membership.groups["kitchen"])


@req("CPNS-GKM-51", "CPNS-GKM-54", "CPNS-GKM-55", "CPNS-GKM-57")
def test_members_hear_each_other_and_nobody_reads_along():
    world, group = member()
    world.agent.send(group, b"light on")
    (datagram,) = world.link.broadcasts
    assert b"light on" not in datagram
    opened = GroupTraffic(KeyStore(World().medium), group, 0x11223344, "pne-2", world.random, 0).receive(
        group_message.parse(datagram), world.clock.ms
    )
    assert (opened.sender_id, opened.message) == ("pne-1", b"light on")
    world.hear(Peer(group).say(b"light off"))
    assert heard(world) == [b"light off"]


def test_without_a_key_nothing_is_sent():
    world = World()
    group = world.join("kitchen", 5)
    with raises(Unknown):
        world.agent.send(group, b"light on")


@req("SEC-24")
def test_a_replay_is_refused_also_after_a_restart():
    world, group = member()
    peer = Peer(group)
    spoken = [peer.say(b"one"), peer.say(b"two"), peer.say(b"three")]
    for datagram in spoken:
        world.hear(datagram)
    assert heard(world) == [b"one", b"two", b"three"]
    world.boot()
    for datagram in spoken:
        world.hear(datagram)
    assert heard(world) == []
    assert world.agent.receiver.refused == {"Stale": 3}
    world.clock.ms += 20000
    for _ in range(20):
        peer.say(b"lost on the way")
    world.hear(peer.say(b"four"))
    assert heard(world) == [b"four"]


@req("SEC-24")
def test_numbers_are_in_the_store_before_the_message_is_handed_up():
    world, group = member()
    peer = Peer(group)
    world.hear(peer.say(b"one"))
    world.clock.ms += 20000
    world.medium.fails = True
    with raises(OSError):
        world.hear(peer.say(b"two"))
    assert heard(world) == [b"one"]


@req("SEC-24")
def test_ten_members_that_speak_once_a_minute_cost_one_write_in_ten_messages():
    world, group = member()
    peers = [Peer(group, "pne-%d" % number) for number in range(2, 12)]
    for peer in peers:
        world.hear(peer.say(b"first"))
    before = world.medium.writes
    for _ in range(20):
        for peer in peers:
            world.clock.ms += 6000
            world.hear(peer.say(b"21.5"))
        world.events.clear()
    assert not world.agent.receiver.refused
    assert world.medium.writes - before <= 2 * 20  # each into two copies


@req("SEC-24")
def test_a_member_that_jumps_from_number_to_number_does_not_wear_out_the_flash():
    world, group = member()
    peer = Peer(group)
    before = world.medium.writes
    flags = []
    for _ in range(300):  # in 30 s
        for _ in range(17):
            datagram = peer.say(b"")
        world.hear(datagram)
        flags += [values["opened"].replayable for values in world.told("message")]
        world.events.clear()
        world.clock.ms += 100
    writes = (world.medium.writes - before) // 2
    assert 64 <= writes <= 64 + 16
    assert len(flags) == 300 and not any(flags[:64]) and all(flags[64 + 15 :])
    other = Peer(group, "pne-3")
    for _ in range(2):
        world.hear(other.say(b"in earnest"))  # nobody is kept out by what it does
    world.hear(datagram)
    assert heard(world) == [b"in earnest"] * 2
    world.boot()
    world.hear(datagram)  # after a restart a copy of this one cannot be told, and is flagged
    assert [values["opened"].replayable for values in world.told("message")] == [True]
    world.run_for(10000)  # the pull reports it, for a new key
    assert [1 for code, fields in world.gateway.heard if m.WINDOWS_LOST in fields]


@req("SEC-24")
def test_that_windows_are_lost_to_the_flash_is_written_once_and_reported_at_once():
    world, group = member()
    world.run_for(20000)  # the pull after the join
    peer = Peer(group)
    for _ in range(70):
        for _ in range(17):
            datagram = peer.say(b"")
        world.hear(datagram)
    world.gateway.heard.clear()
    world.run_for(6000)
    assert [fields[m.WINDOWS_LOST] for code, fields in world.gateway.heard if code == n.KEY_PULL_REQUEST] == [6]
    world.boot()
    world.hear(datagram)
    assert [values["opened"].replayable for values in world.told("message")] == [True]


@req("SEC-24")
def test_a_fast_sender_costs_one_write_in_sixteen_messages():
    world, group = member()
    peer = Peer(group)
    world.hear(peer.say(b"first"))
    before = world.medium.writes
    for _ in range(64):
        world.hear(peer.say(b"more"))
        world.clock.ms += 100
    assert len(heard(world)) == 65
    assert world.medium.writes - before == 2 * 64 // 16  # in each of two copies


@req("SEC-24")
def test_after_the_record_is_lost_the_key_of_what_is_sent_is_another():
    world, group = member()
    world.agent.send(group, b"light on")
    for name in list(world.medium.octets):
        if name.startswith("w"):
            del world.medium.octets[name]
    world.boot()
    group = world.agent.membership.groups["kitchen"]
    first = world.link.broadcasts
    world.agent.send(group, b"light on")
    world2, group2 = member()
    world2.agent.send(group2, b"light on")
    after, before = group_message.parse(first[0]), group_message.parse(world2.link.broadcasts[0])
    assert (before.version, before.sequence) == (after.version, after.sequence) == (6, 0)
    assert before.inc != after.inc


@req("SEC-24")
def test_when_the_numbers_of_an_inc_are_used_up_sending_goes_on_under_another():
    world, group = member()
    world.agent.send(group, b"one")
    first = group_message.parse(world.link.broadcasts[0])
    traffic(world)._sender.resume((6, first.inc, 0xFFFFFFFF - 10))
    world.agent.send(group, b"two")
    second = group_message.parse(world.link.broadcasts[1])
    assert second.inc != first.inc and second.sequence == 0


@req("SEC-24")
def test_after_a_restart_sending_goes_on_above_every_number_used():
    world, group = member()
    world.agent.send(group, b"one")
    world.agent.send(group, b"two")
    used = [group_message.parse(datagram) for datagram in world.link.broadcasts]
    world.boot()
    world.agent.send(world.agent.membership.groups["kitchen"], b"three")
    third = group_message.parse(world.link.broadcasts[0])
    assert [message.sequence for message in used] == [0, 1]
    assert third.inc == used[0].inc
    assert third.sequence == 64


@req("SEC-24")
def test_what_comes_after_the_record_was_lost_is_flagged_until_the_next_key():
    world, group = member()
    peer = Peer(group)
    replayed = peer.say(b"one")
    world.hear(replayed)
    assert world.told("message")[0]["opened"].replayable is False
    for name in list(world.medium.octets):
        if name.startswith("w"):
            world.medium.octets[name] = b"?"
    world.boot()
    world.hear(replayed)
    assert world.told("message")[0]["opened"].replayable is True
    world.run_for(10000)  # the next pull reports it
    (pull,) = [fields for code, fields in world.gateway.heard if m.WINDOWS_LOST in fields]
    assert pull[m.WINDOWS_LOST] == pull[m.VERSION] == world.agent.membership.groups["kitchen"].version
    world.deliver("kitchen", 7)
    world.hear(peer.say(b"two", version=7))
    assert world.told("message")[1]["opened"].replayable is False


@req("SEC-05")
def test_what_an_expelled_member_says_with_the_old_key_is_refused_after_thirty_seconds():
    world, group = member()
    peer = Peer(group)
    world.deliver("kitchen", 7, reason=2)
    world.hear(peer.say(b"just in time"))
    world.clock.ms += 31000
    world.hear(peer.say(b"too late"))
    assert heard(world) == [b"just in time"]
    world.agent.send(group, b"x")
    assert group_message.parse(world.link.broadcasts[0]).version == 7


def test_the_record_fits_the_store_with_as_many_senders_as_are_kept():
    world, group = member()
    for number in range(40):
        world.hear(Peer(group, "%02d" % number + "x" * 62).say(b"hello"))
        world.clock.ms += 2000
    assert len(heard(world)) == 40 and not world.agent.receiver.refused
    for number in range(100):
        world.hear(Peer(group, "%03d" % number + "x" * 61).say(b"hello"))
        world.clock.ms += 2000
    assert max([len(octets) for octets in world.medium.octets.values()]) <= 1984


@req("SEC-24")
def test_a_forger_of_names_and_incs_mutes_nobody_and_makes_no_copy_pass():
    for spoken in (True, False):  # before the forger
        world, group = member()
        peer = Peer(group)
        said = [peer.say(b"before")] if spoken else []
        for datagram in said:
            world.hear(datagram)
        for number in range(20):
            inc = b"forged" + bytes((1, number))
            world.hear(Peer(group, "nobody-%d" % number, inc).say(b"forged"))
            world.hear(Peer(group, inc=inc).say(b"forged"))
            if number % 5 == 4:
                said.append(peer.say(b"true"))
                world.hear(said[-1])
            world.clock.ms += 4000
        world.hear(Peer(group, inc=b"forged 2").say(b"forged"))  # for which the true one made room, if it came late
        assert heard(world).count(b"true") == 4 and not world.agent.receiver.refused
        for _ in range(2):
            world.boot()
            world.events.clear()
            for datagram in said:
                world.hear(datagram)
            assert heard(world) == [] and world.agent.receiver.refused == {"Stale": len(said)}
        for _ in range(16):
            peer.say(b"given up by the restart")
        world.hear(peer.say(b"still there"))
        assert [values["opened"].replayable for values in world.told("message")] == [False]


@req("SEC-24")
def test_who_hears_a_forgery_of_its_next_numbers_goes_on_under_another_inc():
    world, group = member()
    world.agent.send(group, b"one")
    ours = group_message.parse(world.link.broadcasts[0])
    forger = Peer(group, "pne-1", ours.inc)
    world.hear(forger.say(b"a number that was given"))
    world.agent.send(group, b"two")
    forger.skip_to(6, ours.inc, 1 << 31)
    forged = forger.say(b"mute")
    world.hear(forged[:-1] + bytes((forged[-1] ^ 1,)))  # an outsider's
    world.agent.send(group, b"three")
    world.hear(forged)
    world.agent.send(group, b"four")
    world.agent.send(group, b"five")
    incs = [group_message.parse(datagram).inc for datagram in world.link.broadcasts]
    assert incs[:3] == [ours.inc] * 3 and incs[3] == incs[4] != ours.inc
    writes = world.medium.writes
    for _ in range(200):  # in 20 s: it does not wear out the flash either
        forger.skip_to(6, group_message.parse(world.link.broadcasts.pop()).inc, 1 << 31)
        world.hear(forger.say(b"mute"))
        world.agent.send(group, b"again")
        world.clock.ms += 100
    assert (world.medium.writes - writes) // 2 <= 64 + 10 + 3


@req("SEC-24")
def test_a_record_of_before_is_taken_up():
    world, group = member()
    peer = Peer(group)
    datagram = peer.say(b"one")
    world.hear(datagram)
    name = record_name("w", "kitchen")
    store = KeyStore(world.medium)
    sender, lost, rows, _ = cborlite.decode(store.load(name))
    store.save(name, cborlite.encode([sender, lost, [["pne-2"] + rows[0][1:]]]))
    world.boot()
    world.hear(datagram)
    assert world.agent.receiver.refused == {"Stale": 1}


@req("SEC-13")
def test_a_message_under_a_newer_key_makes_the_pne_pull():
    world, group = member()
    world.clock.ms += 3600000
    world.run_for(0)
    peer = Peer(group)
    world.gateway.groups["kitchen"][1:] = [7, True]
    datagram = peer.say(b"news", version=7)
    world.hear(datagram)
    assert heard(world) == []
    world.run_for(5000)
    world.hear(datagram)
    assert heard(world) == [b"news"]
