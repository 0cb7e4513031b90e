"""The part of the VAL client that stays in the heap. It queues the Key Messages of the agent and answers each in turn.

With `HEAP_NEEDED` octets free, a message is opened beside the agent, which goes on serving. With less, it is put into
the store for `whole_heap`, and the board resets twice.

    service = ValService(node, "/val/", board.restart)
    asyncio.create_task(service.run())

`on_event(name, values)` is called for "val key" (GMK-ID), "val profile", "val refused" (code, reason), "val progress"
(period, percent) and "val failed" (reason).
"""

import asyncio
import gc
import sys

from cpns import cborlite, messages
from cpns import numbers as n
from cpns.errors import CpnsError, TooMany
from device_agent.requests import CPNS
from device_agent.session import NoSession, unload

_QUEUE, _ANSWER = "valq", "vala"  # as in `records`, which must not be loaded here
_THERE = b"\x80"  # CBOR []
QUEUE_MAX = 2
TRIES = 3
HEAP_NEEDED = 65536
RESET_DELAY = 0.5  # seconds, for the answer to the PN GW to leave


class ValService:
    """The service. `node` is a started api.Node, `folder` that of the cache files, '/' at its end, which is secret."""

    def __init__(self, node, folder, reset, on_event=None):
        """Register for Key Messages at the agent. `reset()` must restart the board."""
        self._reset = reset
        self._agent = node._agent
        self._folder = folder
        self._tell = on_event or (lambda name, values: None)
        self._queue = []
        self._arrived = asyncio.Event()
        self._agent.requests.parts[n.KEY_MESSAGE_REQUEST] = self._take

    async def run(self):
        """Serve until cancelled."""
        while not self._agent.session.up:  # a handshake needs the same heap, and no message comes before it
            await asyncio.sleep(1)
        answer = self._agent.store.load(_ANSWER)
        if answer:
            await self._send(answer)
            self._agent.store.erase(_ANSWER)
        await self._send(self._ready())
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._queue:
                await self._work(self._queue[0])
                self._queue.pop(0)

    def _ready(self):
        from device_agent.val_client import records

        try:
            return cborlite.encode([records.keys_end(self._agent.store)])
        finally:
            _unload()

    def _take(self, fields):
        octets = fields[messages.KEY_MESSAGE]
        if octets != _THERE and octets not in self._queue:  # _THERE: the PN GW asks whether there is a VAL client
            if len(self._queue) >= QUEUE_MAX:
                raise TooMany("key messages are waiting already")
            self._queue.append(octets)
            self._arrived.set()
        return _taken()

    async def _work(self, octets):
        # Load the modules that open one message, open it, unload them
        gc.collect()
        answer = None
        try:
            from device_agent.val_client import records

            answer = records.take_profile(self._agent.store, octets)
            if answer:
                self._tell("val profile", {})
            elif gc.mem_free() < HEAP_NEEDED:
                agent = self._agent
                now = agent.membership.unix_time(agent.clock.now())
                agent.store.save(_QUEUE, cborlite.encode([now, octets]))
                await asyncio.sleep(RESET_DELAY)
                self._reset()
                return
            else:
                answer = await self._opened(octets)
        except (CpnsError, OSError, ValueError, MemoryError) as error:
            self._tell("val failed", {"reason": str(error)})  # the server repeats a notice without answer
        finally:
            _unload()
        if answer:
            await self._send(answer)

    async def _send(self, answer):
        request = messages.encode(n.KEY_MESSAGE_REQUEST, {messages.KEY_MESSAGE: answer})
        for _ in range(TRIES):
            try:
                await self._agent.perform(lambda: self._agent.session.ask(CPNS, request))
                return
            except NoSession as error:
                self._tell("val failed", {"reason": str(error)})
            except CpnsError as error:
                self._tell("val failed", {"reason": str(error)})
                return

    async def _opened(self, octets):
        from device_agent.val_client import records

        records.load_client_modules()
        from device_agent.val_client import client

        agent = self._agent
        mine = records.load_client(agent.store)
        if mine is None:
            raise ValueError("no VAL client's record in the store")
        worker = client.BoardClient(agent.store, self._folder, mine)
        now = agent.membership.unix_time(agent.clock.now())
        await self._driven(worker.prepare(now, self._progress))
        answer = await self._driven(worker.receive(octets, now))
        name, gmk_id, _, code, text = cborlite.decode(answer)
        if code:
            self._tell("val refused", {"notice": name, "code": code, "reason": text})
        else:
            self._tell("val key", {"notice": name, "gmk_id": gmk_id})
        return answer

    async def _driven(self, steps):
        try:
            while True:
                next(steps)
                await asyncio.sleep(0)
        except StopIteration as end:
            return end.value
        finally:
            steps.close()

    def _progress(self, number, percent):
        self._tell("val progress", {"period": number, "percent": percent})


def _taken():
    return {}
    yield


def _unload():
    for name in list(sys.modules):
        if name.startswith(("mikey_sakke.", "device_agent.val_client.")) and not name.endswith(".service"):
            unload(name)
    gc.collect()
