"""What the agent needs from the machine it runs on: five ports, given to it by the composition.

These classes state the contract; a port need not inherit from them. Boards fill them from `micropython/`,
Linux from `device_agent/host/`, tests from plain Python objects.
"""


class Storage:
    """A small persistent map from names (1..15 ASCII characters, the limit of ESP32 NVS) to octets (at most 1,984).

    Nothing is assumed about a write that a power cut interrupts: it may be absent, whole or torn, and writes since
    the last `commit` may be lost one by one. `key_store.KeyStore` makes records from it that survive that.
    """

    def get(self, name):
        """The octets last set under `name`, bytes or a memoryview of a buffer that is not used again, or None."""
        raise NotImplementedError

    def set(self, name, octets):
        """Write `octets` under `name`, over the old value where the medium allows. OSError when the medium fails."""
        raise NotImplementedError

    def delete(self, name):
        """Forget `name`; no error if it is not there."""
        raise NotImplementedError

    def commit(self):
        """Return only when every `set` and `delete` before has reached the medium."""
        raise NotImplementedError


class Link:
    """The message plane, one to one: datagrams to and from single peers of one network.

    A PNE may have several links, up at different times. Addresses are opaque, hashable values of the link ((host, port)
    for UDP); the agent has them with their link, as (link, address).
    """

    def address(self, text):
        """The address for a hint such as '192.168.1.10' or '192.168.1.10:5683'; ValueError for one of another link."""
        raise NotImplementedError

    def text(self, address):
        """What `address()` makes this address of; "" for one that is worth nothing later: loopback and link-local."""
        raise NotImplementedError

    def up(self):
        """True while there is a network to send into."""
        raise NotImplementedError

    async def changed(self):
        """Return, sooner or later, when `up()` has changed; a link that is always up never returns."""
        raise NotImplementedError

    def send(self, address, datagram):
        """Send one datagram, best effort: never waits, a full queue or a dead network drops it."""
        raise NotImplementedError

    def ask_all(self, datagram):
        """Send one datagram to all who may be the PN GW, as `send` does; answers come to `recv`."""
        raise NotImplementedError

    async def recv(self):
        """The next datagram of one peer to this PNE: (address of the sender, octets). OSError while the link fails."""
        raise NotImplementedError

    def close(self):
        """Release the sockets or the radio."""
        raise NotImplementedError


class Medium:
    """The broadcast plane, one to many: datagrams for everybody in reach. Heard also while no link is up.

    One object may be a link and a medium, and is then given to the agent as both.
    """

    def air(self, datagram):
        """Send one datagram to everybody, best effort, without waiting."""
        raise NotImplementedError

    async def hear(self):
        """The next datagram that somebody sent to everybody: its octets. OSError while the medium fails."""
        raise NotImplementedError

    def close(self):
        """Release the sockets or the radio."""
        raise NotImplementedError


class Clock:
    """Time since some moment before the start; knows nothing of the calendar (SEC-05)."""

    def now(self):
        """Milliseconds, an int that never goes back and never wraps."""
        raise NotImplementedError


class Random:
    """A callable: `random(n)` gives n octets of the machine's generator; `entropy.Entropy` hardens it (SEC-17)."""

    def __call__(self, n):
        raise NotImplementedError
