"""How far updates are, for people."""

from dataclasses import dataclass

from gateway_agent.updates import reports
from gateway_agent.updates.board_reports import LastReport
from gateway_agent.updates.offers import UpdateOffer
from suit import numbers as n


@dataclass(frozen=True, slots=True)
class OfferStatus:
    """An offer. `update_id`: in hexadecimal digits; `size`: octets of the image; `boards`, `groups`: for whom it is.

    `sent` of `of` datagrams of its airing are sent; both are 0 without one. `has_it` of `meant` boards, those that it
    is for and that can run it, have it.
    """

    update_id: str
    kind: str
    number: int
    size: int
    boards: tuple[str, ...]
    groups: tuple[str, ...]
    by_broadcast: bool
    offered_at: int
    sent: int
    of: int
    meant: int
    has_it: int


@dataclass(frozen=True, slots=True)
class BoardStatus:
    """A board. `agent_number`, `firmware_number`: what it has confirmed; `offered`: what it is offered now; 0 for none.

    `state`: what it does, in words; `reason`: why it went back or refused, "" if it did not; `missing`: pieces that it
    missed when it said so; `since`: Unix seconds when it came into this state, 0 for not known; `has_key`: it has an
    update key.
    """

    pne_id: str
    agent_number: int
    firmware_number: int
    offered: int
    state: str
    reason: str
    missing: int
    since: int
    has_key: bool


def of_board(pne_id: str, known: LastReport | None, offer: UpdateOffer | None) -> BoardStatus:
    """Return the status of a board from what it has said last and what it is offered."""
    if known is None:
        return BoardStatus(pne_id, 0, 0, 0, reports.in_words(None, is_offered=False), "", 0, 0, False)
    report = known.report
    return BoardStatus(
        pne_id=pne_id,
        agent_number=report.agent_number,
        firmware_number=report.firmware_number,
        offered=0 if offer is None else offer.number,
        state=reports.in_words(report, offer is not None),
        reason=reports.reason_in_words(report),
        missing=report.detail if report.state == n.COLLECTING else 0,
        since=known.since,
        has_key=bool(report.key_id),
    )
