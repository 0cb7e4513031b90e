"""The contracts of what the agent needs from its machine: ports, which the composition passes to it.

A port need not inherit from its class here. `micropython/` has the ports of boards, `device_agent/host/` those of
Linux; tests use plain Python objects.
"""


class Storage:
    """A small persistent map from names (1..15 ASCII characters, the limit of ESP32 NVS) to octets (at most 1,984).

    A write that a power cut interrupts may be absent, whole or torn, and each write since the last `commit` may be
    lost. `key_store.KeyStore` makes records that survive this. Values that were replaced or deleted cannot be read from
    the medium any more when `commit` has returned, as far as the medium allows.
    """

    def get(self, name):
        """Return the octets last set under `name`, as bytes or a memoryview of a buffer of its own, or None."""
        raise NotImplementedError

    def set(self, name, octets):
        """Write `octets` under `name`. Raises OSError if the medium fails."""
        raise NotImplementedError

    def delete(self, name):
        """Delete `name`, without an error if it is not there."""
        raise NotImplementedError

    def commit(self):
        """Return when every earlier `set` and `delete` has reached the medium."""
        raise NotImplementedError


class Link:
    """The message plane, one to one: datagrams to and from single peers of one network.

    A PNE may have several links, up at different times. Addresses are opaque, hashable values of the link ((host, port)
    for UDP); the agent has them with their link, as (link, address).
    """

    def address(self, text):
        """Return the address in a text such as '192.168.1.10' or '192.168.1.10:5683'. Raises ValueError if none."""
        raise NotImplementedError

    def text(self, address):
        """Return the text of an address, for `address()`; "" if it is of no use later: loopback and link-local."""
        raise NotImplementedError

    def up(self):
        """Return True while there is a network to send into."""
        raise NotImplementedError

    async def changed(self):
        """Wait until `up()` may have changed; the caller compares. A link that is always up never returns."""
        raise NotImplementedError

    def standing(self):
        """Return True if a datagram leaves at once, False if a connection to the PN GW must be made first."""
        raise NotImplementedError

    def send(self, address, datagram):
        """Send one datagram, best effort: it never waits, and is lost if a queue is full or the network is down."""
        raise NotImplementedError

    def ask_all(self, datagram):
        """Send one datagram, as `send` does, to all peers that may be the PN GW. `recv` returns the answers."""
        raise NotImplementedError

    async def recv(self):
        """Return (address of the sender, octets) of the next datagram to this PNE. OSError while the link fails."""
        raise NotImplementedError

    def close(self):
        """Release the sockets or the radio."""
        raise NotImplementedError


class Medium:
    """The broadcast plane, one to many: datagrams for every board in reach, received also while no link is up.

    One object may be both a link and a medium; the agent then gets it in both lists.

    `reports` is True if boards can confirm keys on this medium with `report`, without a session.
    """

    reports = False

    def air(self, datagram):
        """Send one datagram to all in reach, best effort, without waiting."""
        raise NotImplementedError

    async def hear(self, home):
        """Return the octets of the next datagram that was broadcast, or None after one that was received in part only.

        `home` is the `Membership`: a medium that enciphers needs its `pn_alias` and the frame keys of its `gkdks`.
        Raises OSError while the medium fails.
        """
        raise NotImplementedError

    def report(self, reports):
        """Send these reports again and again from now on, and no others: a list of (frame key, 21 octets).

        It is called on media with `reports` only.
        """
        raise NotImplementedError

    def close(self):
        """Release the sockets or the radio."""
        raise NotImplementedError


class Bluetooth:
    """A Bluetooth LE radio, of which `links/gatt.py` makes a link and `adverts.py` a medium.

    `on` is True while it works, `connected` while a central is connected; `value_max` is the largest number of octets
    of a value, in both directions.
    """

    async def advert(self):
        """Return the next advert of our company id that was heard: the 24 octets behind that id."""
        raise NotImplementedError

    def report(self, adverts):
        """Send these adverts (24 octets each) in turn from now on, and no others, beside the offer of a connection."""
        raise NotImplementedError

    def want(self, wanted):
        """Advertise that a connection is wanted, or only that one can be made."""
        raise NotImplementedError

    async def value(self):
        """Return the next value that the central has written, or None where a new connection begins."""
        raise NotImplementedError

    def notify(self, value):
        """Send a value to the central. Return False if there is no room for it now, or no connection any more."""
        raise NotImplementedError

    def disconnect(self):
        """End the connection, if there is one."""
        raise NotImplementedError

    def close(self):
        """Switch the radio off."""
        raise NotImplementedError


class Updates:
    """What a board can be updated in, and where an image comes to lie while the agent runs (docs/protocol.md 16)."""

    def classes(self):
        """Return a dict from each class id that this board accepts, 16 octets, to "agent" or "firmware"."""
        raise NotImplementedError

    def state(self):
        """Return the `update.slot_record.SlotRecord`: the numbers that run, and what is on trial or fell back."""
        raise NotImplementedError

    def room(self, kind, size):
        """Raise OSError (28) if an image of `size` octets has no room. Nothing is written or erased for the answer."""
        raise NotImplementedError

    def begin(self, kind, size, digest, envelope):
        """Begin to collect the image of a verified envelope; return its Collection. One that was begun is dropped.

        `digest` is SHA-256 of the image. Raises OSError if the flash has no room or fails.
        """
        raise NotImplementedError

    def resume(self):
        """Return the Collection that was begun before a restart, with what is whole in the flash, or None."""
        raise NotImplementedError

    def confirm(self):
        """Keep what is on trial: the board has reached its PN GW with it. Raises OSError."""
        raise NotImplementedError

    def restart(self):
        """Reset the board in order, to install what was collected."""
        raise NotImplementedError


class Collection:
    """An update in the flash, as far as it was collected. What comes here was verified. All raise OSError.

    `kind` and `size` are those of its image, `envelope` its octets.
    """

    def put_page(self, index, octets):
        """Store a page of hashes."""
        raise NotImplementedError

    def page(self, index):
        """Return a page as bytes, or None if it was not stored."""
        raise NotImplementedError

    def put(self, index, octets):
        """Store coded frame `index`, 1,024 octets as bytes or memoryview."""
        raise NotImplementedError

    def indices(self):
        """Return the indexes of the coded frames that are stored."""
        raise NotImplementedError

    def full(self):
        """Note that enough frames are stored, which the next start is to install."""
        raise NotImplementedError

    def drop(self):
        """Forget the update, and free the flash."""
        raise NotImplementedError


class Clock:
    """The time since some moment before the start, without a calendar (SEC-05)."""

    def now(self):
        """Return milliseconds, an int that never goes back and never wraps."""
        raise NotImplementedError


class Random:
    """A callable: `random(n)` returns n octets of the machine's generator, which `entropy` hardens (SEC-17)."""

    def __call__(self, n):
        raise NotImplementedError
