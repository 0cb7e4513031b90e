"""Holds the leases of shards: asks the database in rounds, and tells the parts that use shards what to adopt and leave.

Rounds go on whatever the parts do, because a lease that is not renewed ends. The parts are told in another task, one
change after the other. A lease that is lost cannot be used any more from that moment on, even before they are told.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Protocol, TypeVar

from key_servers.cpns_server.shards.leases import RENEW_EVERY_S, HeldShards, ShardLeases
from key_servers.errors import ServerError, StoreInUse
from message_plane import holder
from message_plane.lease import Lease
from message_plane.links.mqtt_topics import SHARDS

_log = logging.getLogger(__name__)

T = TypeVar("T")

AGAIN_S = 1.0  # after a round that failed: a lease ends by its own deadline meanwhile
ALL_AT_START_S = 20.0  # the shards of a process that is gone are free by then


class ShardTable(Protocol):
    """The table of shards in the database. Its calls block, and come from one thread. They raise StoreFailed."""

    def round(self, wanted: Callable[[int], int]) -> HeldShards:
        """Renew the shards of this process, claim up to `wanted(living processes)` others, and return what it holds."""
        ...

    def release(self, leases: Sequence[Lease]) -> None:
        """Let other processes claim these shards, unless they have done so already."""
        ...

    def end(self) -> None:
        """Note that this process is not among the living any more."""
        ...

    def close(self) -> None:
        """Close the connection to the database."""
        ...


class ShardUser(Protocol):
    """A part that does something for the PN GWs of the shards that this process holds."""

    async def adopt(self, leases: Sequence[Lease]) -> None:
        """Begin with these shards. Raises StoreFailed; they are given back then."""
        ...

    async def let_go(self, leases: Sequence[Lease]) -> None:
        """Stop with these shards at once, and return when nothing about them remains to be done or written."""
        ...


class ShardHolder:
    """The shards of this process."""

    def __init__(self, table: ShardTable, *, all_of_them: bool = False) -> None:
        """`all_of_them`: this process can do with all shards only, and never shares."""
        self._table = table
        self._all = all_of_them
        self._leases = ShardLeases(all_of_them=all_of_them)
        self._tokens: Mapping[int, int] = {}
        self._ways: Sequence[ShardUser] = ()
        self._work: Sequence[ShardUser] = ()
        self._woken = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._rounds: asyncio.Task[None] | None = None
        self._telling: asyncio.Task[None] | None = None
        self._adopting: list[Lease] = []
        self._leaving: list[Lease] = []
        self._in_use: dict[int, Lease] = {}  # what the ways have adopted, or are about to
        self._worked_for: dict[int, Lease] = {}  # of these, those with all ways open
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="cpns-server-shards")
        self._failing = self._closed = False
        self.living = 0  # the number of processes that share the shards, as of the last round

    async def open(self, ways: Sequence[ShardUser], work: ShardUser) -> None:
        """Claim shards, and keep them from now on.

        `ways` are the parts by which PN GWs are reached: they adopt shards in this order, and leave them in the reverse
        one. `work` is what needs them: it begins when the ways are open, and ends before they are closed.

        Returns when the parts have the first shards, or without any if other processes hold them all. Raises
        StoreFailed, and StoreInUse if this process needs all shards and another one keeps some.
        """
        self._ways, self._work = ways, (work,)
        ends = self._loop.time() + ALL_AT_START_S
        await self._round()
        if self._all and len(self._leases.held) < SHARDS:
            _log.info("another process of this CPNS Server is at work, or was until now: waiting for its shards")
        while self._all and len(self._leases.held) < SHARDS:
            if self._loop.time() > ends:
                raise StoreInUse(
                    "Another process of this CPNS Server is at work.",
                    "Stop it first: a process that listens on UDP works alone.",
                )
            await asyncio.sleep(AGAIN_S)
            await self._round()
        await self._told()
        self._rounds = asyncio.create_task(self._keep(), name="cpns-server shards")

    async def close(self) -> None:
        """Give all shards back. Other processes can claim them at once, unless the database cannot be reached.

        A second call does nothing.
        """
        if self._closed:
            return
        self._closed = True
        if self._rounds is not None:
            self._rounds.cancel()
            await asyncio.gather(self._rounds, return_exceptions=True)
        self._leaving += self._leases.leave()
        await self._told()
        with suppress(ServerError):  # its shards are free in a moment all the same
            await self._in_thread(self._table.end)
        await self._in_thread(self._table.close)
        self._thread.shutdown()

    @property
    def in_use(self) -> frozenset[int]:
        """The shards to which the ways of this process lead, even if they cannot at this moment."""
        return frozenset(shard for shard, lease in self._in_use.items() if not lease.lost)

    @property
    def usable(self) -> int:
        """The number of shards that this process may use now."""
        return sum(lease.valid for lease in self._in_use.values())

    def holds(self, shard: int) -> bool:
        """Return True if this process is to work for this shard, even if it cannot at this moment."""
        lease = self._worked_for.get(shard)
        return lease is not None and not lease.lost

    def wake(self) -> None:
        """Begin a round now, because shards may have become free, or a process may have come."""
        self._woken.set()

    # The fence of the database (`database.Fence`)

    def tokens(self) -> Mapping[int, int]:
        """Return shard -> fencing token of what is held now. The map does not change."""
        return self._tokens

    def lost(self, shard: int) -> None:
        """Take note, in any thread, that another process has this shard."""
        for lease in self._leases.held:
            if lease.shard == shard:
                lease.lose()
        self._loop.call_soon_threadsafe(self._woken.set)

    # Private

    async def _keep(self) -> None:
        while True:
            self._woken.clear()
            try:
                await self._round()
            except ServerError as error:
                self._say(error)
            except Exception:  # noqa: BLE001 - the leases would end without a word
                _log.exception("KC2101 a round of leases failed by a fault of this program")
            with suppress(TimeoutError):
                async with asyncio.timeout(AGAIN_S if self._failing else RENEW_EVERY_S):
                    await self._woken.wait()

    async def _round(self) -> None:
        sent_ms = holder.boot_milliseconds()
        found = await self._in_thread(self._table.round, self._leases.wanted)
        self._say(None)
        self.living = found.living
        changes = self._leases.take(found, sent_ms)
        self._note_tokens()
        if changes.unreleased:
            await self._in_thread(self._table.release, changes.unreleased)
        self._adopting += changes.adopted
        self._leaving += (*changes.lost, *changes.surplus)
        if self._rounds is not None and (self._telling is None or self._telling.done()):
            self._telling = asyncio.create_task(self._tell(), name="cpns-server shards change")

    async def _told(self) -> None:
        """Return when the parts know all changes so far."""
        if self._telling is not None:
            await asyncio.gather(self._telling, return_exceptions=True)
        await self._tell()

    async def _tell(self) -> None:
        while self._leaving or self._adopting:
            leaving, self._leaving = self._leaving, []
            await self._leave(leaving)
            adopting, self._adopting = [lease for lease in self._adopting if not lease.lost], []
            await self._adopt(adopting)

    async def _adopt(self, leases: Sequence[Lease]) -> None:
        if not leases:
            return
        adopted = {lease.shard or 0: lease for lease in leases}
        self._in_use.update(adopted)
        try:
            for way in self._ways:
                await way.adopt(leases)
            self._worked_for.update(adopted)
            for work in self._work:
                await work.adopt(leases)
        except ServerError as error:
            _log.error("KC2102 %s The PN GWs of %d shards are left to other processes.", error, len(leases))
            await self._leave(leases)
            return
        _log.info("serves %d of %d shards", len(self._in_use), SHARDS)

    async def _leave(self, leases: Sequence[Lease]) -> None:
        if not leases:
            return
        for table in (self._in_use, self._worked_for):
            for shard in [shard for shard, lease in table.items() if lease in leases]:
                del table[shard]
        for user in (*self._work, *reversed(self._ways)):
            try:
                await user.let_go(leases)
            except Exception:  # noqa: BLE001 - the other parts must stop, too
                _log.exception("KC2103 a part did not stop with its shards as it should")
        free = [lease for lease in leases if not lease.lost]
        for lease in leases:
            self._leases.given_back(lease)
        self._note_tokens()
        _log.info("serves %d of %d shards", len(self._in_use), SHARDS)
        try:
            await self._in_thread(self._table.release, free)
        except ServerError as error:
            self._say(error)  # the next round finds them, and gives them back

    async def _in_thread(self, call: Callable[..., T], *arguments: object) -> T:
        return await self._loop.run_in_executor(self._thread, call, *arguments)

    def _note_tokens(self) -> None:
        self._tokens = {lease.shard or 0: lease.token for lease in self._leases.held}

    def _say(self, error: ServerError | None) -> None:
        """Log that the database fails, and that it works again, once each."""
        if error is not None and not self._failing:
            _log.error("KC2104 %s Leases of PN GWs cannot be renewed.", error)
        elif error is None and self._failing:
            _log.info("leases of PN GWs are renewed again")
        self._failing = error is not None
