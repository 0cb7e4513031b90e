"""One process owns the sessions (SEC-23): stopped processes, taken leases, kill -9 with a peer watching the numbers."""

import asyncio
import os
import random
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import aiocoap
import pytest

from message_plane import holder, lease, session_file
from message_plane.errors import LeaseHeld
from message_plane.session import parse_option
from tests.integration import plane_gateway_child
from tests.integration.plane_world import Party, Wire
from tests.waiting import until

pytestmark = pytest.mark.real_time

ROOT = Path(__file__).parents[2]
CHILD = Path(plane_gateway_child.__file__)
LIVES, FIRST = 6, 3  # each child lives until so many requests were answered, and for a random time after that


class Child:
    """The gateway in its own process, and the lines it has printed."""

    def __init__(self, process):
        self.process = process
        self.lines = []
        self._reading = asyncio.ensure_future(self._read())

    @classmethod
    async def start(cls, folder, port):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(CHILD), str(folder), str(port)),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=asyncio.subprocess.PIPE,
        )
        child = cls(process)
        await until(lambda: child.count("answered") >= FIRST)
        return child

    async def _read(self):
        while line := await self.process.stdout.readline():
            self.lines.append(line.decode().strip())

    def count(self, word):
        return sum(line.startswith(word) for line in self.lines)

    @property
    def address(self):
        return ("127.0.0.1", int(next(line for line in self.lines if line.startswith("at")).split()[1]))

    def is_stopped(self):
        return Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def signal(self, number):
        self.process.send_signal(number)

    async def stop(self, store):
        """Stop the process, and not in the midst of a transaction: then nobody could use its `store`."""
        while True:
            self.signal(signal.SIGSTOP)
            await until(self.is_stopped)
            with closing(sqlite3.connect(store, timeout=0, isolation_level=None)) as trial:
                try:
                    trial.execute("BEGIN IMMEDIATE")
                    return
                except sqlite3.OperationalError:
                    self.signal(signal.SIGCONT)
            await asyncio.sleep(0.001)

    async def end(self):
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await self._reading


@pytest.fixture
async def world(tmp_path, monkeypatch):
    (tmp_path / "ahead").write_text("0")
    monkeypatch.setattr(holder, "boot_milliseconds", plane_gateway_child.time_from(tmp_path / "ahead"))
    gateway, server = Party(tmp_path, "home-gw", "gateway"), Party(tmp_path, "cpns-server", "server")
    await server.start()
    store = session_file.SessionFile(tmp_path / "home-gw.db")
    store.register(server.credential)
    store.close()
    server.knows(gateway)
    yield gateway, server, tmp_path
    await gateway.stop()
    await server.stop()


@pytest.mark.req("SEC-23")
async def test_a_stopped_process_whose_lease_was_taken_can_neither_send_nor_act_when_it_goes_on(world):
    gateway, server, folder = world
    child = await Child.start(folder, server.address[1])
    try:
        assert await server.ask("home-gw", b"a") == b"\xa0"
        await child.stop(folder / "home-gw.db")
        with pytest.raises(LeaseHeld):
            await gateway.start()
        # a request of the server waits in the stopped process's socket
        waiting = asyncio.ensure_future(server.ask("home-gw", b"while stopped", timeout_s=5))
        before = server.counters["requests_sent"]
        await until(lambda: server.counters["requests_sent"] > before)
        (folder / "ahead").write_text(str(lease.LEASE_MS + 1))
        await server.endpoint._queue.renew(server.endpoint._lease)
        await gateway.start()
        server.got.clear()
        assert await gateway.ask("cpns-server", b"parent") == b"\xa1parent"
        received = server.counters["datagrams_received"]
        answered, handled = child.count("answered"), child.count("handled")
        child.signal(signal.SIGCONT)
        await until(lambda: child.count("ended"))
        assert child.count("ended LeaseLost") == 1
        assert child.count("lost") >= 1
        assert child.count("handled") == handled
        assert child.count("answered") - answered <= 1, "at most the request that was under way when it was stopped"
        assert [payload for _, payload in server.got] == [b"parent"]
        assert server.counters["datagrams_received"] - received <= 1, "at most what was sent before, repeated"
        waiting.cancel()
        assert await gateway.ask("cpns-server", b"still") == b"\xa1still"
    finally:
        await child.end()


@pytest.mark.req("SEC-22", "SEC-23")
async def test_a_peer_never_sees_a_number_twice_of_a_gateway_killed_at_any_moment(world):
    _, server, folder = world
    wire = await Wire.open(server.place)
    source = random.Random()
    for _ in range(LIVES):
        child = await Child.start(folder, wire.address[1])
        await asyncio.sleep(source.random() * 0.4)
        await child.end()
    await wire.close()
    requests = {}
    for datagram in wire.to_server:
        message = aiocoap.Message.decode(datagram)
        if message.opt.oscore:
            requests.setdefault(parse_option(message.opt.oscore), set()).add(message.payload)
    assert len(requests) >= LIVES * FIRST
    assert all(len(payloads) == 1 for payloads in requests.values()), "one number, one message"
    assert len({kid for _, kid in requests}) == 1, "it was one session all the time"
