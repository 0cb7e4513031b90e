"""Group commit: the changes that many sessions request at the same time are stored in one synced transaction.

A delivery to a thousand PNEs requests a thousand blocks of sender numbers, and an SD card does 20 commits a second.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from message_plane.errors import LeaseLost
from message_plane.lease import TAKEN_OVER, Lease
from message_plane.session_store import Change, SessionStore


class CommitQueue:
    """The only writer of a running endpoint. Its commits run one after the other, in a thread of their own."""

    def __init__(self, store: SessionStore) -> None:
        self._store = store
        self._waiting: list[tuple[Lease, Change, asyncio.Future[bool]]] = []
        self._task: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="session-store")
        self._closed = False
        self.commits = 0  # number of transactions so far, for measurements

    async def commit(self, lease: Lease, change: Change) -> bool:
        """Store `change` of a context of `lease` and return True when it is on disk.

        Returns False if the context or credential that it is about was removed in the meantime. Raises LeaseLost if
        another process has taken this lease, StoreError.
        """
        if self._closed:
            raise LeaseLost("the endpoint is closed")
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((lease, change, done))
        if self._task is None:
            self._task = asyncio.create_task(self._work(), name="session store commits")
        return await done

    async def renew(self, lease: Lease) -> None:
        """Renew the lease of a store that has one only. Raises LeaseLost, StoreError."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._store.commit, {lease: ()})
        _require_held(lease)

    async def finish(self) -> None:
        """Return when the changes that wait now are on disk or have failed."""
        await asyncio.gather(*(done for _, _, done in self._waiting), return_exceptions=True)
        await asyncio.get_running_loop().run_in_executor(self._thread, _nothing)  # behind the lot that is being stored

    async def close(self) -> None:
        """Finish the changes that wait, then end the thread."""
        self._closed = True
        if self._task is not None:
            await self._task
        self._thread.shutdown(wait=True)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            lot, self._waiting = self._waiting, []
            changes: dict[Lease, list[Change]] = {}
            for lease, change, _ in lot:
                changes.setdefault(lease, []).append(change)
            try:
                gone = await loop.run_in_executor(self._thread, self._store.commit, changes)
            except Exception as error:  # noqa: BLE001 - raised in every caller that waits
                for _, _, done in lot:
                    if not done.done():
                        done.set_exception(error)
                continue
            self.commits += 1
            for lease, change, done in lot:
                if done.done():
                    continue
                if lease.lost:
                    done.set_exception(_lost())
                else:
                    done.set_result(change.recipient_id not in gone)
        self._task = None


def _require_held(lease: Lease) -> None:
    if lease.lost:
        raise _lost()


def _lost() -> LeaseLost:
    return LeaseLost(TAKEN_OVER)


def _nothing() -> None:
    """Do nothing."""
