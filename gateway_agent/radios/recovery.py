"""The recovery of a medium that is down or refuses datagrams: a ladder of steps, as a pure state machine.

`step(ladder, event, now)` returns the next state and the actions to execute, in order. `now` is monotonic seconds. The
wait after each step is twice as long as after the step before. When all steps have been taken once a person is told,
and the steps are taken again from the first one, at longer and longer intervals. If a medium fails again soon after it
came back, the ladder continues where it was, as the steps so far have helped for moments only.
"""

from dataclasses import dataclass, replace

WAIT_FIRST_S = 2.0
WAIT_MAX_S = 600.0
STEADY_S = 60.0
"""A medium that works for this long has recovered."""


@dataclass(frozen=True, slots=True)
class Ladder:
    """The state of one medium. `steps`: how many steps it has; `tries`: how many were taken, repetitions included.

    `why`: what is wrong, "" while the medium works; `taking`: a step is under way; `told`: a person was told; `up_at`:
    when the medium came back last, None if it never did.
    """

    steps: int
    tries: int = 0
    why: str = ""
    taking: bool = False
    told: bool = False
    up_at: float | None = None


@dataclass(frozen=True, slots=True)
class MediumFailed:
    """The medium went down, or refused a datagram. `why` is the reason in words."""

    why: str


@dataclass(frozen=True, slots=True)
class MediumWorks:
    """The medium came up, or has sent a datagram."""


@dataclass(frozen=True, slots=True)
class StepEnded:
    """The step has ended, whether it has helped or not. Another event tells whether the medium works."""


@dataclass(frozen=True, slots=True)
class Waited:
    """The time of the last Wait has come."""


Event = MediumFailed | MediumWorks | StepEnded | Waited


@dataclass(frozen=True, slots=True)
class TakeStep:
    """Take the step of this number, from 0. The event StepEnded must follow."""

    number: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Set the timer, whose event is Waited, to this monotonic time; None cancels it."""

    until: float | None


@dataclass(frozen=True, slots=True)
class TellPerson:
    """Tell a person that all steps have been taken and none has helped."""

    why: str


@dataclass(frozen=True, slots=True)
class TakeBack:
    """Withdraw what a person was told, as the medium works again."""


Action = TakeStep | Wait | TellPerson | TakeBack


def step(ladder: Ladder, event: Event, now: float) -> tuple[Ladder, tuple[Action, ...]]:
    """Return the state after one event and the actions to execute.

    An event that does not matter any more changes nothing and has no actions.
    """
    if isinstance(event, MediumFailed):
        return _failed(ladder, event.why, now)
    if isinstance(event, MediumWorks):
        return _works(ladder, now)
    if not ladder.why:
        return replace(ladder, taking=False), ()
    if isinstance(event, StepEnded):
        if not ladder.taking:
            return ladder, ()
        return replace(ladder, taking=False), (Wait(now + _wait_s(ladder.tries)),)
    if ladder.taking:
        return ladder, ()
    return _try_next(ladder, now)


def _failed(ladder: Ladder, why: str, now: float) -> tuple[Ladder, tuple[Action, ...]]:
    if ladder.why or ladder.taking:  # a step or a wait is under way already
        return replace(ladder, why=why), ()
    if ladder.up_at is not None and now - ladder.up_at < STEADY_S:
        return replace(ladder, why=why), (Wait(now + _wait_s(ladder.tries)),)
    return _try_next(replace(ladder, why=why, tries=0), now)


def _works(ladder: Ladder, now: float) -> tuple[Ladder, tuple[Action, ...]]:
    if not ladder.why:
        return ladder, ()
    back = (TakeBack(),) if ladder.told else ()
    return replace(ladder, why="", told=False, up_at=now), (Wait(None), *back)


def _try_next(ladder: Ladder, now: float) -> tuple[Ladder, tuple[Action, ...]]:
    tell = ladder.tries >= max(1, ladder.steps) and not ladder.told
    told = (TellPerson(ladder.why),) if tell else ()
    after = replace(ladder, tries=ladder.tries + 1, told=ladder.told or tell)
    if not ladder.steps:
        return after, (*told, Wait(now + _wait_s(after.tries)))
    return replace(after, taking=True), (*told, Wait(None), TakeStep(ladder.tries % ladder.steps))


def _wait_s(tries: int) -> float:
    return min(WAIT_FIRST_S * 2.0 ** min(tries - 1, 16), WAIT_MAX_S) if tries else WAIT_FIRST_S
