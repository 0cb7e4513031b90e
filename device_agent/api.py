"""The interface for applications: a node, which is the PNE, and its Service Groups.

    node = Node(storage, links, media, clock)
    await node.start()
    group = await node.join("kitchen")
    group.on_key(lambda version: print("new key", version))
    await group.send(b"light on")
    async for message in group:
        print(message.sender, message.data, message.replayable)
    print("no member any more:", group.ended)

The coroutines raise `errors.CpnsError`, with a reason in words, when something is refused, and OSError when the PN GW
cannot be reached or the storage fails. Exceptions that the application's callbacks raise are printed and ignored.
"""

import asyncio
import os
import sys
from collections import namedtuple

from cpns import numbers as n
from cpns.errors import NotMember
from device_agent import tuning
from device_agent.agent import Agent

# `sender` is the PNE ID that a member of the group claims (a Group Key proves membership, not the sender, Q-12).
# `replayable` is True if the message may have been received before, because the record of received ones was lost.
Message = namedtuple("Message", ("sender", "data", "replayable"))


ENDS = ("left", "deleted", "expelled")  # how a membership ends
TRUSTS = ("gateway", "end-to-end")  # by `numbers.TRUST_*`, from 1 on


def show(error):
    """Print an error of the application with its traceback, on the console of a board or on stderr."""
    if sys.implementation.name == "micropython":
        sys.print_exception(error)
    else:
        sys.excepthook(type(error), error, error.__traceback__)  # pyright: ignore[reportAttributeAccessIssue] - CPython


class Node:
    """One PNE: its identity, its session with the PN GW, and its Service Groups.

    `storage`, `clock` and `random` are ports of `ports.py`, `links` and `media` lists of its `Link`s and `Medium`s, and
    `updates` is its `Updates`, or None for a PNE without updates.
    `on_event` is called with the name of each event and a dict of plain values, never a secret. Events are "session",
    "joined", "key", "left", "deleted", "expelled", "generation", "rolled over", "conflict", "ignoring", "refused",
    "failed", "update" ("number", "state": "collecting", "waiting" for its restart, "confirmed", "withdrawn" or
    "refused", and "reason", one of `suit.numbers`), "withheld" (the CPNS Server has named a newer key in two pulls, and
    the PN GW did not bring it), "message" (with its length only). Raises Unknown if the storage holds no identity.
    """

    def __init__(self, storage, links, media, clock, random=os.urandom, on_event=None, updates=None):
        self._on_event = on_event
        self.updates = updates
        self._groups = {}  # SG ID -> Group
        self._news = asyncio.Event()  # set on news of any group: one Event for all takes less heap
        self._task = None
        self._agent = Agent(storage, links, media, clock, random, self._tell, updates)
        for state in self._agent.membership.groups.values():
            self._groups[state.id] = Group(self._agent, state, self._news)

    @property
    def id(self):
        """The PNE ID."""
        return self._agent.identity.pne_id

    @property
    def gateway_id(self):
        """The ID of the gateway that this PNE belongs to, or "" before it is paired."""
        return self._agent.identity.gateway_id

    @property
    def credentials(self):
        """The credentials of this PNE and of the CPNS Server that it trusts in end-to-end groups, or b"" for none."""
        return self._agent.identity.ccs, self._agent.identity.server_ccs

    @property
    def reached(self):
        """True while the PN GW answers under a session."""
        return self._agent.reached

    @property
    def groups(self):
        """The Service Groups this PNE is a member of, also those from before a restart, as a list of Group."""
        return list(self._groups.values())

    async def start(self):
        """Start serving in a task of its own; the agent then makes the session with the PN GW by itself."""
        self._task = asyncio.create_task(self._agent.run())

    async def run(self):
        """Serve in the calling task and never return, for programs that an error of the agent shall end."""
        await self._agent.run()

    async def stop(self):
        """Stop serving, close links and media; the state is in the storage. Raises the error that ended the agent."""
        task, self._task = self._task, None
        if task:
            if not task.done():
                task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                return

    async def join(self, sg_id, timeout_s=None, trust=None):
        """Become a member of a Service Group and return its Group (CPNS-GKM-02, -23). Without GKDK, ask for one first.

        It returns once the first key is held; with a key from before a restart, as soon as there is a network. It waits
        for network, PN GW, Server and key without limit, or raises asyncio.TimeoutError after `timeout_s` seconds; the
        caller may then call it again. Raises CpnsError when refused.

        With `trust` "end-to-end" the keys of the group come from the CPNS Server only, past the PN GW, and this PNE
        never takes one from the PN GW for it again (SEC-26). "gateway" refuses such a group. With None the group is
        what the PN GW says, unless this PNE knows it as end-to-end.
        """
        return await asyncio.wait_for(self._enter(sg_id, None, trust), timeout_s)

    async def create(self, sg_id, protection=n.PROTECTION_SEALED, timeout_s=None, trust=None):
        """Create a Service Group with `protection`, one of `numbers.PROTECTION_*`, and become a member as in `join`.

        An end-to-end group is sealed. Without `trust` the group is a "gateway" one.
        """
        return await asyncio.wait_for(self._enter(sg_id, protection, trust), timeout_s)

    @property
    def paired(self):
        """True if this PNE has a gateway."""
        return self._agent.identity.paired

    @property
    def pairing(self):
        """True while `pair` runs."""
        return self._agent.pairing

    async def pair(self, show):
        """Pair within 5 minutes with the gateway that is told the secret, which `show(16 characters)` displays.

        A PNE without gateway shows the secret that it keeps, and has the name afterwards that a person gave it at the
        gateway. A PNE that has a gateway shows that of its label, if it has one, or a new one each time. Raises what
        `Agent.pair` raises.
        """
        from device_agent import unpaired

        agent = self._agent
        kept = unpaired.secret(agent.store, unpaired.LABEL if self.paired else unpaired.RECORD)
        secret = kept or agent.random(unpaired.SECRET_LEN)
        show(unpaired.shown(secret))
        await agent.pair(secret)

    async def _enter(self, sg_id, protection, trust):
        if trust and trust not in TRUSTS:
            raise ValueError("trust is gateway or end-to-end")
        trust = trust and TRUSTS.index(trust) + 1
        await self._agent.network()
        group = self._groups.get(sg_id)
        if group is None or not group.version or group._state.trust != (trust or group._state.trust):
            await self._agent.perform(lambda: self._agent.membership.enter(sg_id, protection, trust), True)
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
        """The newest version of the Group Key that is held, 0 before the first."""
        return self._state.version

    def on_key(self, callback):
        """Call `callback(version)` from now on whenever a new Group Key is stored."""
        self._on_key = callback

    def limit_grace(self, seconds):
        """Set how many seconds older keys are read after a member left: 0..30, and 30 unless set (SEC-05)."""
        self._state.ring.limit_grace(seconds)

    async def send(self, data):
        """Protect `data` (at most 1,024 octets) with the Group Key and broadcast it.

        Raises NotMember when the membership has ended, Unknown without a key; groups that `join` returned have one.
        """
        if self.ended:
            raise NotMember("no member of %s any more: %s" % (self.id, self.ended))
        self._agent.send(self._state, data)

    async def refresh(self):
        """Ask the PN GW for the newest key now. The agent asks at least every 24 hours anyway."""
        await self._agent.perform(lambda: self._agent.membership.pull(self._state))

    async def leave(self):
        """Leave the group. Its keys are wiped, its version floor stays (SEC-04)."""
        await self._agent.perform(lambda: self._agent.membership.leave(self._state))

    def __aiter__(self):
        """Return an iterator of the other members' messages. It stops when the membership ends; `ended` says how."""
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
    except Exception as error:  # noqa: BLE001 - an error of the application must not end the agent
        show(error)
