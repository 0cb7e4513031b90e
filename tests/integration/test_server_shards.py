"""Several processes of one CPNS Server, with a real PostgreSQL and a real Mosquitto: each PN GW is served by one of
them at a time, whatever is stopped, killed, added or removed (SEC-23)."""

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import aiocoap
import aiomqtt
import psycopg
import pytest

from cpns import messages as m
from cpns import numbers as n
from message_plane import credentials
from message_plane.cpns_resource import PATH, uplink_resource
from message_plane.endpoint import Endpoint
from message_plane.errors import PlaneError
from message_plane.identity import OwnIdentity
from message_plane.links.mqtt import MqttLink
from message_plane.links.mqtt_section import MqttSection
from message_plane.links.mqtt_topics import SHARDS, place_of, shard_of, tag_of
from message_plane.session_file import SessionFile
from tests.integration.mqtt_uplink_world import RULES, SERVER_ID
from tests.integration.plane_world import Party
from tests.integration.test_server_pnes import Tunnel
from tests.integration.tunnel_end import PLACE, BoardEnd
from tests.unit.cpns_server_parts import PnGw, succeeded
from tests.unit.mosquitto_broker import mosquitto
from tests.unit.postgres_server import postgres
from tests.waiting import until

pytestmark = pytest.mark.real_time

ROOT = Path(__file__).parents[2]
CHILD = Path(__file__).with_name("server_process_child.py")  # never imported: it shortens the leases of its process
GATEWAYS = 12
SG = "light"


class ServerProcess:
    """One process of the Server, and what it has told."""

    def __init__(self, process):
        self.process = process
        self.told = []
        self._results = asyncio.Queue()
        self._calling = asyncio.Lock()
        self._reading = asyncio.ensure_future(self._read())

    @classmethod
    async def start(cls, world, name):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(CHILD), str(world.folder / name), world.broker.url, world.database),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        child = cls(process)
        assert await child._result() == "ready"
        return child

    async def _read(self):
        while line := await self.process.stdout.readline():
            told = json.loads(line)
            if "result" in told or "error" in told:
                self._results.put_nowait(told)
            else:
                self.told.append(told)
        self._results.put_nowait({"error": "the process has ended"})

    async def _result(self):
        told = await self._results.get()
        if "error" in told:
            raise AssertionError(told["error"])
        return told["result"]

    async def call(self, name, *arguments):
        """Call a method of its CpnsServer and return the result."""
        async with self._calling:
            line = [name, *(f"hex:{each.hex()}" if isinstance(each, bytes) else each for each in arguments)]
            self.process.stdin.write(json.dumps(line).encode() + b"\n")
            return await self._result()

    @property
    def shards(self):
        """The shards that it has adopted and not left."""
        held = set()
        for told in self.told:
            held |= set(told.get("adopted", ()))
            held -= set(told.get("left", ()))
        return held

    async def mark(self):
        """How much it has told so far: what it has told before an answer is read with the answer."""
        await self.call("counters")
        return len(self.told)

    async def sent(self, since=0):
        await self.mark()
        return [told["sent"] for told in self.told[since:] if "sent" in told]

    async def handled(self, since=0):
        await self.mark()
        return [told["handled"] for told in self.told[since:] if "handled" in told]

    async def stop(self):
        """SIGSTOP, and return when it stands still and all that it has written is read."""
        self.process.send_signal(signal.SIGSTOP)
        stat = Path(f"/proc/{self.process.pid}/stat")
        await until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")
        await asyncio.sleep(0.2)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    async def kill(self):
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()
        await self._reading

    async def end(self):
        """Let it end in order."""
        if self.process.returncode is None:
            self.process.stdin.close()
            assert await self._result() == "closed"
            await self.process.wait()
            await self._reading


class MqttPnGw(PnGw):
    """The PN GW of the unit tests behind an endpoint at a broker. It repeats what has no answer."""

    def __init__(self, world, number):
        super().__init__(f"gw.{number}", f"pn.{number}")
        self.world = world
        self.identity = OwnIdentity.create(world.folder / f"{number}.key", self.gateway_id, "gateway")
        self.store = SessionFile(world.folder / f"{number}.sessions")

    async def start(self, server_credential):
        self.store.register(credentials.parse(server_credential, "server"))
        section = MqttSection(brokers=[self.world.broker.url], user=tag_of(self.gateway_id))
        self.endpoint = await Endpoint.open(
            identity=self.identity,
            store=self.store,
            resources={"server": {PATH: uplink_resource(self.take)}},
            links=[MqttLink(section, self.gateway_id, server_id=SERVER_ID)],
        )
        await self.patiently(lambda: self.endpoint.connect(SERVER_ID, place_of(SERVER_ID)))

    async def take(self, peer, message):
        return await self.receive(message)

    async def patiently(self, work):
        """Return the result of `work`, which is repeated while nobody answers, as during a takeover."""
        for _ in range(60):
            with contextlib.suppress(PlaneError):
                return await work()
            await asyncio.sleep(0.3)
        raise AssertionError("no answer for a long time")

    async def ask(self, code, fields):
        request = m.encode(code, fields)
        answer = await self.patiently(lambda: self.endpoint.request(SERVER_ID, request, resource=PATH, timeout_s=3))
        return dict(m.decode(answer, 131072)[1])

    async def close(self):
        await self.endpoint.close()
        self.store.close()


class Recorder:
    """Sees every datagram at the broker, as an attacker there does."""

    def __init__(self, url):
        self.url = url
        self.seen = []  # (tag of the PN GW, whether it is upwards, CoAP message)
        self.hears = asyncio.Event()

    async def run(self):
        host, _, port = self.url.removeprefix("mqtt://").rpartition(":")
        client = aiomqtt.Client(host, int(port), username=tag_of(SERVER_ID), identifier="recorder")
        async with client:
            await client.subscribe([("keycast/1/up/+/+", 1), ("keycast/1/dn/+", 1)])
            self.hears.set()
            async for message in client.messages:
                parts = message.topic.value.split("/")
                self.seen.append((parts[-1], parts[2] == "up", bytes(message.payload)))

    def nonces_of_server(self):
        """All (key, nonce) pairs that processes of the Server have used, each with the octets that it protected.

        There was one context for each PN GW, so its tag names the key. A nonce is that of a number of the Server, or,
        in an answer without one, that of the number of the question.
        """
        used = defaultdict(set)
        questions = {}
        for tag, is_up, datagram in self.seen:
            message = aiocoap.Message.decode(datagram)
            option = message.opt.oscore
            if option is None:
                continue
            number = option[1 : 1 + (option[0] & 7)] if option else b""
            if is_up:
                questions[tag, message.token] = number
            elif number:
                used[tag, "own", number].add(message.payload)
            else:
                used[tag, "of the question", questions[tag, message.token]].add(message.payload)
        return used


class World:
    """A broker, a database, PN GWs, and any number of processes of the Server."""

    def __init__(self, folder, broker, database):
        self.folder = folder
        self.broker = broker
        self.database = database
        self.processes = []
        self.gateways = []
        self.recorder = Recorder(broker.url)

    async def start(self, name):
        self.processes.append(await ServerProcess.start(self, name))
        return self.processes[-1]

    async def settled(self, *processes):
        """Wait until these processes share all shards."""
        share = -(-SHARDS // len(processes))
        await until(
            lambda: (
                sum(len(each.shards) for each in processes) == SHARDS
                and all(len(each.shards) <= share for each in processes)
            )
        )

    async def populate(self, process, count=GATEWAYS):
        """PN GWs come, each with a board in one Service Group."""
        credential = bytes.fromhex(await process.call("credential"))
        self.gateways = [MqttPnGw(self, number) for number in range(count)]
        for gateway in self.gateways:
            ccs = gateway.identity.credential.ccs
            await process.call("register_gateway", gateway.gateway_id, gateway.pn_id, ccs, "cbor", True)
        await process.call("create_group", SG, [gateway.pn_id for gateway in self.gateways])
        await asyncio.gather(*(gateway.start(credential) for gateway in self.gateways))
        for gateway in self.gateways:
            assert succeeded(await gateway.ask(n.JOIN_REQUEST, {m.PNE_ID: f"lamp.{gateway.pn_id}", m.SG_ID: SG}))

    async def update(self, process):
        """The group gets another key, which each PN GW has in the end. Returns its version."""
        version = await process.call("update_key", SG)
        await self.have(version)
        return version

    def contexts_of(self, entity_id):
        """The shards of the contexts that are stored of an entity."""
        with psycopg.connect(self.database) as connection:
            found = connection.execute(
                "SELECT shard FROM cpns_server.oscore_context WHERE entity_id = %s", (entity_id,)
            )
            return [shard for (shard,) in found.fetchall()]

    async def have(self, version):
        await until(lambda: all(gateway.newest(SG) == version for gateway in self.gateways))


@pytest.fixture
async def world(tmp_path):
    with (
        mosquitto(tmp_path / "broker", access=RULES) as broker,
        tempfile.TemporaryDirectory() as short,  # the name of a Unix socket has 108 octets at most
        postgres(Path(short)) as database,
    ):
        world = World(tmp_path, broker, database)
        recording = asyncio.ensure_future(world.recorder.run())
        await world.recorder.hears.wait()
        try:
            yield world
        finally:
            for gateway in world.gateways:
                await gateway.close()
            for process in world.processes:
                await process.kill()
            recording.cancel()
            await asyncio.gather(recording, return_exceptions=True)


def in_order(gateway):
    """No PN GW was ever given an older key than one that it had."""
    versions = [version for sg_id, kind, version in gateway.seen if kind == "key"]
    return versions == sorted(versions)


def no_nonce_twice(world):
    used = world.recorder.nonces_of_server()
    assert len(used) > len(world.gateways)
    assert all(len(payloads) == 1 for payloads in used.values()), "one key and nonce, one message"


@pytest.mark.req("SEC-23")
async def test_two_processes_each_hold_half_and_serve_their_own(world):
    one = await world.start("one")
    assert len(one.shards) == SHARDS
    await world.populate(one)
    two = await world.start("two")
    await world.settled(one, two)
    assert len(one.shards) == len(two.shards) == SHARDS // 2 and one.shards.isdisjoint(two.shards)
    marks = [await each.mark() for each in (one, two)]
    await world.update(two)
    by_one, by_two = [set(await each.sent(since)) for each, since in zip((one, two), marks, strict=True)]
    assert by_one.isdisjoint(by_two) and len(by_one | by_two) == GATEWAYS
    for each, tags in ((one, by_one), (two, by_two)):
        assert {int(tag[:2], 16) % SHARDS for tag in tags} <= each.shards
    # what was asked before of one is known to the other: nobody makes another session, a takeover asks for Echo
    counters = [await each.call("counters") for each in (one, two)]
    assert counters[0]["handshakes_done"] == GATEWAYS and "handshakes_done" not in counters[1]
    for gateway in world.gateways:
        await gateway.ask(n.VERSION_LIST_REQUEST, {m.PN_ID: gateway.pn_id})
    counters = [await each.call("counters") for each in (one, two)]
    assert counters[1]["requests_echo_challenged"] >= len(by_two)
    assert [(await each.call("status"))["processes"] for each in (one, two)] == [2, 2]
    await one.end()
    await world.settled(two)
    await world.update(two)
    no_nonce_twice(world)
    assert all(in_order(gateway) for gateway in world.gateways)


@pytest.mark.req("SEC-23")
async def test_a_holder_that_was_stopped_and_goes_on_after_the_takeover_sends_nothing(world):
    one = await world.start("one")
    two = await world.start("two")
    await world.settled(one, two)
    await world.populate(one)
    await world.update(one)
    before = one.shards
    of_one = [each for each in world.gateways if shard_of(each.gateway_id) in before]
    assert 0 < len(of_one) < GATEWAYS
    await one.stop()
    mark = len(one.told)
    # what its PN GWs ask meanwhile waits in its socket
    asking = [asyncio.ensure_future(each.ask(n.VERSION_LIST_REQUEST, {m.PN_ID: each.pn_id})) for each in of_one]
    await world.settled(two)
    await asyncio.gather(*asking)
    await world.update(two)
    one.go_on()
    await until(lambda: len(one.shards) and one.shards.isdisjoint(two.shards) and "left" in str(one.told[mark:]))
    told = one.told[mark:]
    anew = next(at for at, each in enumerate(told) if "adopted" in each)
    left = next(at for at, each in enumerate(told) if "left" in each)
    assert left < anew and set(told[left]["left"]) == before
    assert not [each for each in told[:anew] if "sent" in each or "handled" in each]
    await world.settled(one, two)
    await world.update(one)
    no_nonce_twice(world)
    assert all(in_order(gateway) for gateway in world.gateways)


@pytest.mark.req("SEC-22", "SEC-23")
async def test_nothing_is_lost_and_no_nonce_used_twice_when_holders_are_killed_at_any_moment(world):
    one, two = await world.start("one"), await world.start("two")
    await world.settled(one, two)
    await world.populate(one)
    source = random.Random()
    version = 0
    for number in range(4):
        updating = asyncio.ensure_future(two.call("update_key", SG))
        await asyncio.sleep(source.random() * 0.3)
        await one.kill()
        version = await updating
        one, two = two, await world.start(f"number {number}")
        await world.have(version)
    await world.settled(one, two)
    await world.have(await two.call("update_key", SG))
    no_nonce_twice(world)
    assert all(in_order(gateway) for gateway in world.gateways)
    assert sum(each.get("handshakes_done", 0) for each in [await p.call("counters") for p in (one, two)]) == 0


@pytest.mark.long
async def test_a_third_process_joins_and_leaves_while_keys_go_out(world):
    one, two = await world.start("one"), await world.start("two")
    await world.settled(one, two)
    await world.populate(one)
    enough = asyncio.Event()
    updating = asyncio.ensure_future(update_often(one, enough))
    three = await world.start("three")
    await world.settled(one, two, three)
    assert sorted(len(each.shards) for each in (one, two, three)) == [20, 22, 22]
    await three.end()
    await world.settled(one, two)
    enough.set()
    await updating
    await world.update(two)
    no_nonce_twice(world)
    assert all(in_order(gateway) for gateway in world.gateways)


async def update_often(process, enough):
    while not enough.is_set():
        await process.call("update_key", SG)
        await asyncio.sleep(0.1)


@pytest.mark.req("SEC-23")
async def test_one_request_is_answered_by_one_process(world):
    one, two = await world.start("one"), await world.start("two")
    await world.settled(one, two)
    await world.populate(one)
    marks = [await each.mark() for each in (one, two)]
    for _ in range(3):
        for gateway in world.gateways:
            await gateway.ask(n.VERSION_LIST_REQUEST, {m.PN_ID: gateway.pn_id})
    handled = [await each.handled(since) for each, since in zip((one, two), marks, strict=True)]
    assert sorted(handled[0] + handled[1]) == sorted(3 * [gateway.gateway_id for gateway in world.gateways])
    assert set(handled[0]).isdisjoint(handled[1])
    no_nonce_twice(world)


@pytest.mark.req("SEC-23", "SEC-25")
async def test_a_board_whose_way_leads_to_another_process_has_its_session_there(world):
    """Its session belongs to the shard of the PN GW that brought its handshake; the one before is gone."""
    one, two = await world.start("one"), await world.start("two")
    await world.settled(one, two)
    await world.populate(one)
    old, new = (next(each for each in world.gateways if shard_of(each.gateway_id) in p.shards) for p in (one, two))
    lamp = Party(world.folder, "lamp", "pne")
    link = BoardEnd(Tunnel(*world.gateways), old.gateway_id, "lamp")
    await lamp.start(links=[link])
    try:
        lamp.store.register(credentials.parse(bytes.fromhex(await one.call("credential")), "server"))
        await two.call("admit_pne", "lamp", old.pn_id, lamp.credential.ccs)
        await old.patiently(lambda: lamp.endpoint.connect(SERVER_ID, PLACE))  # the other process hears of it soon
        assert await lamp.ask(SERVER_ID, b"") == b""
        assert world.contexts_of("lamp") == [shard_of(old.gateway_id)]
        await one.call("move_pne", "lamp", new.pn_id)
        link.names = new.gateway_id, "lamp"
        assert await lamp.ask(SERVER_ID, b"") == b""
        assert world.contexts_of("lamp") == [shard_of(new.gateway_id)]
        counters = await two.call("counters")
        assert counters["requests_without_context"] >= 1
        # it goes on when the process is killed
        await two.kill()
        await world.settled(one)
        for _ in range(10):
            with contextlib.suppress(PlaneError):
                assert await lamp.ask(SERVER_ID, b"", timeout_s=5) == b""
                break
        assert world.contexts_of("lamp") == [shard_of(new.gateway_id)]
        assert lamp.counters["sessions_begun"] == 2
    finally:
        await lamp.stop()


@pytest.mark.req("SEC-18", "SEC-32")
async def test_a_gateway_that_is_blocked_at_one_process_has_no_session_at_the_other(world):
    one, two = await world.start("one"), await world.start("two")
    await world.settled(one, two)
    await world.populate(one)
    gateway = next(each for each in world.gateways if shard_of(each.gateway_id) in two.shards)
    await one.call("block_gateway", gateway.gateway_id)
    assert world.contexts_of(gateway.gateway_id) == []
    for _ in range(20):  # its session ends a moment later; until then what it says is refused by the store
        mark = await two.mark()
        with pytest.raises(PlaneError):
            await gateway.endpoint.request(
                SERVER_ID, m.encode(n.VERSION_LIST_REQUEST, {m.PN_ID: gateway.pn_id}), resource=PATH, timeout_s=3
            )
        if gateway.gateway_id not in await two.handled(mark):
            return
        await asyncio.sleep(0.1)
    pytest.fail("the session goes on")
