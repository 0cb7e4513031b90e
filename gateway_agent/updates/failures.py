"""Raises an alarm for each update that does not run on boards that it is offered to, with the reason."""

from collections.abc import Callable, Collection

from gateway_agent.core.alarms import UPDATE
from gateway_agent.repeating import Repeating
from gateway_agent.updates import reports
from gateway_agent.updates.board_reports import BoardReports
from gateway_agent.updates.catalogue import Catalogue
from gateway_agent.updates.offers import UpdateOffer
from suit import numbers as n

LOOK_EVERY_S = 30.0
CALM_LOOKS = 20
"""Looks without a failure after which an alarm ends, so that a board that changes its mind fills no log."""
_NAMED_MAX = 2
_NO_FAULT = (n.OTHER_CLASS, n.OLD_NUMBER)  # a board that refuses so needs nothing

SetAlarm = Callable[[str, str, str], None]
"""A function that accepts the kind of an alarm, its text, which is empty when it ends, and what it is about."""


class FailedUpdates:
    """Looks from `start` to `close`. An alarm ends with the offer, or some minutes after no board fails any more."""

    def __init__(
        self,
        catalogue: Catalogue,
        board_reports: BoardReports,
        boards: Callable[[], Collection[str]],
        groups_of: Callable[[str], Collection[str]],
        set_alarm: SetAlarm,
    ) -> None:
        """`boards` returns the PNE IDs of the boards that are let in, `groups_of` the groups of one."""
        self._catalogue = catalogue
        self._board_reports = board_reports
        self._boards = boards
        self._groups_of = groups_of
        self._set_alarm = set_alarm
        self._calm_looks: dict[bytes, int] = {}  # update ID of each alarm that stands -> looks without a failure
        self._turns = Repeating("failures of updates", LOOK_EVERY_S, self.look, at_once=True)
        self.start = self._turns.start
        self.close = self._turns.close

    def look(self) -> None:
        """Raise and end alarms by what boards have said last."""
        offers = {each.update_id: each for each in self._catalogue.offers}
        failed = {update_id: found for update_id, each in offers.items() if (found := self._failed(each))}
        for update_id, found in failed.items():
            self._calm_looks[update_id] = 0
            self._set_alarm(UPDATE, _text(offers[update_id], found), update_id.hex())
        for update_id in self._calm_looks.keys() - failed.keys():
            self._calm_looks[update_id] += 1
            if update_id not in offers or self._calm_looks[update_id] >= CALM_LOOKS:
                del self._calm_looks[update_id]
                self._set_alarm(UPDATE, "", update_id.hex())

    def _failed(self, offer: UpdateOffer) -> list[str]:
        """Return what the boards that went back from an update, or refused it, say of it."""
        found = []
        for pne_id in sorted(self._boards()):
            last = self._board_reports.of(pne_id)
            if last is None or last.report.state not in (n.FELL_BACK, n.REFUSED) or last.report.wanted != offer.number:
                continue
            of = last.report
            fits = offer.class_id in of.class_ids and of.number(offer.kind) < offer.number
            no_fault = of.state == n.REFUSED and of.detail in _NO_FAULT
            if fits and not no_fault and offer.is_for(pne_id, self._groups_of(pne_id)):
                did = "went back" if of.state == n.FELL_BACK else "refused it"
                found.append(f"{pne_id} {did}, because {reports.reason_in_words(of)}")
        return found


def _text(offer: UpdateOffer, failed: list[str]) -> str:
    more = len(failed) - _NAMED_MAX
    who = "; ".join(failed[:_NAMED_MAX]) + (f"; and {more} more" if more > 0 else "")
    one = len(failed) == 1
    boards = "1 board, which works with what it had" if one else f"{len(failed)} boards, which work with what they had"
    return (
        f"{offer.kind.capitalize()} update {offer.number} does not run on {boards}: {who}. "
        f"Look at keycast update status, then offer a newer one, or: keycast update withdraw {offer.number}"
    )
