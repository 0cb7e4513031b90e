"""The same agent on Linux: files, UDP sockets, asyncio; two boards and a gateway on loopback."""

import asyncio
import errno
import os
import stat
import subprocess
import sys

import device_world
import pytest

from cpns import messages as m
from cpns import numbers as n
from cpns.errors import CpnsError, NotMember, Unknown
from device_agent import tuning
from device_agent.api import Message, Node
from device_agent.coap.endpoint import Endpoint
from device_agent.host.storage import FileStorage
from device_agent.key_store import KeyStore
from device_agent.links import udp
from device_agent.links.udp import UdpLink, directed_broadcast
from device_agent.provisioning import RECORD, Provisioning
from keycast.virtual_board.loopback import own_port
from tests.unit.device_gateway import LakersGateway, Party
from tests.virtual_time import BoardClock
from tests.waiting import until

EVERYBODY = "127.255.255.255"
PORT, BROADCAST_PORT = own_port(), own_port()


# --- files ---


def test_what_is_set_is_there_for_the_next_process(tmp_path):
    storage = FileStorage(tmp_path / "node")
    storage.set("prov0", b"a long identity")
    storage.set("prov0", b"identity")
    storage.set("gone", b"x")
    storage.delete("gone")
    storage.delete("never")
    storage.commit()
    storage.close()
    again = FileStorage(tmp_path / "node")
    assert (again.get("prov0"), again.get("gone")) == (b"identity", None)


@pytest.mark.req("SEC-29", "CPNS-GKM-77")
def test_deleted_octets_are_overwritten_before_the_file_goes(tmp_path):
    storage = FileStorage(tmp_path / "node")
    KeyStore(storage).save("g", b"a group key")
    places = [tmp_path / copy for copy in ("g0", "g1")]
    for place in places:
        place.hardlink_to(tmp_path / "node" / place.name)
    KeyStore(storage).erase("g")
    assert [storage.get(place.name) for place in places] == [None, None]
    assert [place.read_bytes() for place in places] == [bytes(23), bytes(23)]


@pytest.mark.req("CPNS-GKM-77")
def test_files_are_for_their_owner_only(tmp_path):
    storage = FileStorage(tmp_path / "node")
    storage.set("prov0", b"identity")
    assert stat.S_IMODE((tmp_path / "node").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "node" / "prov0").stat().st_mode) == 0o600


def test_a_folder_or_file_that_others_could_exchange_is_refused(tmp_path):
    folder = tmp_path / "node"
    FileStorage(folder).close()
    for mode in (0o777, 0o770, 0o1777):
        folder.chmod(mode)
        with pytest.raises(PermissionError, match="only its owner writes"):
            FileStorage(folder)
    folder.chmod(0o700)
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(PermissionError, match="only its owner writes"):
        FileStorage(tmp_path / "link")
    (folder / "prov0").symlink_to(tmp_path / "elsewhere")
    storage = FileStorage(folder)
    with pytest.raises(OSError, match="symbolic links"):
        storage.set("prov0", b"secret")
    with pytest.raises(OSError, match="symbolic links"):
        storage.get("prov0")
    assert not (tmp_path / "elsewhere").exists()
    storage.close()


@pytest.mark.req("SEC-23")
def test_a_second_process_does_not_get_the_folder(tmp_path):
    FileStorage(tmp_path)
    code = f"from device_agent.host.storage import FileStorage; FileStorage({str(tmp_path)!r})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ})
    assert "BlockingIOError" in run.stderr


@pytest.mark.parametrize("name", ["../prov0", "", "a/b", "sixteen letters!", "x" * 16])
def test_names_do_not_leave_the_folder(tmp_path, name):
    storage = FileStorage(tmp_path)
    with pytest.raises(ValueError):
        storage.set(name, b"")


# --- link ---


@pytest.mark.parametrize(
    ("host", "mask", "everybody"),
    [
        ("192.168.1.10", "255.255.255.0", "192.168.1.255"),
        ("10.1.2.3", "255.0.0.0", "10.255.255.255"),
        ("172.16.5.9", "255.255.252.0", "172.16.7.255"),
    ],
)
def test_the_directed_broadcast_address(host, mask, everybody):
    assert directed_broadcast(host, mask) == everybody


def link(host):
    return UdpLink(host, EVERYBODY, port=PORT, broadcast_port=BROADCAST_PORT)


@pytest.mark.parametrize("text", ["gateway", "1.2.3", "1.2.3.256", "1.2.3.4:0", "1.2.3.4:x", ""])
def test_what_is_no_address_is_refused(text):
    one = link("127.0.71.1")
    with pytest.raises(ValueError):
        one.address(text)
    one.close()


async def test_unicast_and_broadcast_arrive_on_their_own_ways():
    one, two = link("127.0.71.1"), link("127.0.71.2")
    one.send(two.address(f"127.0.71.2:{PORT}"), b"to you")
    one.air(b"to all")
    async with asyncio.timeout(5):
        assert await two.recv() == (("127.0.71.1", PORT), b"to you")
        assert await two.hear(None) == await one.hear(None) == b"to all"
    one.close()
    one.send(("127.0.71.2", PORT), b"after the end")
    assert one.dropped == 1
    two.close()


@pytest.mark.parametrize("hear", [None, "0.0.0.0"])
async def test_only_what_is_coap_leaves_from_the_port_of_coap(hear):
    """A network analyser goes by the port, and would show group messages as broken CoAP."""
    one = UdpLink("127.0.71.1", EVERYBODY, hear=hear, port=PORT, broadcast_port=BROADCAST_PORT)
    two = link("127.0.71.2")
    one.air(b"group message")
    one.send(("127.0.71.2", PORT), b"request")
    async with asyncio.timeout(5):
        (_, port), said = await two._next(udp._BROADCAST)
        assert (port, said) == (BROADCAST_PORT, b"group message")
        assert await two.recv() == (("127.0.71.1", PORT), b"request")
    one.close()
    two.close()


@pytest.mark.req("SEC-09")
async def test_an_empty_datagram_makes_no_link_deaf():
    """On an ESP32 the socket that has received it reads nothing any more: tests/system/test_virtual_board.py."""
    one, two = link("127.0.71.1"), link("127.0.71.2")
    async with asyncio.timeout(5):
        for count in (1, 2):
            one.send(("127.0.71.2", PORT), b"")
            one.air(b"")
            receiving, hearing = asyncio.create_task(two.recv()), asyncio.create_task(two.hear(None))
            while two.empty < 2 * count:
                await asyncio.sleep(0.01)
            one.send(("127.0.71.2", PORT), b"to you")
            one.air(b"to all")
            assert (await receiving)[1] == b"to you"
            assert await hearing == b"to all"
    one.close()
    two.close()


async def test_a_socket_that_cannot_be_opened_anew_is_tried_again(monkeypatch):
    """An ESP32 has few sockets, and sometimes no memory for one."""
    one, two = link("127.0.71.1"), link("127.0.71.2")
    one.send(("127.0.71.2", PORT), b"")
    with monkeypatch.context() as patched:

        def no_memory(*place):
            raise OSError(errno.ENOMEM, "no memory")

        patched.setattr(udp, "_bound", no_memory)
        for _ in range(2):
            async with asyncio.timeout(5):
                with pytest.raises(OSError, match="no memory"):
                    await two.recv()
        two.send(("127.0.71.1", PORT), b"lost")
        assert two.dropped == 1
    receiving = asyncio.create_task(two.recv())
    await asyncio.sleep(0)
    one.send(("127.0.71.2", PORT), b"to you")
    async with asyncio.timeout(5):
        assert (await receiving)[1] == b"to you"
    one.close()
    two.close()


# --- the whole agent ---


class Network(LakersGateway):
    """A LakersGateway on a UDP link of its own, with one Service Group whose key is version 6."""

    def __init__(self, party, boards):
        super().__init__(party, boards)
        self.script = device_world.Gateway()
        self.script.leisure = 50
        self.script.groups["kitchen"] = [1, 5, False]
        self.link = link("127.0.71.10")

    def answer(self, code, fields, session):
        return self.script.answer(code, fields)

    async def serve(self):
        endpoint = Endpoint(os.urandom)
        clock = BoardClock()
        while True:
            address, data = await self.link.recv()
            for action in endpoint.datagram(address, data, clock.now()):
                if action[0] == "request":
                    _, exchange, message, _ = action
                    reply = self.coap(address, message.code, message.options, message.payload, 0)
                    for _, to, octets in endpoint.reply(
                        exchange, reply.code, reply.options, reply.payload, clock.now()
                    ):
                        self.link.send(to, octets)
                elif action[0] == "send":
                    self.link.send(action[1], action[2])


async def member(node, sg_id):
    """The group, as soon as `node` is a member: `join` would wait for a key."""
    joining = asyncio.create_task(node.join(sg_id))
    await until(lambda: joining.done() or sg_id in [group.id for group in node.groups])
    if joining.done():
        await joining
    [group] = [group for group in node.groups if group.id == sg_id]
    return group


@pytest.fixture
async def house(tmp_path, monkeypatch):
    """A gateway and two boards, started."""
    monkeypatch.setattr(n, "PORT_BROADCAST", BROADCAST_PORT)  # beside whatever runs on this machine
    parties = [Party("pne-1"), Party("pne-2")]
    gateway = Network(Party("gw-1"), [party.credential for party in parties])
    server = asyncio.create_task(gateway.serve())
    pinned = gateway.party.credential
    nodes, storages = [], []
    for number, party in enumerate(parties):
        storage = FileStorage(tmp_path / party.credential.entity_id)
        signing = device_world.identity().signing_key
        own = (party.credential.entity_id, party.private, party.credential.ccs)
        hint = f"127.0.71.10:{PORT}"
        record = Provisioning(*own, pinned.entity_id, pinned.ccs, signing, 1, "home", hint)
        KeyStore(storage).save(RECORD, record.pack())
        events = []
        udp = link(f"127.0.71.{20 + number}")
        node = Node(storage, [udp], [udp], BoardClock(), on_event=lambda *event, to=events: to.append(event))
        node.events = events
        await node.start()
        nodes.append(node)
        storages.append(storage)
    yield gateway, nodes
    for node in nodes:
        await node.stop()
    server.cancel()
    gateway.link.close()
    for storage in storages:
        storage.close()


@pytest.mark.req("CPNS-GKM-23", "CPNS-GKM-38", "CPNS-GKM-50", "CPNS-GKM-57", "CPNS-GKM-66")
async def test_two_boards_join_get_a_key_by_broadcast_and_talk(house):
    gateway, (one, two) = house
    groups = [await member(one, "kitchen"), await member(two, "kitchen")]
    keys = []
    groups[0].on_key(keys.append)
    gateway.link.air(gateway.script.object("kitchen", 6))
    await until(lambda: groups[0].version == groups[1].version == 6)
    assert keys == [6]
    await until(lambda: [code for code, _ in gateway.asked].count(n.GROUP_KEY_DELIVERY_RESPONSE) == 2)
    told = [values for name, values in one.events if name == "key"]
    assert told == [{"group": "kitchen", "version": 6, "reason": n.REASON_PERIODIC, "broadcast": True}]

    for word in (b"light on", b"light off"):
        await groups[0].send(word)
    async with asyncio.timeout(5):
        assert await anext(groups[1]) == Message("pne-1", b"light on", False)
        assert await anext(groups[1]) == Message("pne-1", b"light off", False)

    await groups[1].leave()
    assert two.groups == []
    async with asyncio.timeout(5):
        assert [message async for message in groups[1]] == []
    assert [fields[m.PNE_ID] for code, fields in gateway.asked if code == n.LEAVE_REQUEST] == ["pne-2"]


async def test_an_application_notices_nothing_when_the_gateway_has_lost_its_sessions(house):
    gateway, (one, _) = house
    await member(one, "kitchen")
    gateway.sessions.clear()
    gateway.script.groups["hall"] = [2, 1, False]
    group = await member(one, "hall")
    assert group.id == "hall" and gateway.handshakes == 3  # two boards, and one of them again


class NeverEmpty:
    """A link and a medium on which somebody sends without a pause."""

    reports = False

    def __init__(self):
        self.taken = 0

    def address(self, text):
        return text

    def up(self):
        return True

    async def changed(self):
        await asyncio.Event().wait()

    def standing(self):
        return True

    def send(self, address, datagram):
        pass

    async def recv(self):
        return "anybody", await self.hear(None)

    async def hear(self, home):
        self.taken += 1
        assert self.taken < 10000, "nothing else gets a turn"
        return b"\x50\x00\x00\x00"

    def close(self):
        pass


@pytest.mark.req("SEC-09")
async def test_a_flood_that_never_pauses_stops_nothing_else():
    link = NeverEmpty()
    medium = device_world.Medium()
    KeyStore(medium).save(RECORD, device_world.identity().pack())
    node = Node(medium, [link], [link], BoardClock(), os.urandom)
    await node.start()
    async with asyncio.timeout(5):
        for _ in range(100):
            before = link.taken
            await asyncio.sleep(0)
            assert link.taken - before <= 2 * 3
    await node.stop()


async def test_join_returns_with_the_first_key_so_that_the_next_line_may_send(house):
    gateway, (one, _) = house
    joining = asyncio.create_task(one.join("kitchen"))
    await until(lambda: one.groups)
    assert not joining.done()
    with pytest.raises(Unknown, match="no Group Key of kitchen yet"):
        await one.groups[0].send(b"too early")
    gateway.link.air(gateway.script.object("kitchen", 6))
    async with asyncio.timeout(10):
        group = await joining
    await group.send(b"light on")
    assert group is one.groups[0] and group.version == 6 and not group.ended
    asked = len(gateway.asked)
    assert await one.join("kitchen") is group and len(gateway.asked) == asked  # held already


async def test_an_application_that_wants_to_know_sooner_asks_with_a_time_limit(house):
    _, (one, _) = house
    with pytest.raises(asyncio.TimeoutError):
        await one.join("kitchen", timeout_s=0.5)


async def test_join_waits_for_a_gateway_whose_server_cannot_be_reached(house, monkeypatch):
    gateway, (one, _) = house
    monkeypatch.setattr(tuning, "CANNOT_NOW_MIN", 50)

    class NoServer(CpnsError):
        code = n.ERROR_NO_SESSION

    gateway.answer_truly, gateway.refused = gateway.answer, 0

    def answer(code, fields, session):
        if code == n.JOIN_REQUEST and gateway.refused < 3:
            gateway.refused += 1
            return m.failure(code, NoServer("the CPNS Server does not answer"))
        return gateway.answer_truly(code, fields, session)

    gateway.answer = answer
    group = await member(one, "kitchen")
    assert group.id == "kitchen" and gateway.refused == 3


@pytest.mark.req("SEC-15")
async def test_an_expelled_application_is_told_and_sends_nothing_more(house):
    gateway, (one, _) = house
    group = await member(one, "kitchen")
    gateway.link.air(gateway.script.object("kitchen", 6))
    await until(lambda: group.version == 6)
    gateway.script.refuse[n.KEY_PULL_REQUEST] = NotMember("pne-1 is no member of kitchen")
    gateway.answer = lambda code, fields, session: _refusing(gateway, code, fields)
    with pytest.raises(NotMember):
        await group.refresh()
    async with asyncio.timeout(5):
        assert [message async for message in group] == []
    assert group.ended == "expelled" and one.groups == []
    with pytest.raises(NotMember, match="expelled"):
        await group.send(b"light on")
    assert ("expelled", {"group": "kitchen"}) in one.events


def _refusing(gateway, code, fields):
    error = gateway.script.refuse.get(code)
    return m.failure(code, error) if error else gateway.script.answer(code, fields)


async def test_what_an_applications_callbacks_raise_is_printed_and_the_agent_goes_on(house, capsys):
    gateway, (one, _) = house

    def broken(*values):
        raise ZeroDivisionError("of the application")

    one._on_event = broken
    group = await member(one, "kitchen")
    group.on_key(broken)
    gateway.link.air(gateway.script.object("kitchen", 6))
    await until(lambda: group.version == 6)
    assert "ZeroDivisionError: of the application" in capsys.readouterr().err
    gateway.link.air(gateway.script.object("kitchen", 7))
    await until(lambda: group.version == 7)
    assert not one._task.done()


class Unplugged(UdpLink):
    """A link whose network comes and goes."""

    def __init__(self, *args, **how):
        super().__init__(*args, **how)
        self.there = False
        self.sent = 0
        self._turn = asyncio.Event()

    def up(self):
        return self.there

    async def changed(self):
        await self._turn.wait()
        self._turn.clear()

    def switch(self, there):
        self.there = there
        self._turn.set()

    def send(self, address, datagram):
        assert self.there, "sent without a network"
        self.sent += 1
        super().send(address, datagram)


async def test_without_a_network_nothing_is_sent_and_nothing_times_out(house, monkeypatch):
    """The access point comes minutes after the board, and goes in the middle of EDHOC."""
    gateway, (one, _) = house
    await one.stop()
    one._agent.session.forget()
    plugged = Unplugged("127.0.71.20", EVERYBODY, port=PORT, broadcast_port=BROADCAST_PORT)
    clock = BoardClock()
    ahead = [0]
    now = clock.now
    clock.now = lambda: now() + ahead[0]
    one = Node(one._agent.store.storage, [plugged], [plugged], clock)
    agent = one._agent
    await one.start()
    asking = asyncio.create_task(agent.perform(agent.membership.assign))
    joining = asyncio.create_task(one.join("kitchen"))
    for _ in range(4):
        await asyncio.sleep(0.05)
        ahead[0] += 60000
    await asyncio.sleep(0.2)  # for who waits to look at the clock
    assert plugged.sent == 0 and not joining.done() and not asking.done() and not one._task.done()

    shaken = gateway.coap
    gateway.coap = lambda *request: plugged.switch(False) or shaken(*request)  # gone when the first answer comes
    plugged.switch(True)
    await until(lambda: not plugged.there)
    await asyncio.sleep(0.1)
    gateway.coap = shaken
    assert not joining.done()
    plugged.switch(True)
    ahead[0] += tuning.HANDSHAKE_BACKOFF_MIN
    await until(lambda: one.groups)
    gateway.link.air(gateway.script.object("kitchen", 6))
    async with asyncio.timeout(10):
        assert (await joining).version == 6
        await asking
    await one.stop()


@pytest.mark.req("SEC-05")
async def test_an_application_may_read_nothing_more_under_the_key_of_before_a_leave(house):
    gateway, (one, _) = house
    group = await member(one, "kitchen")
    group.limit_grace(0)
    for version, reason in ((6, n.REASON_PERIODIC), (7, n.REASON_LEAVE)):
        gateway.link.air(gateway.script.object("kitchen", version, reason=reason))
        await until(lambda version=version: group.version == version)
    assert group._state.ring.versions == [7]


async def test_events_tell_no_secret(house):
    gateway, (one, _) = house
    group = await member(one, "kitchen")
    gateway.link.air(gateway.script.object("kitchen", 6))
    await until(lambda: group.version == 6)
    for name, values in one.events:
        assert isinstance(name, str)
        assert all(isinstance(value, str | int) for value in values.values()), values
        assert device_world.key_of(6).hex() not in repr(values)
        assert repr(device_world.key_of(6))[2:-1] not in repr(values)


async def test_an_error_of_a_part_ends_the_agent_and_is_not_swallowed(house):
    _, (one, _) = house

    def broken(datagram):
        raise ZeroDivisionError
        yield

    one._agent.receiver.receive = broken
    for _ in range(2):  # for the first one it waits already, with the receiver of before
        one._agent._media[0].air(b"anything")
    await until(lambda: one._task.done())
    with pytest.raises(ZeroDivisionError):
        await one.stop()
