"""One notification on its way to one user, as a state machine: `step(delivery, event, now)` -> (delivery, send).

    WAITING --asked--> OFFERED --answered--> DONE
       ^                 |  ^ `--asked again, after the back-off--' (FAILED after too many, keys only)
       `--refused, may pass away--'  `--refused for good--> REFUSED   (keys only)

DONE, REFUSED and FAILED become OVER when the user leaves a group that keeps the key: if the user comes back, the key is
sent again.

Only an answer ends a revocation: it is repeated until acknowledged (MC-GMK-22). Users fetch their notifications, so a
user that is away costs nothing.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from key_servers.gms import tuning
from mikey_sakke.errors import NoKeyForPeriod, OutsideWindow
from mikey_sakke.group_configuration import REVOCATION

PASSING = frozenset((OutsideWindow.code, NoKeyForPeriod.code))
"""Errors that a later, newly made message may not meet: a clock is set, keys of the period are fetched."""


class State(StrEnum):
    """The state of a delivery."""

    WAITING = "waiting"
    OFFERED = "offered"
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    CANCELLED = "cancelled"
    OVER = "over"


OPEN = (State.WAITING, State.OFFERED)


class Event(StrEnum):
    """An event of a delivery.

    ASKED: the user fetches now. ANSWERED: the user answered with a valid proof. RETRY: an operator wants it sent again.
    CANCELLED: it is not due any more. EXPIRED: the user fetches now, and the key is over by a clock that may be set
    back (SEC-36). LEFT: the user left a group that it named; an open delivery is then judged by what is due at its next
    fetch.
    """

    ASKED = "asked"
    ANSWERED = "answered"
    REFUSED = "refused"
    RETRY = "retry"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class NoticeDelivery:
    """A notification to one user. `groups` are those named to this user; it is not sent before `due` (Unix seconds);
    `code` and `text` are the last error.
    """

    notice_id: str
    key_id: str
    user: str
    purpose: str
    groups: tuple[str, ...]
    state: State = State.WAITING
    attempts: int = 0
    due: int = 0
    code: str = ""
    text: str = ""


def step(
    delivery: NoticeDelivery, event: Event, now: int, code: str = "", text: str = ""
) -> tuple[NoticeDelivery, bool]:
    """Return the delivery after `event`, and whether its message is to be sent now.

    `code` and `text` belong to REFUSED.
    """
    if delivery.state not in OPEN:
        if event is Event.LEFT and delivery.purpose != REVOCATION and delivery.state is not State.CANCELLED:
            return replace(delivery, state=State.OVER), False
        if event is Event.RETRY and delivery.state in (State.REFUSED, State.FAILED):
            return replace(delivery, state=State.WAITING, attempts=0, due=now), False
        if event is Event.ANSWERED and delivery.state is State.FAILED:  # the answer is late, but the message arrived
            return replace(delivery, state=State.DONE), False
        return delivery, False
    if event is Event.LEFT:
        return delivery, False
    if event is Event.CANCELLED:
        return replace(delivery, state=State.CANCELLED), False
    if event is Event.ANSWERED:
        return replace(delivery, state=State.DONE, code="", text=""), False
    if event is Event.REFUSED:
        if delivery.purpose != REVOCATION and code not in PASSING:
            return replace(delivery, state=State.REFUSED, code=code, text=text), False
        due = now + back_off_s(max(1, delivery.attempts))
        return replace(delivery, state=State.WAITING, due=due, code=code, text=text), False
    if event is Event.RETRY:
        return replace(delivery, due=now), False
    if now < delivery.due <= now + tuning.BACK_OFF_MAX_S:  # a time further ahead was made before the clock was set back
        return delivery, False
    if event is Event.EXPIRED:
        return replace(delivery, due=now + tuning.BACK_OFF_MAX_S), False
    if delivery.purpose != REVOCATION and delivery.attempts >= tuning.KEY_ATTEMPTS_MAX:
        return replace(delivery, state=State.FAILED), False
    attempts = delivery.attempts + 1
    return replace(delivery, state=State.OFFERED, attempts=attempts, due=now + back_off_s(attempts)), True


def back_off_s(attempts: int) -> int:
    """Return the seconds until the next repetition after `attempts`, which counts from 1."""
    return int(min(tuning.BACK_OFF_MAX_S, tuning.ANSWER_S << min(attempts - 1, 16)))
