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
    """What a board can be updated in, and where an image comes to lie.

    A kind of update is "agent" or "firmware"; `number` is the sequence number of its manifest.
    """

    def classes(self):
        """Return the classes of updates that this board takes: class ID (16 octets) -> kind."""
        raise NotImplementedError

    def state(self):
        """Return the update.slot_record.SlotRecord: what is good, what is on trial, and the floors of the numbers."""
        raise NotImplementedError

    def room(self, kind, size):
        """Raise OSError 28 if an image of `size` octets has no room in the flash, 12 if it has none in the heap.

        Nothing is erased or written.
        """
        raise NotImplementedError

    def begin(self, kind, number, size, digest, envelope):
        """Begin to collect an update, in place of what was collected before, and return its Collection.

        `digest` is SHA-256 of the image, `envelope` the octets that were verified. Raises OSError, and that of `room`
        before anything is erased.
        """
        raise NotImplementedError

    def resume(self):
        """Return the Collection that was begun before a restart, or None."""
        raise NotImplementedError

    def confirm(self):
        """Make what is on trial the good one: the pinned PN GW has answered it. Raises OSError."""
        raise NotImplementedError

    def restart(self):
        """Reset the board in order, which is no failed start."""
        raise NotImplementedError


class Collection:
    """The pieces of one update, in the flash. `kind`, `number`, `size` and `envelope` are those of `begin`.

    Pieces of the last moments are lost if the power is cut, others are not. Each method raises OSError if the flash
    fails.
    """

    def pages(self):
        """Return the number of pages of hashes."""
        raise NotImplementedError

    def put_page(self, index, octets):
        """Store a page that was verified."""
        raise NotImplementedError

    def page(self, index):
        """Return the octets of a page, or None if it is not stored."""
        raise NotImplementedError

    def put(self, index, octets):
        """Store a coded frame that was verified. One that is of no use any more is not stored."""
        raise NotImplementedError

    def held(self, index):
        """Return True if a coded frame is stored."""
        raise NotImplementedError

    def flush(self):
        """Return when all that was put is safe from a power cut."""
        raise NotImplementedError

    def full(self):
        """Have the next start install the update, and close the files.

        If its frames are not enough then, it is collected further.
        """
        raise NotImplementedError

    def close(self):
        """Close the files; `Updates.resume` opens them again."""
        raise NotImplementedError

    def drop(self):
        """Forget the update, and free its room in the flash."""
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
