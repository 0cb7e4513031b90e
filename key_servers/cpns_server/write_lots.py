"""Writes what PN GWs and PNEs report a moment later and many at a time: one synced commit for a whole lot.

A thousand of them accept a key within a second, and a medium may do 20 commits in that time. A report that is lost in a
crash is asked for or sent again. So a position counts at once and is on the medium soon after (`tuning.LOT_S`); a
delivery report is answered when it is on the medium. A thread commits, beside the event loop.
"""

import asyncio
import logging
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, NamedTuple, TypeVar

from key_servers.cpns_server import tuning
from key_servers.cpns_server.database import ServerDatabase, Write
from key_servers.cpns_server.delivery_queue import Position
from key_servers.cpns_server.values import MemberReport, PnePosition
from key_servers.errors import ServerError, StoreFailed

_log = logging.getLogger(__name__)

K = TypeVar("K")
V = TypeVar("V")

Key = tuple[str, str]
"""(PN ID, SG ID) of one position."""

Member = tuple[str, str]
"""(SG ID, PNE ID) of one position of a PNE."""

_POSITION = (
    "UPDATE inventories SET accepted_revision = ?, accepted_version = ?, accepted_deleted = ?"
    " WHERE pn_id = ? AND sg_id = ?"
)
_PNE_POSITION = (
    "INSERT INTO pne_positions (version, tries, confirmed_at, last_return, sg_id, pne_id) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (sg_id, pne_id) DO UPDATE SET version = excluded.version, tries = excluded.tries,"
    " confirmed_at = excluded.confirmed_at, last_return = excluded.last_return"
)
_OF_REPORT = " WHERE sg_id = ? AND pne_id = ? AND state = 'member' AND confirmed <= ?"
_REPORT = f"UPDATE members SET report = ?{_OF_REPORT}"
_UNCONFIRMED = f"UPDATE members SET report = ?, tries = ?{_OF_REPORT}"
_CONFIRMED = f"UPDATE members SET report = ?, tries = ?, link = ?, confirmed_at = ?, confirmed = ?{_OF_REPORT}"


class _Noted(NamedTuple, Generic[V]):
    """A position that waits, and the shard under which it may be written."""

    position: V
    shard: int | None


class WriteLots:
    """Gathers what is to be written. The event loop must run from the first `add_...` on."""

    def __init__(self, database: ServerDatabase) -> None:
        self._database = database
        self._positions: dict[Key, _Noted[Position]] = {}
        self._pne_positions: dict[Member, _Noted[PnePosition]] = {}
        self._reports: list[Write] = []
        self._lot: asyncio.Future[None] | None = None  # the one being gathered
        self._task: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="cpns-server-store")
        self._hurry = asyncio.Event()
        self._failing = False

    def add_position(self, key: Key, position: Position, shard: int | None = None) -> None:
        """Note that a PN GW said that it is at `position`, which counts from now on.

        `shard`: that of the PN GW. The note comes to nothing if this process does not hold it any more.
        """
        self._positions[key] = _Noted(position, shard)
        self._gather()

    def position(self, key: Key) -> Position | None:
        """Return the newest position, if it is newer than the store's."""
        noted = self._positions.get(key)
        return None if noted is None else noted.position

    def drop_position(self, key: Key) -> None:
        """Forget a position that was added, inside a transaction that writes another one."""
        self._positions.pop(key, None)

    def add_pne_position(self, member: Member, position: PnePosition, shard: int | None = None) -> None:
        """Note how far a PNE is, which counts from now on. `shard`: that of its PN GW, as in `add_position`."""
        self._pne_positions[member] = _Noted(position, shard)
        self._gather()

    def pne_position(self, member: Member) -> PnePosition | None:
        """Return the newest position of a PNE, if it is newer than the store's."""
        noted = self._pne_positions.get(member)
        return None if noted is None else noted.position

    def drop_pne_position(self, member: Member) -> None:
        """Forget what was added about a PNE, inside a transaction that ends it."""
        self._pne_positions.pop(member, None)

    def drop_pne_positions(self, sg_id: str) -> None:
        """Forget what was added about all PNEs of a group, inside a transaction that ends it."""
        for member in [member for member in self._pne_positions if member[0] == sg_id]:
            del self._pne_positions[member]

    def drop_shards(self, shards: Collection[int]) -> None:
        """Forget what was added under these shards, because another process may know better now."""
        for waiting in (self._positions, self._pne_positions):
            for key in [key for key, noted in waiting.items() if noted.shard in shards]:
                del waiting[key]

    def add_report(
        self, sg_id: str, version: int, report: MemberReport, shard: int | None = None, *, confirms: bool
    ) -> None:
        """Note a report of a member, unless a later version is confirmed. See `written`.

        `shard`: that of its PN GW, as in `add_position`; `confirms`: the version counts as confirmed if the report says
        so.
        """
        member = (sg_id, report.pne_id, version)
        if report.outcome != "confirmed":
            self._reports.append(Write(_UNCONFIRMED, (report.outcome, report.tries, *member), shard))
        elif confirms:
            told = (report.outcome, report.tries, report.link, report.confirmed_at, version)
            self._reports.append(Write(_CONFIRMED, (*told, *member), shard))
        else:
            self._reports.append(Write(_REPORT, (report.outcome, *member), shard))
        self._gather()

    async def written(self) -> None:
        """Return when everything added until now is on the medium. Raise StoreFailed; reports are forgotten then."""
        if self._lot is not None:
            await asyncio.shield(self._lot)

    async def close(self) -> None:
        """Write what is gathered, once, and end the thread."""
        self._hurry.set()
        if self._task is not None:
            await self._task
        self._thread.shutdown(wait=True)

    def _gather(self) -> None:
        if self._lot is None:
            self._lot = asyncio.get_running_loop().create_future()
            self._lot.add_done_callback(_seen)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work(), name="cpns-server lots")

    async def _work(self) -> None:
        """Write lots until nothing waits and nobody waits for a lot.

        What was added while a lot was being written may be on the medium with it already, or dropped: then the next lot
        is empty, and its end must be told all the same.
        """
        try:
            while self._lot is not None or self._waits:
                await self._pause(tuning.LOT_RETRY_S if self._failing else tuning.LOT_S)
                if not await self._write() and self._hurry.is_set():
                    return
        finally:
            self._task = None
            if self._lot is not None:
                self._lot.set_exception(StoreFailed("The store ends, and this was not written.", "Say it again."))
                self._lot = None

    @property
    def _waits(self) -> bool:
        return bool(self._positions or self._pne_positions or self._reports)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._hurry.wait()
        except TimeoutError:
            pass

    async def _write(self) -> bool:
        """Write one lot. Return False if the medium refused: positions are then tried again, and count all the same."""
        reports, self._reports = self._reports, []
        lot, self._lot = self._lot, None
        written: dict[Key, _Noted[Position]] = {}
        written_of_pnes: dict[Member, _Noted[PnePosition]] = {}

        def statements() -> Sequence[Write]:
            # Read while no other transaction runs: positions dropped until then must not come back.
            written.clear()
            written.update(self._positions)
            written_of_pnes.clear()
            written_of_pnes.update(self._pne_positions)
            return [*map(_position, written.items()), *map(_pne_position, written_of_pnes.items()), *reports]

        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._database.write_lot, statements)
        except Exception as error:
            if lot is not None:
                lot.set_exception(error)
            if not isinstance(error, ServerError):
                raise
            self._tell(error)
            return False
        self._tell(None)
        _remove(written, self._positions)
        _remove(written_of_pnes, self._pne_positions)
        if lot is not None:
            lot.set_result(None)
        return True

    def _tell(self, error: ServerError | None) -> None:
        if error is not None and not self._failing:
            _log.debug("what PN GWs say is kept in memory until it can be written: %s", error)
        elif error is None and self._failing:
            _log.debug("what PN GWs say can be written again")
        self._failing = error is not None


def _position(item: tuple[Key, _Noted[Position]]) -> Write:
    key, (position, shard) = item
    return Write(_POSITION, (position.revision, position.version, position.deleted, *key), shard)


def _pne_position(item: tuple[Member, _Noted[PnePosition]]) -> Write:
    member, (position, shard) = item
    values = position.version, position.tries, position.confirmed_at, position.last_return, *member
    return Write(_PNE_POSITION, values, shard)


def _remove(written: dict[K, V], waiting: dict[K, V]) -> None:
    """Remove what is on the medium from what waits, unless it has changed meanwhile."""
    for key, position in written.items():
        if waiting.get(key) is position:
            del waiting[key]


def _seen(lot: asyncio.Future[None]) -> None:
    """Read the result of a lot that no task waits for, so that asyncio does not complain of its error."""
    if not lot.cancelled():
        lot.exception()
