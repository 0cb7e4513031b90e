"""The alarm for an update that boards went back from, or refused: when it begins, what it says, when it ends."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from gateway_agent.core.alarms import UPDATE
from gateway_agent.updates.board_reports import LastReport
from gateway_agent.updates.failures import CALM_LOOKS, FailedUpdates
from gateway_agent.updates.offers import UpdateOffer
from gateway_agent.updates.reports import UpdateReport
from suit import numbers as n

CLASS = b"c" * 16
BACK = UpdateReport((CLASS,), b"k" * 8, 4, 0, n.FELL_BACK, 5, n.NOT_CONFIRMED)
IDLE = replace(BACK, agent_number=5, state=n.IDLE, detail=0)
FIVE = UpdateOffer(b"five5555", 5, "agent", CLASS)


class Desk:
    """What boards have said, by name, what is offered, and the alarms that stand."""

    def __init__(self) -> None:
        self.offers = [FIVE]
        self.said: dict[str, UpdateReport] = {}
        self.alarms: dict[str, str] = {}
        self.ended = 0
        self.failures = FailedUpdates(
            SimpleNamespace(offers=self.offers),  # type: ignore[arg-type]
            SimpleNamespace(of=self.last),  # type: ignore[arg-type]
            lambda: ["silent", *self.said],
            lambda pne_id: ["home/lights"] if pne_id == "lamp" else [],
            self.set_alarm,
        )

    def last(self, pne_id: str) -> LastReport | None:
        return LastReport(self.said[pne_id], 0) if pne_id in self.said else None

    def set_alarm(self, kind: str, text: str, about: str) -> None:
        assert kind == UPDATE
        self.ended += not text
        self.alarms = {id: of for id, of in (self.alarms | {about: text}).items() if of}

    def look(self, **said: UpdateReport) -> str:
        self.said |= said
        self.failures.look()
        return self.alarms.get(FIVE.update_id.hex(), "")


def test_the_alarm_says_which_boards_and_why_and_what_to_do() -> None:
    desk = Desk()
    assert desk.look(door=IDLE) == ""
    assert desk.look(lamp=BACK) == (
        "Agent update 5 does not run on 1 board, which works with what it had: "
        "lamp went back, because it did not reach its gateway with it. "
        "Look at keycast update status, then offer a newer one, or: keycast update withdraw 5"
    )
    assert "more" not in desk.look(desk=BACK)
    text = desk.look(hall=replace(BACK, state=n.REFUSED, detail=n.NO_ROOM))
    assert (
        "on 3 boards, which work with what they had: " in text and "desk went back" in text and "; and 1 more." in text
    )
    assert "hall refused it, because its flash has no room left for it" in text and "lamp" not in text


def test_the_longest_text_is_shown_whole_in_home_assistant() -> None:
    desk = Desk()
    worst = replace(BACK, state=n.REFUSED, detail=n.NO_HEAP, wanted=n.NUMBER_MAX)
    desk.offers[:] = [replace(FIVE, number=n.NUMBER_MAX)]
    assert 300 < len(desk.look(lamp=worst, door=worst, hall=worst)) < 500


@pytest.mark.parametrize(
    "said",
    [
        replace(BACK, state=n.COLLECTING),
        replace(BACK, wanted=4),  # of the update before
        replace(BACK, class_ids=(b"o" * 16,)),
        replace(BACK, agent_number=5),
        replace(BACK, state=n.REFUSED, detail=n.OTHER_CLASS),
        replace(BACK, state=n.REFUSED, detail=n.OLD_NUMBER),
    ],
)
def test_what_needs_nobody_raises_no_alarm(said: UpdateReport) -> None:
    assert Desk().look(lamp=said) == ""
    assert Desk().look(lamp=replace(BACK, detail=n.OLD_NUMBER))  # as a reason to go back it is one that nobody knows


@pytest.mark.parametrize("offer", [replace(FIVE, boards={"door"}), replace(FIVE, groups={"home/locks"})])
def test_a_board_that_it_is_not_for_raises_no_alarm(offer: UpdateOffer) -> None:
    desk = Desk()
    desk.offers[:] = [offer]
    assert desk.look(lamp=BACK) == ""
    desk.offers[:] = [replace(offer, groups={"home/lights"})]
    assert desk.look()


def test_the_alarm_ends_with_the_offer_at_once() -> None:
    desk = Desk()
    other = replace(FIVE, update_id=b"six66666", number=6)
    desk.offers.append(other)
    assert desk.look(lamp=BACK, door=replace(BACK, wanted=6)) and len(desk.alarms) == 2
    desk.offers.remove(FIVE)
    assert desk.look() == "" and list(desk.alarms) == [other.update_id.hex()]
    before = desk.ended
    desk.look()
    assert before == desk.ended == 1


def test_a_board_that_changes_its_mind_does_not_end_the_alarm_at_once() -> None:
    desk = Desk()
    assert desk.look(lamp=BACK)
    for _ in range(CALM_LOOKS - 1):
        assert desk.look(lamp=IDLE)
    assert desk.look(lamp=BACK)
    for _ in range(CALM_LOOKS - 1):
        assert desk.look(lamp=IDLE)
    assert desk.look() == ""
