"""Finds out whether the store of this PN GW is an old copy (SEC-28).

If an old copy of the store was put back without `keycast gateway restore`, slots would get a second owner and removed
members would count as present. Two proofs stop broadcasts and pulls: the Server has seen this PN GW acknowledge later
versions, or a PNE shows a receipt that this PN GW made for a later state. Claims of PNEs without proof (later versions,
generations, other slots) stop nothing, however many PNEs make them. They make this PN GW compare versions with the
Server, and they raise an alarm for a person.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable

from cpns import messages, numbers
from cpns.errors import NotAllowed
from cpns.in_words import version_text
from gateway_agent.core import receipts
from gateway_agent.core.alarms import OLD_COPY, Alarms
from gateway_agent.core.ports import Clock, Uplink
from gateway_agent.core.server_requests import ask
from gateway_agent.core.server_silence import ServerSilence
from gateway_agent.store.store import GatewayStore

_log = logging.getLogger(__name__)

CLAIM_LIFE_S = 2 * 86_400.0
"""Running time after which a claim that is not repeated ends. A PNE repeats it each day, when it pulls."""
NAMES_SHOWN = 3
NEXT_STEP = "run `keycast gateway restore`"


class Versions:
    """Compares what the Server and the PNEs know with what the store knows."""

    def __init__(
        self,
        *,
        store: GatewayStore,
        uplink: Uplink,
        pn_id: str,
        clock: Clock,
        stopped: Callable[[], None],
        doubted: Callable[[], None],
        silence: ServerSilence,
        alarms: Alarms,
        counters: Counter[str],
    ) -> None:
        """`stopped` is called when broadcasts and pulls must stop, `doubted` when versions should be compared."""
        self._store = store
        self._uplink = uplink
        self._pn_id = pn_id
        self._clock = clock
        self._stopped = stopped
        self._doubted = doubted
        self._silence = silence
        self._alarms = alarms
        self._counters = counters
        self._claims: dict[tuple[str, str], tuple[float, str]] = {}  # (PNE ID, SG ID or ""): (time, what is claimed)
        self._compared = False

    @property
    def stop_reason(self) -> str | None:
        """Why broadcasts and pulls are stopped, None if they are not."""
        pn = self._store.pn.get()
        return None if pn is None else pn.stopped

    @property
    def are_compared(self) -> bool:
        """True if versions were compared with the Server since the start; until then the store may be an old copy."""
        return self._compared

    def refuse_if_stopped(self) -> None:
        """Raise NotAllowed while broadcasts and pulls are stopped (SEC-02)."""
        if self.stop_reason is not None:
            raise NotAllowed("this gateway is stopped until a person restores it")

    async def exchange(self) -> None:
        """Send the version list and stop if the answer shows that the store is an old copy.

        Raises NoAnswer, ServerRefused, MalformedMessage, StoreFailed.
        """
        self._age_claims()
        groups = self._store.inventory.groups()
        asked = {group.sg_id: 0 if group.waiting or group.behind else group.version for group in groups}
        fields: dict[int, object] = {messages.PN_ID: self._pn_id}
        if asked:
            fields[messages.VERSION_ENTRY] = [(version, sg_id) for sg_id, version in asked.items()]
        answer = await ask(self._uplink, numbers.VERSION_LIST_REQUEST, fields)
        entries = answer.get(messages.VERSION_ENTRY, [])
        self._judge(entries if isinstance(entries, list) else [])
        self._compared = True
        if self.stop_reason is None:
            self._silence.answered()

    async def compared(self) -> None:
        """Compare versions with the Server unless that was done since the start; always after a long silence (SEC-28).

        This must come before a Group Key is stored and acknowledged. After that the Server's version list would not
        show any more that the store is an old copy. Raises the same as `exchange`.
        """
        if not self._compared or self._silence.is_stale:
            await self.exchange()

    def heard_version(self, pne_id: str, sg_id: str, version: int) -> None:
        """Note that a member says over its session that it holds this version.

        A group for which this PN GW has no key yet is not compared: the PN GW is new or restored then, and members may
        well hold later versions.
        """
        group = self._store.inventory.group_or_deleted(sg_id)
        if group is None or group.waiting or version <= group.version or not group.version:
            self._believe(pne_id, sg_id)
        else:
            self._doubt(pne_id, sg_id, f"version {version_text(version)} of {sg_id}")

    def heard_receipt(self, pne_id: str, sg_id: str, receipt: bytes) -> None:
        """Check the receipt that a PNE shows, empty if it has none; stop if it is for more than is stored (SEC-34)."""
        said = receipts.check(self._store.pn.receipt_key(), pne_id, sg_id, receipt)
        if said is None:
            if receipt:
                self._counters["receipts_unknown"] += 1
            return
        version, generation = said
        group, pn = self._store.inventory.group_or_deleted(sg_id), self._store.pn.get()
        if pn is not None and (version > (0 if group is None else group.version) or generation > pn.last_generation):
            self._stop(f"{pne_id} has a receipt of this gateway for version {version_text(version)} of {sg_id}")

    def receipt(self, pne_id: str, sg_id: str, version: int) -> bytes:
        """Return the receipt for a PNE to keep: a proof, for `heard_receipt`, that the store knew this version."""
        pn = self._store.pn.get()
        return receipts.make(
            self._store.pn.receipt_key(), pne_id, sg_id, version, 0 if pn is None else pn.last_generation
        )

    def heard_generation(self, pne_id: str, generation: int) -> None:
        """Note that a PNE says over its session that it has a GKDK of this generation."""
        pn = self._store.pn.get()
        if pn is not None and generation > pn.last_generation:
            self._doubt(pne_id, "", f"generation {generation} of the tree")
        else:
            self._believe(pne_id, "")

    def heard_slot(self, pne_id: str) -> None:
        """Note that a PNE names a slot that was never assigned to it."""
        self._doubt(pne_id, "", "a slot of the tree")

    def forget(self, pne_id: str) -> None:
        """Drop the claims of a PNE that was retired, so that the next owner of its name begins without (SEC-34)."""
        for claim in [claim for claim in self._claims if claim[0] == pne_id]:
            del self._claims[claim]
        self._show_claims()

    def _judge(self, entries: Iterable[tuple[int, str]]) -> None:
        """Stop if the Server has seen a later version than is stored here: the store is an old copy (SEC-02)."""
        pn = self._store.pn.get()
        if pn is None:
            return
        if pn.behind:  # the gateway is new or was restored, so the Server is expected to know more
            with self._store.transaction():
                self._store.pn.set_behind(False)
            return
        for version, sg_id in entries:
            group = self._store.inventory.group_or_deleted(sg_id)
            if group is not None and group.waiting:
                continue
            if version > (0 if group is None else group.version):
                acknowledged = f"version {version_text(version)} of {sg_id}"
                self._stop(f"the CPNS Server has seen this gateway acknowledge {acknowledged}")
                return

    def _doubt(self, pne_id: str, about: str, what: str) -> None:
        """Keep a claim that has no proof: it raises the alarm and a comparison, and stops nothing (SEC-34)."""
        self._counters["peers_ahead"] += 1
        self._claims[pne_id, about] = (self._clock.monotonic(), what)
        self._show_claims()
        self._doubted()

    def _believe(self, pne_id: str, about: str) -> None:
        if self._claims.pop((pne_id, about), None) is not None:
            self._show_claims()

    def _age_claims(self) -> None:
        """Drop the claims that were not repeated for CLAIM_LIFE_S (SEC-34)."""
        oldest = self._clock.monotonic() - CLAIM_LIFE_S
        for claim in [claim for claim, (since, _) in self._claims.items() if since < oldest]:
            del self._claims[claim]
        self._show_claims()

    def _show_claims(self) -> None:
        if not self._claims:
            self._alarms.clear(OLD_COPY)
            return
        (pne_id, _), (_, what) = next(iter(self._claims.items()))
        claiming = sorted({name for name, _ in self._claims})
        names = ", ".join(claiming[:NAMES_SHOWN]) + (", .." if len(claiming) > NAMES_SHOWN else "")
        self._alarms.set(
            OLD_COPY,
            f"{len(claiming)} of the boards ({names}) say that they hold what this gateway never gave; "
            f"{pne_id}: {what}. If an older copy of its files was put back, {NEXT_STEP}; "
            "else these boards are faulty or lie: retire them.",
        )

    def _stop(self, why: str) -> None:
        """Stop broadcasts and pulls until a person restores the gateway (SEC-02)."""
        if self.stop_reason is not None:
            return
        with self._store.transaction():
            self._store.pn.stop(f"{why}: {NEXT_STEP}")
        _log.error("KC1038 the store is an old copy: %s. Broadcasts and pulls are stopped; %s", why, NEXT_STEP)
        self._stopped()
