"""What an application sees of the agent: a node and its Service Groups.

    node = Node(storage, link, clock)
    await node.start()
    group = await node.join("kitchen")
    group.on_key(lambda version: print("new key", version))
    await group.send(b"light on")
    async for message in group:
        print(message.sender, message.data, message.replayable)

Every coroutine raises `errors.CpnsError` (refused, with a reason) or OSError (no answer from the gateway).
"""


class Node:
    """One PNE: its identity, its session to the PN GW and its Service Groups.

    `storage`, `link`, `clock`, `random` are the ports of `ports.py`; `on_event(name, values)` is told what happens
    (never a secret) as a word and a dict of plain values.
    """

    def __init__(self, storage, link, clock, random=None, on_event=None):
        raise NotImplementedError

    async def start(self):
        """Load the state and start receiving; returns when the tasks run, the session comes by itself."""
        raise NotImplementedError

    async def stop(self):
        """End the tasks and close the link; the state is already in the storage."""
        raise NotImplementedError

    @property
    def groups(self):
        """The Service Groups this PNE is a member of, also from before a restart: list of Group."""
        raise NotImplementedError

    async def join(self, sg_id):
        """Join a Service Group; asks for a GKDK first if there is none (CPNS-GKM-23). Returns the Group."""
        raise NotImplementedError

    async def create(self, sg_id, protection=2):
        """Create a Service Group (`protection`: 1 authenticated, 2 sealed) and become its owner. Returns the Group."""
        raise NotImplementedError

    async def pair(self, secret):
        """Take a gateway that proves to know `secret` (16 base32 characters), SEC-20."""
        raise NotImplementedError


class Group:
    """A Service Group this PNE is a member of: send, receive, leave."""

    id = ""  # SG ID
    version = 0  # of the newest Group Key held, 0 before the first

    def on_key(self, callback):
        """Call `callback(version)` after each newly stored Group Key."""
        raise NotImplementedError

    async def send(self, data):
        """Protect `data` (at most 1,024 octets) with the sending key and broadcast it."""
        raise NotImplementedError

    def __aiter__(self):
        """Messages of other members: `Message(sender, data, replayable)`; ends when the group is left or deleted."""
        raise NotImplementedError

    async def leave(self):
        """Leave; the keys are wiped, the version floor stays (SEC-04)."""
        raise NotImplementedError
