"""A heap that is nearly full: a message is refused before it has changed anything, and the PNE goes on."""

import errno

from device_world import PN_ALIAS, Peer, key_of, member
from vmtest import ON_VM, raises, req

from cpns import beacon, broadcast_object, group_message
from cpns import messages as m
from cpns import numbers as n
from cpns.crypto import ccm
from device_agent.coap import endpoint, message
from device_agent.group_traffic import GroupTraffic
from device_agent.links import udp

VM_HEAP_KIB = 192  # the PNE and its PN GW in one heap


class NoRoom:
    """`with NoRoom(owner, "name")`: meanwhile that function finds none."""

    def __init__(self, owner, name):
        self._place = owner, name
        self._real = getattr(owner, name)

    def __enter__(self):
        setattr(*self._place, no_room)

    def __exit__(self, *error):
        setattr(*self._place, self._real)


def no_room(*values, **named):
    raise MemoryError


def refused(world):
    return world.agent.receiver.refused.get("TooMany", 0)


def test_a_key_that_finds_no_room_is_refused_and_taken_when_it_comes_again():
    world, group = member()
    datagram = world.gateway.object("kitchen", 7)
    gkdks = world.agent.membership.gkdks
    for owner, name in ((broadcast_object, "parse"), (gkdks, "get"), (broadcast_object.Received, "open")):
        with NoRoom(owner, name):
            world.hear(datagram)
    assert (refused(world), group.version) == (3, 6)
    world.hear(datagram)
    assert (refused(world), group.version) == (3, 7)


def test_a_delete_that_finds_no_room_is_refused_and_taken_when_it_comes_again():
    world, group = member()
    datagram = world.gateway.signed_delete("kitchen", 6)
    with NoRoom(broadcast_object.ReceivedDelete, "check"):
        world.hear(datagram)
    assert refused(world) == 1 and group.joined
    world.hear(datagram)
    assert refused(world) == 1 and not group.joined


def test_a_beacon_that_finds_no_room_is_refused_and_the_next_causes_a_pull():
    world, group = member()
    datagram = beacon.build(key_of(7), "kitchen", PN_ALIAS, group.alias, 1, 7)
    group.pull_at = later = world.clock.now() + 86400000
    with NoRoom(beacon, "parse"):
        world.hear(datagram)
    assert (refused(world), group.pull_at) == (1, later)
    world.hear(datagram)
    assert refused(world) == 1 and group.pull_at < later


def test_a_group_message_that_finds_no_room_is_lost_and_the_next_is_read():
    world, group = member()
    peer = Peer(group)
    for owner, name in ((group_message, "parse"), (ccm, "open_"), (GroupTraffic, "_save")):
        with NoRoom(owner, name):
            world.hear(peer.say(b"light on"))
    assert (refused(world), world.told("message")) == (3, [])
    datagram = peer.say(b"light off")
    for _ in "12":
        world.hear(datagram)
    assert [values["opened"].message for values in world.told("message")] == [b"light off"]


def test_a_change_that_finds_no_room_ends_the_agent():
    world, _ = member()
    datagram = world.gateway.object("kitchen", 7)
    with NoRoom(world.agent.membership, "install"), raises(MemoryError):
        world.hear(datagram)
    world.boot()
    assert world.agent.membership.groups["kitchen"].version == 6
    world.hear(datagram)
    assert world.agent.membership.groups["kitchen"].version == 7


def test_a_request_of_the_gateway_that_finds_no_room_is_dropped_and_answered_when_it_is_repeated():
    world, _ = member()
    request, _ = world.gateway.protect(m.encode(n.GENERATION_REQUEST, {m.GKDK: world.gateway.gkdk(), m.GENERATION: 1}))
    with NoRoom(ccm, "open_"):
        assert world.agent.session.unprotect(request, "gw") == (None, None)
    answer, octets = world.agent.session.unprotect(request, "gw")
    assert octets and answer
    assert world.agent.session.unprotect(request, "gw") == (None, None)  # a replay now


def test_a_coap_datagram_that_finds_no_room_is_dropped():
    one = endpoint.Endpoint(lambda size: bytes(size))
    datagram = message.Message(message.CON, 2, 7, b"t", [(11, b"cpns")], b"long").encode()
    with NoRoom(endpoint, "decode"):
        assert one.datagram("gw", datagram, 0) == []
    assert [action[0] for action in one.datagram("gw", datagram, 0)] == ["request"]
    assert one.refused == 1
    one.datagram("gw", b"\x40", 0)
    assert one.refused == 2


@req("SEC-21")
def test_the_requests_of_strangers_are_refused_at_once_and_take_no_room():
    world, _ = member()
    replies = []
    world.link.send = lambda address, datagram: replies.append((address, message.decode(datagram).code))
    agent = world.agent
    for number in range(20):
        kid = bytes((9, 1, number, number))
        for options in ([(11, b"cpns")], [(9, kid), (11, b"cpns")], [(9, b"\xff"), (11, b"cpns")]):
            datagram = message.Message(message.CON, 2, len(replies), b"t", options, bytes(1000)).encode()
            agent._act(agent._endpoint.datagram((world.link, "stranger"), datagram, world.clock.ms))
    assert replies == [("stranger", code) for code in (0x81, 0x81, 0x80)] * 20
    assert (agent._requests, agent._endpoint._in) == ([], [])
    request, _ = world.gateway.protect(m.encode(n.GENERATION_REQUEST, {m.GKDK: world.gateway.gkdk(), m.GENERATION: 1}))
    agent._act(agent._endpoint.datagram(world.at, request.encode(), world.clock.ms))
    assert [address for _, _, address in agent._requests] == [world.at]


class CrowdedSocket:
    """A socket in a heap whose longest piece is `room` octets; datagrams wait in it."""

    def __init__(self, room, *datagrams):
        self.room = room
        self.waiting = list(datagrams)

    def recvfrom(self, limit):
        if limit > self.room:
            raise MemoryError
        return self.waiting.pop(0)[:limit], "address"


def test_what_is_short_comes_through_when_there_is_no_room_for_what_is_long():
    if not ON_VM:
        return  # CPython has room
    longest, short, cut = bytes(1472), bytes(511), (None, None)
    assert udp._recvfrom(CrowdedSocket(1500, longest)) == (longest, "address")
    frame = bytes(1036)  # of an update
    assert udp._recvfrom(CrowdedSocket(1200, frame)) == (frame, "address")
    assert udp._recvfrom(CrowdedSocket(1500, bytes(1500))) == cut
    crowded = CrowdedSocket(1499, short, longest, short)
    assert [udp._recvfrom(crowded) for _ in range(3)] == [(short, "address"), cut, (short, "address")]
    assert udp._recvfrom(CrowdedSocket(500, short)) == cut


class LosingSocket:
    """A socket that takes a datagram out of its queue before it finds that there is no room for it."""

    def __init__(self, *outcomes):
        self.outcomes = list(outcomes)

    def recvfrom(self, limit):
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome, "address"


def test_a_datagram_that_is_lost_for_want_of_room_counts_as_cut():
    if not ON_VM:
        return
    nothing_waits = OSError(errno.EAGAIN)
    assert udp._recvfrom(LosingSocket(MemoryError(), nothing_waits)) == (None, None)
    assert udp._recvfrom(LosingSocket(MemoryError(), b"the next one")) == (b"the next one", "address")
    for outcomes in ([nothing_waits], [MemoryError(), OSError(errno.ENODEV)]):
        with raises(OSError):
            udp._recvfrom(LosingSocket(*outcomes))
