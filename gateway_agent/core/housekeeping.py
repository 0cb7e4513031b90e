"""The periodic work of the PN GW.

The Server gets version lists, delivery reports, leaves and retirements that are still due; PNEs get new GKDKs and
signing keys.
"""

import asyncio
import logging
from collections import Counter
from contextlib import suppress

from cpns.errors import CpnsError
from gateway_agent.core import roll_over
from gateway_agent.core.delivering.deliveries import Deliveries
from gateway_agent.core.delivering.delivery_reports import DeliveryReports
from gateway_agent.core.gkdk import gkek
from gateway_agent.core.gkdk.handout import GkdkHandout
from gateway_agent.core.gkdk.tree import Tree
from gateway_agent.core.groups.membership import Membership
from gateway_agent.core.old_copy import Versions
from gateway_agent.core.ports import Clock, NoAnswer, Unicast
from gateway_agent.core.server_requests import ServerRefused
from gateway_agent.core.server_silence import ServerSilence
from gateway_agent.core.turns import UnicastPlaces
from gateway_agent.store.errors import StoreFailed
from gateway_agent.store.store import GatewayStore

_log = logging.getLogger(__name__)

TICK_S = 60.0
UPLINK_RETRY_S = 5.0
VERSION_LIST_EVERY_S = 900.0  # SEC-28
DOUBTS_GAP_S = 60.0  # unproven claims of PNEs make this PN GW ask the Server at most this often
MISSING_REVISION_S = 5.0  # a JoinResponse or list may just be on its way
PUSHES_AT_ONCE = 8
PUSH_AGAIN_S = 300.0
COUNT_TIME_EVERY_S = 3600.0  # one synced commit an hour; a kill makes generations younger by so much
COUNT_WHEN_CLOSED_S = 60.0  # a process that is started and stopped again and again need not write each time


class Housekeeping:
    """A background task that runs every minute and after `soon`.

    `failed` is a future that is done, with the exception as its result, when the task has ended in a fault.
    """

    def __init__(
        self,
        *,
        store: GatewayStore,
        tree: Tree,
        gkdks: GkdkHandout,
        membership: Membership,
        versions: Versions,
        silence: ServerSilence,
        deliveries: Deliveries,
        reports: DeliveryReports,
        unicast: Unicast,
        clock: Clock,
        counters: Counter[str],
    ) -> None:
        self._store = store
        self._tree = tree
        self._gkdks = gkdks
        self._membership = membership
        self._versions = versions
        self._silence = silence
        self._deliveries = deliveries
        self._reports = reports
        self._unicast = unicast
        self._clock = clock
        self._counters = counters
        self._task: asyncio.Task[None] | None = None
        self.failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self._wake = asyncio.Event()
        self._listed_at: float | None = None
        self._compare_at: float | None = None
        self._time_counted_at = clock.monotonic()
        self._uplink_failing = False
        self._pushes: dict[str, asyncio.Task[None]] = {}
        self._places = UnicastPlaces(PUSHES_AT_ONCE)
        self._pushed_at: dict[str, float] = {}

    def start(self) -> None:
        """Start the background task."""
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(self._ended)

    async def close(self) -> None:
        """Store the running time that is not counted yet (SEC-36), then cancel the task and all pushes."""
        lived = self._clock.monotonic() - self._time_counted_at
        if self._task is not None and lived >= COUNT_WHEN_CLOSED_S:
            with suppress(StoreFailed), self._store.transaction():  # on a full disk it is not counted
                self._store.slots.count_lived(lived)
        tasks = [*self._pushes.values(), *([self._task] if self._task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._task = None

    def _ended(self, task: asyncio.Task[None]) -> None:
        fault = None if task.cancelled() else task.exception()
        if fault is not None:
            _log.error("KC1035 housekeeping ended", exc_info=fault)
            self.failed.set_result(fault)

    def soon(self) -> None:
        """Wake the task, because something is due."""
        self._wake.set()

    def compare_versions_soon(self) -> None:
        """Ask the Server for the members if the revision that is missing has not come in a few seconds."""
        if self._compare_at is None:
            self._compare_at = self._clock.monotonic() + MISSING_REVISION_S
            self._wake.set()

    def doubted(self) -> None:
        """Compare versions with the Server, because PNEs claim to know more than this PN GW.

        Does nothing if the Server was asked in the last minute.
        """
        if self._listed_at is not None and self._clock.monotonic() >= self._listed_at + DOUBTS_GAP_S:
            self._listed_at = None
            self._wake.set()

    def heard(self, pne_id: str) -> None:
        """Note that the PNE has sent something, and send it the GKDK or signing key that waits for it, if any."""
        self._places.heard(pne_id)
        self._attend(pne_id)

    def _attend(self, pne_id: str) -> None:
        if pne_id in self._pushes or not self._needs_push(pne_id):
            return
        last = self._pushed_at.get(pne_id)
        if last is not None and self._clock.monotonic() < last + PUSH_AGAIN_S:
            return
        self._pushed_at[pne_id] = self._clock.monotonic()
        task = asyncio.create_task(self._push(pne_id))
        self._pushes[pne_id] = task
        task.add_done_callback(lambda _: self._pushes.pop(pne_id, None))

    async def tick(self) -> None:
        """Do all work that is due. If the Server does not answer, the next tick tries again.

        Raises CpnsError, StoreFailed.
        """
        self._count_time()
        if self._versions.stop_reason is None:  # else the Server is not asked
            self._silence.check()
        try:
            await self._compare_versions()
            await self._membership.send_pending_leaves()
            await self._reports.send()
            await self._membership.send_pending_retirements()  # last, because an older CPNS Server refuses them
        except (NoAnswer, ServerRefused) as error:
            if not self._uplink_failing:
                _log.warning("KC1036 the CPNS Server: %s; trying again", error.reason)
            self._uplink_failing = True
            self._silence.failed(error.reason)
        else:
            self._uplink_failing = False
        if self._versions.stop_reason is None:
            for pne_id in self._waiting():
                if self._unicast.has_session(pne_id):
                    self._attend(pne_id)

    async def _run(self) -> None:
        store_failing = False
        while True:
            self._wake.clear()
            try:
                await self.tick()
                store_failing = False
            except CpnsError as error:
                self._counters["housekeeping_failed"] += 1
                _log.warning("KC1037 housekeeping: %s", error.reason)
            except StoreFailed:
                store_failing = True  # there is an alarm for it
            soon = self._uplink_failing or store_failing or self._compare_at is not None
            wait = UPLINK_RETRY_S if soon else TICK_S
            try:
                async with asyncio.timeout(wait):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _count_time(self) -> None:
        now = self._clock.monotonic()
        elapsed = now - self._time_counted_at
        if elapsed < COUNT_TIME_EVERY_S:
            elapsed = 0.0
        else:
            self._time_counted_at = now
        if self._tree.maintain(elapsed, self._clock.unix()):
            with self._store.transaction():
                gkek.refresh(self._store, [group.sg_id for group in self._store.inventory.groups()])

    async def _compare_versions(self) -> None:
        now = self._clock.monotonic()
        if self._compare_at is not None and now >= self._compare_at:
            self._compare_at = None
            if any(group.behind for group in self._store.inventory.groups()):
                self._listed_at = None
                self._compare_at = now + VERSION_LIST_EVERY_S / 15  # the answer may be lost
        if self._listed_at is not None and now < self._listed_at + VERSION_LIST_EVERY_S:
            return
        if self._versions.stop_reason is not None:
            return
        await self._versions.exchange()
        self._listed_at = now
        if any(group.behind for group in self._store.inventory.groups()):
            self.compare_versions_soon()  # the lists are on their way, or lost
        if self._versions.stop_reason is None:
            self._deliveries.release()

    def _waiting(self) -> list[str]:
        """Return the PNEs that may lack a GKDK or a signing key, by two queries instead of one for each PNE."""
        waiting = set(self._store.pn.behind_signing_epoch())
        current = self._store.slots.current()
        if current is not None:
            waiting.update(self._store.slots.undelivered(current.generation))
        return sorted(waiting)

    def _needs_push(self, pne_id: str) -> bool:
        pne, pn = self._store.pn.pne(pne_id), self._store.pn.get()
        if pne is None or pne.retired or pn is None or pn.stopped is not None:
            return False
        return self._gkdks.lacks_current(pne_id) or pne.signing_epoch < pn.signing_epoch

    async def _push(self, pne_id: str) -> None:
        try:
            async with self._places.of(pne_id):
                taken = await roll_over.push(self._store, self._unicast, pne_id)
                if self._gkdks.lacks_current(pne_id):
                    taken = await self._gkdks.push(pne_id) and taken
                self._places.heard(pne_id)
        except CpnsError as error:
            self._counters["push_failed"] += 1
            _log.debug("%s did not take its new GKDK or signing key: %s", pne_id, error.reason)
            return
        if taken:
            self._pushed_at.pop(pne_id, None)
