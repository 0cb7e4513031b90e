"""How far updates are, for people."""

from dataclasses import dataclass, replace

from gateway_agent.updates import reports
from gateway_agent.updates.board_reports import LastReport
from gateway_agent.updates.offers import UpdateOffer
from gateway_agent.updates.pulls import UpdatePull
from suit import numbers as n


@dataclass(frozen=True, slots=True)
class OfferStatus:
    """An offer. `update_id`: in hexadecimal digits; `image_octets`: size of the image;
    `is_verified`: the key of the configuration has signed it, False if that names none.

    `pne_ids`, `sg_ids`: boards, and groups whose members it is for; all boards if both are empty. `sealed_for`: SG ID
    of the group whose members alone can read the broadcast, "" for none; `problem`: why that does not go on;
    `aired_percent`: how much of it has gone out. Of the `boards_count` boards that it is
    for, and that can run it as far as is known, `updated_count` have it.
    """

    update_id: str
    kind: str
    number: int
    image_octets: int
    is_verified: bool
    pne_ids: tuple[str, ...]
    sg_ids: tuple[str, ...]
    is_broadcast: bool
    sealed_for: str
    problem: str
    offered_at: int
    aired_percent: int
    boards_count: int
    updated_count: int


@dataclass(frozen=True, slots=True)
class BoardStatus:
    """A board. `agent_number`, `firmware_number`: what it has confirmed; `offered_number`: what it is offered now.

    `wanted_number`: what it works on or has tried last. A number is 0 for none. `state`: a word, "" if the board has
    said nothing; `text`: the same in words for people; `reason`: why it went back or refused, "" if it did not;
    `missing_count`: pieces that it misses, 0 if that is not known; `since`: Unix seconds when it came into this
    state, 0 for not known; `has_key`: it has an update key.
    """

    pne_id: str
    agent_number: int
    firmware_number: int
    offered_number: int
    wanted_number: int
    state: str
    text: str
    reason: str
    missing_count: int
    since: int
    has_key: bool


def unknown(pne_id: str) -> BoardStatus:
    """Return the status of a board that has said nothing about updates."""
    return BoardStatus(pne_id, 0, 0, 0, 0, "", "has not reported", "", 0, 0, False)


def of_board(
    pne_id: str, last: LastReport, offer: UpdateOffer | None, pull: UpdatePull | None = None, pieces: int = 0
) -> BoardStatus:
    """Return the status of a board from what it has said last and what it is offered.

    `pull`: what it was answered of that since then; `pieces`: how many the update has.
    """
    report, since = last.report, last.since
    if offer is not None and pull is not None:
        if (report.state, report.wanted) == (n.COLLECTING, offer.number):
            missing = max(0, report.detail - pull.count)
        else:  # what it has heard of a broadcast is known once it reports
            missing = 0 if offer.by_broadcast else max(0, pieces - pull.count)
            since = pull.since
        report = replace(report, state=n.COLLECTING, wanted=offer.number, detail=missing)
    return BoardStatus(
        pne_id=pne_id,
        agent_number=report.agent_number,
        firmware_number=report.firmware_number,
        offered_number=0 if offer is None else offer.number,
        wanted_number=report.wanted,
        state=reports.STATES.get(report.state, "unknown"),
        text=reports.in_words(report, offer is not None),
        reason=reports.reason_in_words(report),
        missing_count=report.detail if report.state == n.COLLECTING else 0,
        since=since,
        has_key=bool(report.key_id),
    )
