"""GATT as a link: a Bluetooth LE connection to each board that wants one, or that something is to be sent to.

Boards are peripherals and this end is the central (docs/protocol.md, "GATT"). Bluetooth itself is at the other side of
`Carrier`, which the composition passes in. `gatt_choice` chooses the boards that are connected to.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Protocol

from message_plane import tuning
from message_plane.clock import monotonic
from message_plane.errors import PeerUnreachable
from message_plane.incidents import log
from message_plane.links.fragments import NOTHING, Joiner, cut
from message_plane.links.gatt_choice import BoardChoice, Hold
from message_plane.links.link import Address, Link, Receive

_SCHEME = "gatt"
_PLACE = re.compile(r"gatt:((?:[0-9A-F]{2}:){5}[0-9A-F]{2})")
_LOOK_EVERY_S = 0.25
_LOOK_PAUSE_S = 0.02  # so that a flood of adverts costs little


class BoardConnection(Protocol):
    """One connection to a board, which is subscribed to the values that the board sends.

    `value_max` is the largest number of octets that a value may have in either direction, 20 to 512.
    """

    value_max: int

    async def write(self, value: bytes) -> None:
        """Write one value to the board, and return when its radio has it. Raises OSError if it was not accepted."""
        ...

    async def close(self) -> None:
        """End the connection. It may be called repeatedly, and after it was lost. Raises OSError if that fails."""
        ...


class Carrier(Protocol):
    """The central role of a Bluetooth radio, with the service of boards (`cpns.numbers.BLE_SERVICE`)."""

    async def connect(
        self, address: str, received: Callable[[bytes], None], lost: Callable[[], None]
    ) -> BoardConnection:
        """Connect to the board that advertises with `address`, agree on the longest values, and subscribe.

        `received` is called with each value that the board sends, in the order in which they arrive. `lost` is called
        once when the connection has ended for any other reason than its `close`. Raises OSError. A caller that does not
        want to wait any longer cancels the call, after which there is no connection.
        """
        ...


class GattAddress(Address):
    """The Bluetooth address of a board. Equal if the link and the Bluetooth address are equal.

    A connection vouches for the sender of what comes over it. Limits count by connection instead of by Bluetooth
    address: a stranger may choose any address, but the link makes only so many connections a second.
    """

    __slots__ = ("_counted_as", "bluetooth")

    def __init__(self, link: GattLink, bluetooth: str, connection: int | None = None) -> None:
        """`bluetooth`: as "AA:BB:CC:DD:EE:FF"; `connection`: number of the connection that it was heard on."""
        super().__init__(link)
        self.bluetooth = bluetooth
        self._counted_as = f"{_SCHEME}:{bluetooth if connection is None else connection}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GattAddress) and self.bluetooth == other.bluetooth and self.link is other.link

    def __hash__(self) -> int:
        return hash(self.bluetooth)

    def __repr__(self) -> str:
        return f"<GattAddress {self.place}>"

    @property
    def place(self) -> str:
        return f"{_SCHEME}:{self.bluetooth}"

    @property
    def counted_as(self) -> str:
        return self._counted_as

    @property
    def echo_proves(self) -> bool:
        return False


class GattLink(Link[GattAddress]):
    """The connections of one radio. The owner of the radio calls `advertised` with each advert of a board.

    A datagram waits up to GATT_QUEUED_S until its board can be connected to, and is lost then, as any datagram may be.
    `counters` counts `gatt_connected`, and what goes wrong: `gatt_not_connected` (attempts), `gatt_lost` (connections
    that ended by themselves), `gatt_stalled` (writes that took too long), `gatt_fragments_dropped` and `gatt_expired`
    (datagrams that were not sent in time).
    """

    scheme = _SCHEME
    datagram_max = tuning.GATT_DATAGRAM_MAX

    def __init__(
        self,
        carrier: Carrier,
        *,
        connections_max: int = tuning.GATT_CONNECTIONS_MAX,
        counters: Counter[str] | None = None,
    ) -> None:
        """`connections_max`: how many connections there are at once at most, 1 or more."""
        self.counters: Counter[str] = Counter() if counters is None else counters
        self._carrier = carrier
        self._choice = BoardChoice(connections_max)
        self._numbers = itertools.count(1)
        self._queues: dict[str, _Queue] = {}
        self._talks: dict[str, _Talk] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._receive: Receive | None = None
        self._changed = asyncio.Event()

    @property
    def places(self) -> list[str]:
        """An empty list: this end makes all connections itself, so that no board needs a name for it."""
        return []

    async def open(self, receive: Receive) -> None:
        """Begin to connect to boards."""
        self._receive = receive
        self._start(self._look_after(), "GATT connections")

    def advertised(self, address: str, wants: bool) -> None:
        """Note an advert of the board with this Bluetooth address, and whether it asks to be connected to.

        Nothing is noted before `open` and after `close`.
        """
        if self._receive is not None:
            self._choice.advertised(address, wants, monotonic())
            self._changed.set()

    def send(self, address: GattAddress, datagram: bytes) -> None:
        if self._receive is None:
            raise OSError("the link is closed")
        queue = self._queues.get(address.bluetooth)
        if queue is None:
            if len(self._queues) >= tuning.GATT_QUEUES_MAX:
                raise OSError("datagrams wait for too many boards")
            queue = self._queues[address.bluetooth] = _Queue()
        queue.put(datagram, monotonic())
        self._choice.mail(address.bluetooth, True)
        talk = self._talks.get(address.bluetooth)
        if talk is None:
            self._changed.set()
        else:
            talk.hold.is_busy = True
            talk.changed.set()

    def prefer(self, address: GattAddress) -> None:
        self._choice.prove(address.bluetooth)

    async def find(self, place: str) -> GattAddress:
        found = _PLACE.fullmatch(place)
        if found is None or self._receive is None:
            raise PeerUnreachable(f"{place} cannot be reached from here")
        self._choice.prefer(found[1])  # it is the place of a session
        return GattAddress(self, found[1])

    async def close(self) -> None:
        self._receive = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._queues.clear()

    # Private

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _look_after(self) -> None:
        """Connect, disconnect and forget, whenever something has changed, and while time alone may change something."""
        while True:
            self._look(monotonic())
            self._changed.clear()
            calm = not self._queues and self._choice.is_calm(monotonic())
            with suppress(TimeoutError):
                async with asyncio.timeout(None if calm else _LOOK_EVERY_S):
                    await self._changed.wait()
            await asyncio.sleep(_LOOK_PAUSE_S)

    def _look(self, now: float) -> None:
        for bluetooth, queue in list(self._queues.items()):
            self._expire(queue, now)
            self._choice.mail(bluetooth, bool(queue))
            if bluetooth in self._talks:
                self._talks[bluetooth].hold.is_busy = bool(queue)
            if not queue:
                del self._queues[bluetooth]
        for hold in self._choice.useless(now):
            self._talks[hold.board].end()
        while (begun := self._choice.begin(now)) is not None:
            talk = self._talks[begun.board] = _Talk(begun, GattAddress(self, begun.board, next(self._numbers)))
            self._start(self._converse(talk), f"GATT connection to {begun.board}")

    async def _converse(self, talk: _Talk) -> None:
        """Connect to a board, send what there is for it until the connection is to end, and disconnect."""
        hold = talk.hold
        try:
            connection = await self._connect(talk)
            if connection is not None:
                try:
                    hold.is_made, hold.used_at = True, monotonic()
                    self.counters["gatt_connected"] += 1
                    await self._send_all(talk, connection)
                finally:
                    talk.end()
                    await self._disconnect(connection)
        except Exception:  # noqa: BLE001 - the connections to other boards go on
            log.exception("KC3101 a connection to a board ended in a fault of this program")
        finally:
            talk.end()
            del self._talks[hold.board]
            self._choice.end(hold, monotonic())
            self._changed.set()

    async def _connect(self, talk: _Talk) -> BoardConnection | None:
        def received(value: bytes) -> None:
            self._take(talk, value)

        def lost() -> None:
            self.counters["gatt_lost"] += 1
            talk.end()

        try:
            async with asyncio.timeout(tuning.GATT_CONNECT_S):
                return await self._carrier.connect(talk.hold.board, received, lost)
        except (OSError, TimeoutError):
            self.counters["gatt_not_connected"] += 1
            return None

    async def _disconnect(self, connection: BoardConnection) -> None:
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(tuning.GATT_CLOSE_S):
                await connection.close()

    async def _send_all(self, talk: _Talk, connection: BoardConnection) -> None:
        """Send until the connection is to end. First the board is told that this end is subscribed to its values."""
        values = [NOTHING]
        while True:
            for value in values:
                try:
                    async with asyncio.timeout(tuning.GATT_WRITE_S):
                        await connection.write(value)
                except TimeoutError:
                    self.counters["gatt_stalled"] += 1
                    return
                except OSError:
                    return
            talk.changed.clear()
            if talk.hold.is_ending:
                return
            datagram = self._next_datagram(talk.hold.board)
            if datagram is None:
                await talk.changed.wait()
            else:
                talk.hold.used_at = monotonic()
            values = [] if datagram is None else cut(datagram, connection.value_max)

    def _next_datagram(self, bluetooth: str) -> bytes | None:
        queue = self._queues.get(bluetooth)
        if queue is None:
            return None
        self._expire(queue, monotonic())
        return queue.take()

    def _expire(self, queue: _Queue, now: float) -> None:
        if expired := queue.expire(now):
            self.counters["gatt_expired"] += expired

    def _take(self, talk: _Talk, value: bytes) -> None:
        """Take one value from a board. A board that sends too many broken ones is disconnected."""
        if self._receive is None or talk.hold.is_ending:
            return
        before = talk.joiner.dropped
        datagram = talk.joiner.take(value)
        if talk.joiner.dropped > before:
            self.counters["gatt_fragments_dropped"] += 1
        if talk.joiner.dropped >= tuning.GATT_DROPPED_MAX:
            talk.end()
        elif datagram is not None:
            talk.hold.used_at = monotonic()
            self._receive(datagram, talk.address)


class _Queue:
    """The datagrams that wait for one board, each with the time at which it is lost."""

    def __init__(self) -> None:
        self._datagrams: deque[tuple[float, bytes]] = deque()

    def __len__(self) -> int:
        return len(self._datagrams)

    def put(self, datagram: bytes, now: float) -> None:
        """Add a datagram, unless the same one waits already: CoAP repeats a request that is not acknowledged in time.

        Raises OSError if there is no room.
        """
        if any(datagram == waiting for _, waiting in self._datagrams):
            return
        if len(self._datagrams) >= tuning.GATT_QUEUED_MAX:
            raise OSError("too many datagrams wait for this board")
        self._datagrams.append((now + tuning.GATT_QUEUED_S, datagram))

    def take(self) -> bytes | None:
        """Remove and return the next datagram, None if there is none."""
        return self._datagrams.popleft()[1] if self._datagrams else None

    def expire(self, now: float) -> int:
        """Remove the datagrams that have waited too long, and return their number."""
        before = len(self._datagrams)
        while self._datagrams and self._datagrams[0][0] <= now:
            self._datagrams.popleft()
        return before - len(self._datagrams)


class _Talk:
    """The state of one connection. `changed` is set when there is something to send, or when it is to end."""

    def __init__(self, hold: Hold, address: GattAddress) -> None:
        self.hold = hold
        self.address = address
        self.joiner = Joiner(tuning.GATT_DATAGRAM_MAX, tuning.GATT_VALUE_MAX)
        self.changed = asyncio.Event()

    def end(self) -> None:
        """Let the connection end as soon as the datagram that is being sent has been sent."""
        self.hold.is_ending = True
        self.changed.set()
