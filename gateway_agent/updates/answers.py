"""Answers what boards ask about updates: their reports, and the pieces that they pull."""

from collections import Counter
from collections.abc import Callable, Iterator

from cpns.errors import CpnsError, MalformedMessage, NotAllowed, TooMany, Unknown
from gateway_agent.core import events
from gateway_agent.core.ports import Clock
from gateway_agent.core.rates import Rate
from gateway_agent.store.store import GatewayStore
from gateway_agent.updates import offers, reports
from gateway_agent.updates.airing import UpdateAiring
from gateway_agent.updates.board_reports import BoardReports
from gateway_agent.updates.catalogue import Catalogue
from gateway_agent.updates.limits import TOLD_PER_HOUR, PullTurns, UpdateLimits
from gateway_agent.updates.offers import UpdateOffer
from gateway_agent.updates.pulls import UpdatePulls
from gateway_agent.updates.reports import UpdateReport
from suit import numbers as n

AFTER_AIRING_S = 1.0
"""A board pulls what it has missed no earlier than this after the airing."""
MISSED_SHARE = 200
"""After an airing a board pulls one piece of so many, as a guess for whose turn is when."""

_COUNTED: dict[type[CpnsError], str] = {
    MalformedMessage: "updates_malformed",
    Unknown: "updates_not_offered",
    NotAllowed: "updates_not_allowed",
    TooMany: "updates_too_many",
}
"""The counter of each refusal."""


class BoardAnswers:
    """Answers boards of this PN, whose names the message plane has authenticated."""

    def __init__(
        self,
        *,
        store: GatewayStore,
        catalogue: Catalogue,
        board_reports: BoardReports,
        airing: UpdateAiring,
        key: bytes,
        pulls: UpdatePulls,
        is_on_bluetooth: Callable[[str], bool],
        clock: Clock,
        tell: events.Tell,
        counters: Counter[str],
    ) -> None:
        """`key`: the update key, x || y, for boards without one, b"" for none.

        `is_on_bluetooth` returns True for a PNE that was heard over Bluetooth last.
        """
        self._store = store
        self._catalogue = catalogue
        self._board_reports = board_reports
        self._airing = airing
        self._key = key
        self._pulls = pulls
        self._is_on_bluetooth = is_on_bluetooth
        self._clock = clock
        self._tell = tell
        self._counters = counters
        self._limits = UpdateLimits()
        self._turns = PullTurns()
        self._told = Rate(TOLD_PER_HOUR)

    def handle(self, pne_id: str, octets: bytes) -> bytes:
        """Return the answer to one request of a board.

        Raises MalformedMessage (no such request, no such piece), Unknown and NotAllowed (an update that is not offered,
        or not to this board), TooMany.
        """
        try:
            pne = self._store.pn.pne(pne_id)
            if pne is not None and pne.retired:
                raise NotAllowed(f"{pne_id} is not of this PN")
            asked = reports.request(octets)
            return self._report(pne_id, asked) if isinstance(asked, UpdateReport) else self._piece(pne_id, *asked)
        except CpnsError as refused:
            self._counters[_COUNTED[type(refused)]] += 1
            raise

    def forget_board(self, pne_id: str) -> None:
        """Forget what a board that is gone has asked for."""
        self._limits.forget_board(pne_id)
        self._told.reset(pne_id)

    def forget_update(self, update_id: bytes) -> None:
        """Forget who has asked for an update that is not offered any more."""
        self._limits.forget_update(update_id)
        self._pulls.forget_update(update_id)
        self._turns.forget_update(update_id)

    def _report(self, pne_id: str, report: UpdateReport) -> bytes:
        if not self._limits.report(pne_id, self._clock.monotonic()):
            raise TooMany("too many reports; wait a minute")
        self._counters["update_reports"] += 1
        self._pulls.forget_board(pne_id)  # it says what it misses now
        before = self._board_reports.take(pne_id, report, self._clock.unix())
        self._tell_changes(pne_id, before, report)
        key = self._key if not report.key_id else b""
        groups = self._store.inventory.groups_of(pne_id)
        offer = offers.offered(self._catalogue.offers, pne_id, groups, report)
        if offer is None:
            return reports.answer(b"", 0, key, 0)
        return reports.answer(offer.update_id, offer.number, key, self._wait_s(pne_id, offer, report))

    def _piece(self, pne_id: str, update_id: bytes, what: int, index: int) -> bytes:
        offer = self._catalogue.offer(update_id)
        if offer is None:
            raise Unknown("this update is not offered")
        if not offer.is_for(pne_id, self._store.inventory.groups_of(pne_id)):
            raise NotAllowed("this update is not for this board")
        update = self._catalogue.update(update_id)
        pieces = 1 + len(update.pages) + update.coded.code.frames
        if not self._limits.piece(pne_id, update_id, pieces, self._clock.monotonic()):
            raise TooMany("too many pieces; wait some seconds")
        try:
            octets = update.piece(what, index)
        except IndexError as wrong:
            raise MalformedMessage(str(wrong)) from None
        self._counters["update_pieces"] += 1
        self._pulls.answered(pne_id, update_id, what, index, self._clock.unix())
        return reports.piece(octets)

    def _wait_s(self, pne_id: str, offer: UpdateOffer, report: UpdateReport) -> int:
        """Return in how many seconds the board begins to pull: after the airing that it can hear, and in its turn."""
        now = self._clock.monotonic()
        left_s = 0.0 if self._is_on_bluetooth(pne_id) else self._airing.left_s(offer.update_id)
        pieces = self._catalogue.update(offer.update_id).pieces
        if report.state == n.COLLECTING and report.wanted == offer.number:
            pieces = min(pieces, report.detail)
        if not left_s:
            return self._turns.wait_s(pne_id, offer.update_id, pieces, now)
        after = now + left_s + AFTER_AIRING_S
        return self._turns.wait_s(pne_id, offer.update_id, pieces / MISSED_SHARE, now, after)

    def _tell_changes(self, pne_id: str, before: UpdateReport | None, report: UpdateReport) -> None:
        for event in _changes(pne_id, before, report):
            if self._told.allow(pne_id, self._clock.monotonic()):
                self._tell(event)


def _changes(pne_id: str, before: UpdateReport | None, report: UpdateReport) -> Iterator[events.Event]:
    for kind in ("agent", "firmware"):
        if before is not None and report.number(kind) > before.number(kind):
            yield events.BoardUpdated(pne_id, kind, report.number(kind))
    if before is None or (before.state, before.wanted) != (report.state, report.wanted):
        if report.state == n.FELL_BACK:
            yield events.BoardFellBack(pne_id, report.wanted, reports.reason_in_words(report))
        elif report.state == n.REFUSED:
            yield events.BoardRefused(pne_id, report.wanted, reports.reason_in_words(report))
