"""What each board has said last about updates. It is for people: what a board is offered is decided when it asks.

Reports are kept in memory. One transaction stores the new ones of all boards from time to time and at the end, so that
a thousand boards that report at once do not cost a thousand commits.
"""

import logging
from dataclasses import dataclass

from gateway_agent.repeating import Repeating
from gateway_agent.store.errors import StoreFailed
from gateway_agent.store.store import GatewayStore
from gateway_agent.store.update_table import StoredReport
from gateway_agent.updates.reports import CLASS_ID, UpdateReport

_log = logging.getLogger(__name__)

SAVE_EVERY_S = 30.0


@dataclass(frozen=True, slots=True)
class LastReport:
    """The last report of a board. `since`: Unix seconds when it came into its state."""

    report: UpdateReport
    since: int


class BoardReports:
    """The reports of all boards. From `start` to `close` new ones are stored from time to time."""

    def __init__(self, store: GatewayStore) -> None:
        self._store = store
        self._known: dict[str, LastReport] = {}
        self._unsaved: set[str] = set()  # PNE IDs
        self._turns = Repeating("reports about updates", SAVE_EVERY_S, self._try_to_save)
        self.start = self._turns.start

    def open(self) -> None:
        """Read what is stored about boards that are present. Raises StoreFailed."""
        present = set(self._store.pn.pnes())
        for each in self._store.updates.reports():
            if each.pne_id in present:
                self._known[each.pne_id] = _known(each)
            else:
                self._unsaved.add(each.pne_id)

    def of(self, pne_id: str) -> LastReport | None:
        """Return what a board has said last, None for nothing."""
        return self._known.get(pne_id)

    def take(self, pne_id: str, report: UpdateReport, unix: int) -> UpdateReport | None:
        """Note what a board says; return what it said before, None for nothing. Nothing is stored yet."""
        before = self._known.get(pne_id)
        if before is None or (before.report.state, before.report.wanted) != (report.state, report.wanted):
            self._known[pne_id] = LastReport(report, unix)
        else:
            self._known[pne_id] = LastReport(report, before.since)
        if before is None or before.report != report:
            self._unsaved.add(pne_id)
        return None if before is None else before.report

    def forget(self, pne_id: str) -> None:
        """Forget a board that is gone."""
        if self._known.pop(pne_id, None) is not None:
            self._unsaved.add(pne_id)

    def save(self) -> None:
        """Store all that is new in one transaction. Raises StoreFailed."""
        if not self._unsaved:
            return
        with self._store.transaction():
            self._store.updates.delete_reports(self._unsaved - self._known.keys())
            self._store.updates.put_reports(
                _row(pne_id, self._known[pne_id]) for pne_id in self._unsaved & self._known.keys()
            )
        self._unsaved.clear()

    async def close(self) -> None:
        """Store what is new and stop, if it was started. The store stays open."""
        if self._turns.started:
            await self._turns.close()
            self._try_to_save()

    def _try_to_save(self) -> None:
        try:
            self.save()
        except StoreFailed as problem:  # other parts raise an alarm for a disk that is full
            _log.debug("reports about updates are not written down: %s", problem)


def _known(row: StoredReport) -> LastReport:
    class_ids = tuple(row.class_ids[at : at + CLASS_ID] for at in range(0, len(row.class_ids), CLASS_ID))
    numbers = (row.agent_number, row.firmware_number, row.state, row.wanted, row.detail)
    return LastReport(UpdateReport(class_ids, row.key_id, *numbers), row.since)


def _row(pne_id: str, known: LastReport) -> StoredReport:
    report = known.report
    return StoredReport(
        pne_id,
        b"".join(report.class_ids),
        report.key_id,
        report.agent_number,
        report.firmware_number,
        report.state,
        report.wanted,
        report.detail,
        known.since,
    )
