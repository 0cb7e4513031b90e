"""Is this PN GW an old copy of itself? (SEC-02, SEC-28)

A store that was put back unannounced gives slots a second owner and takes removed members for present ones. Its peers
notice: the Server has seen it acknowledge later versions, PNEs hold later versions, generations or other slots. The
Server's word stops broadcasts and pulls, one PNE's word is an alarm (it may lie), two PNEs' stop as well.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable

from cpns import messages, numbers
from cpns.errors import NotAllowed
from gateway_agent.core.ports import Uplink
from gateway_agent.core.server_link import ask
from gateway_agent.store.store import Store

_log = logging.getLogger(__name__)

PNES_TO_STOP = 2
NEXT_STEP = "run `keycast gateway restore`"


class Versions:
    """Compares what peers know with what the store knows."""

    def __init__(
        self, *, store: Store, uplink: Uplink, pn_id: str, stopped: Callable[[], None], counters: Counter[str]
    ) -> None:
        """`stopped` is called when broadcasts and pulls must stop."""
        self._store = store
        self._uplink = uplink
        self._pn_id = pn_id
        self._stopped = stopped
        self._counters = counters
        self._compared = False

    @property
    def stop_reason(self) -> str | None:
        """Why broadcasts and pulls are stopped, None if they are not."""
        pn = self._store.pn.get()
        return None if pn is None else pn.stopped

    def refuse_if_stopped(self) -> None:
        """Raises NotAllowed while stopped."""
        if self.stop_reason is not None:
            raise NotAllowed("this gateway is stopped until a person restores it")

    async def exchange(self) -> None:
        """Send the version list and judge the answer. Raises NoAnswer, Refused, MalformedMessage."""
        groups = self._store.inventory.groups()
        asked = {group.sg_id: 0 if group.waiting or group.behind else group.version for group in groups}
        fields: dict[int, object] = {messages.PN_ID: self._pn_id}
        if asked:
            fields[messages.VERSION_ENTRY] = [(version, sg_id) for sg_id, version in asked.items()]
        answer = await ask(self._uplink, numbers.VERSION_LIST_REQUEST, fields)
        entries = answer.get(messages.VERSION_ENTRY, [])
        self._judge(entries if isinstance(entries, list) else [])
        self._compared = True

    async def compared(self) -> None:
        """Return when versions have been compared since the start. Raises as `exchange`.

        Before a Group Key is taken, and acknowledged: afterwards the Server's list would say no more than an old copy
        of the store knows.
        """
        if not self._compared:
            await self.exchange()

    def heard_version(self, pne_id: str, sg_id: str, version: int) -> None:
        """A PNE says over its session that it holds this version."""
        group = self._store.inventory.group_or_deleted(sg_id)
        if version > (0 if group is None else group.version):
            self._doubt(pne_id, f"version {version} of {sg_id}")

    def heard_generation(self, pne_id: str, generation: int) -> None:
        """A PNE says over its session that it has a GKDK of this generation."""
        pn = self._store.pn.get()
        if pn is not None and generation > pn.last_generation:
            self._doubt(pne_id, f"generation {generation}")

    def heard_slot(self, pne_id: str) -> None:
        """A PNE names a slot that was never given to it."""
        self._doubt(pne_id, "a slot that is not its own")

    def _judge(self, entries: Iterable[tuple[int, str]]) -> None:
        pn = self._store.pn.get()
        if pn is None:
            return
        if pn.behind:  # a new or restored gateway: the Server knows more, as it should
            with self._store.transaction():
                self._store.pn.set_behind(False)
            return
        for version, sg_id in entries:
            group = self._store.inventory.group_or_deleted(sg_id)
            if group is not None and group.waiting:
                continue
            if version > (0 if group is None else group.version):
                self._stop(f"the CPNS Server has seen this gateway acknowledge version {version} of {sg_id}")
                return

    def _doubt(self, pne_id: str, what: str) -> None:
        self._counters["peers_ahead"] += 1
        pne = self._store.pn.pne(pne_id)
        if pne is None or pne.ahead:
            return
        with self._store.transaction():
            doubting = self._store.pn.set_ahead(pne_id)
        _log.warning("%s claims %s, which this gateway never gave: a lie, or an old copy of the store", pne_id, what)
        if doubting >= PNES_TO_STOP:
            self._stop(f"{doubting} PNEs hold what this gateway never gave")

    def _stop(self, why: str) -> None:
        if self.stop_reason is not None:
            return
        with self._store.transaction():
            self._store.pn.stop(f"{why}: {NEXT_STEP}")
        _log.error("the store is an old copy: %s. Broadcasts and pulls are stopped; %s", why, NEXT_STEP)
        self._stopped()
