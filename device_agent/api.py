"""What an application sees of the PNE: a node and its Service Groups.

    node = Node(storage, links, media, clock)
    await node.start()
    group = await node.join("kitchen")
    group.on_key(lambda version: print("new key", version))
    await group.send(b"light on")
    async for message in group:
        print(message.sender, message.data, message.replayable)
    print("no member any more:", group.ended)

The coroutines raise `errors.CpnsError` when something is refused, with a reason for people, and OSError when the
PN GW cannot be reached or the storage fails. What a callback of the application raises is printed and goes no further.
"""

import asyncio
import os
import sys
from collections import namedtuple

from cpns import numbers as n
from cpns.errors import NotMember
from device_agent import tuning
from device_agent.agent import Agent

# `sender`: a PNE ID, as a member of the group claims it (a Group Key proves membership, not the sender, Q-12);
# `replayable`: the message may have been received before, as the record of what was received was lost.
Message = namedtuple("Message", ("sender", "data", "replayable"))


ENDS = ("left", "deleted", "expelled")  # how a membership ends


def show(error):
    """Print an error of the application with its traceback, where a person looks for it."""
    if sys.implementation.name == "micropython":
        sys.print_exception(error)
    else:
        sys.excepthook(type(error), error, error.__traceback__)  # pyright: ignore[reportAttributeAccessIssue] - CPython


class Node:
    """One PNE: its identity, its session with the PN GW, and its Service Groups.

    `storage`, `clock` and `random` are ports of `ports.py`, `links` and `media` lists of its `Link`s and `Medium`s.
    `on_event(name, values)` is told what happens, as a word and a dict of plain values, never a secret: "session",
    "joined", "key", "left", "deleted", "expelled", "generation", "rolled over", "conflict", "ignoring", "refused",
    "failed", "message" (its length only). Raises Unknown when the storage holds no identity.
    """

    def __init__(self, storage, links, media, clock, random=os.urandom, on_event=None):
        self._on_event = on_event
        self._groups = {}  # SG ID -> Group
        self._news = asyncio.Event()  # in any of them: one for all takes less heap
        self._task = None
        self._agent = Agent(storage, links, media, clock, random, self._tell)
        for state in self._agent.membership.groups.values():
            self._groups[state.id] = Group(self._agent, state, self._news)

    @property
    def id(self):
        """The PNE ID."""
        return self._agent.identity.pne_id

    @property
    def groups(self):
        """The Service Groups this PNE is a member of, those from before a restart included: list of Group."""
        return list(self._groups.values())

    async def start(self):
        """Start serving in the background; the session with the PN GW comes by itself."""
        self._task = asyncio.create_task(self._agent.run())

    async def run(self):
        """Serve in this task, for programs that want an error of the agent to end them; never returns."""
        await self._agent.run()

    async def stop(self):
        """Stop serving, close links and media; the state is in the storage. Raises what ended the agent earlier."""
        task, self._task = self._task, None
        if task:
            if not task.done():
                task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                return

    async def join(self, sg_id, timeout_s=None):
        """Become a member of a Service Group, with a GKDK first if there is none (CPNS-GKM-02, -23) -> Group.

        Returns when its first key is held: at once, if there is a network, with a key from before a restart. Waits for
        network, PN GW, Server and key as long as it takes; with `timeout_s` it raises asyncio.TimeoutError then, and
        may be called again. Raises CpnsError when refused.
        """
        return await asyncio.wait_for(self._enter(sg_id, None), timeout_s)

    async def create(self, sg_id, protection=n.PROTECTION_SEALED, timeout_s=None):
        """Create a Service Group, `protection` being one of `numbers.PROTECTION_*`, and become a member, as `join`."""
        return await asyncio.wait_for(self._enter(sg_id, protection), timeout_s)

    async def pair(self, show):
        """Take the gateway that is told the secret which `show(16 characters)` shows to a person; at most 5 minutes."""
        from device_agent import pairing

        secret = self._agent.random(10)
        show(pairing.shown(secret))
        await self._agent.pair(secret)

    async def _enter(self, sg_id, protection):
        await self._agent.network()
        group = self._groups.get(sg_id)
        if group is None or not group.version:
            await self._agent.perform(lambda: self._agent.membership.enter(sg_id, protection), True)
            group = self._groups.get(sg_id)
        while group and not group.version and not group.ended:
            await asyncio.sleep(0.1)
        if not group or group.ended:
            raise NotMember("no member of %s any more" % sg_id)
        return group

    def _tell(self, name, values):
        state = values.get("group")
        if state is not None:
            values["group"] = state.id
            if name == "joined" and state.id not in self._groups:
                self._groups[state.id] = Group(self._agent, state, self._news)
            group = self._groups.get(state.id)
            if group is not None:
                group._tell(name, values)
            if name in ENDS:
                self._groups.pop(state.id, None)
        if self._on_event:
            opened = values.pop("opened", None)
            if opened:
                values["sender"], values["length"] = opened.sender_id, len(opened.message)
            _call(self._on_event, name, values)


class Group:
    """A Service Group this PNE is a member of."""

    def __init__(self, agent, state, news):
        self._agent = agent
        self._state = state
        self._on_key = None
        self.ended = ""  # how the membership ended: one of ENDS
        self._inbox = []
        self._news = news
        self.dropped = 0  # messages that came while the application had `tuning.INBOX_MAX` of them unread

    @property
    def id(self):
        """The SG ID."""
        return self._state.id

    @property
    def version(self):
        """The newest version of the Group Key held, 0 before the first."""
        return self._state.version

    def on_key(self, callback):
        """Call `callback(version)` whenever a new Group Key is stored."""
        self._on_key = callback

    def limit_grace(self, seconds):
        """Read messages under older keys for so long after somebody left, 0..30 s; 30 s unless called (SEC-05)."""
        self._state.ring.limit_grace(seconds)

    async def send(self, data):
        """Protect `data` (at most 1,024 octets) with the Group Key and broadcast it.

        Raises NotMember when the membership has ended, Unknown without a key: those of `join` have one.
        """
        if self.ended:
            raise NotMember("no member of %s any more: %s" % (self.id, self.ended))
        self._agent.send(self._state, data)

    async def refresh(self):
        """Ask the PN GW for the newest key now; it is asked at least every 24 hours anyway."""
        await self._agent.perform(lambda: self._agent.membership.pull(self._state))

    async def leave(self):
        """Leave; the keys are wiped, the version floor stays (SEC-04)."""
        await self._agent.perform(lambda: self._agent.membership.leave(self._state))

    def __aiter__(self):
        """Message by message of other members; the loop ends when the membership has ended, `ended` says how."""
        return self

    async def __anext__(self):
        while not self._inbox:
            if self.ended:
                raise StopAsyncIteration
            await self._news.wait()
            self._news.clear()
        return self._inbox.pop(0)

    def _tell(self, name, values):
        if name in ENDS:
            self.ended = name
        elif name == "key" and self._on_key:
            _call(self._on_key, values["version"])
        elif name == "message":
            opened = values["opened"]
            if len(self._inbox) < tuning.INBOX_MAX:
                self._inbox.append(Message(opened.sender_id, opened.message, opened.replayable))
            else:
                self.dropped += 1
        self._news.set()


def _call(callback, *values):
    try:
        callback(*values)
    except Exception as error:  # noqa: BLE001 - the application's: the agent goes on
        show(error)
