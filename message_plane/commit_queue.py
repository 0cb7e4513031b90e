"""Group commit: the changes that many sessions request at the same time are stored in one synced transaction.

A delivery to a thousand PNEs requests a thousand blocks of sender numbers, and an SD card does 20 commits a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from message_plane.errors import LeaseLost
from message_plane.session_store import Change, Lease, SessionStore


class CommitQueue:
    """The only writer of a running endpoint. Its commits run one after the other, in a thread of their own."""

    def __init__(self, store: SessionStore, lease: Lease) -> None:
        self._store = store
        self._lease = lease
        self._waiting: list[tuple[Change, asyncio.Future[bool]]] = []
        self._task: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="session-store")
        self._closed = False
        self.commits = 0  # number of transactions so far, for measurements

    async def commit(self, change: Change) -> bool:
        """Store `change` and return True when it is on disk.

        Returns False if the context or credential that it is about was removed in the meantime. Raises LeaseLost,
        StoreError.
        """
        if self._closed:
            raise LeaseLost("the endpoint is closed")
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((change, done))
        if self._task is None:
            self._task = asyncio.create_task(self._work(), name="session store commits")
        return await done

    async def renew(self) -> None:
        """Renew the lease. Raises LeaseLost, StoreError."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._store.commit, self._lease, ())

    async def close(self) -> None:
        """Finish the changes that wait, then end the thread."""
        self._closed = True
        if self._task is not None:
            await self._task
        self._thread.shutdown(wait=True)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch, self._waiting = self._waiting, []
            changes: Sequence[Change] = [change for change, _ in batch]
            try:
                gone = await loop.run_in_executor(self._thread, self._store.commit, self._lease, changes)
            except Exception as error:  # noqa: BLE001 - raised in every caller that waits
                for _, done in batch:
                    if not done.done():
                        done.set_exception(error)
                continue
            self.commits += 1
            for change, done in batch:
                if not done.done():
                    done.set_result(change.recipient_id not in gone)
        self._task = None
