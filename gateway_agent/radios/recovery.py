"""What is tried when a medium is down or refuses: a ladder of steps, as a pure state machine.

`step(ladder, event, now)` returns the next state and the actions to carry out, in order. `now` is monotonic seconds.
Each step is given time to help, twice as long as the one before. When all have been taken once a person is told, and
they are taken again, from the mildest on, ever more rarely. A medium that fails again soon after it came back goes on
where it was: the steps that helped for moments only are not begun anew.
"""

from dataclasses import dataclass, replace

WAIT_FIRST_S = 2.0
WAIT_MAX_S = 600.0
STEADY_S = 60.0
"""A medium that works for so long has recovered."""


@dataclass(frozen=True, slots=True)
class Ladder:
    """State of one medium. `steps`: how many steps it has; `tries`: how many were taken, round after round.

    `why`: what is wrong, "" while the medium works; `told`: a person was told; `up_at`: when it came back last.
    """

    steps: int
    tries: int = 0
    why: str = ""
    taking: bool = False
    told: bool = False
    up_at: float | None = None


@dataclass(frozen=True, slots=True)
class MediumFailed:
    """The medium went down, or refused a datagram. `why` in words."""

    why: str


@dataclass(frozen=True, slots=True)
class MediumWorks:
    """The medium came up, or a datagram went out."""


@dataclass(frozen=True, slots=True)
class StepEnded:
    """The step that was taken has ended, well or not: the medium says by itself whether it works."""


@dataclass(frozen=True, slots=True)
class Waited:
    """The time named by Wait has come."""


Event = MediumFailed | MediumWorks | StepEnded | Waited


@dataclass(frozen=True, slots=True)
class TakeStep:
    """Take the step of this number, from 0; answer with StepEnded."""

    number: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Tell Waited at this monotonic time, None = not at all. It replaces the Wait before."""

    until: float | None


@dataclass(frozen=True, slots=True)
class TellPerson:
    """All steps have been taken and none has helped: a person should look."""

    why: str


@dataclass(frozen=True, slots=True)
class TakeBack:
    """What a person was told is over."""


Action = TakeStep | Wait | TellPerson | TakeBack


def step(ladder: Ladder, event: Event, now: float) -> tuple[Ladder, tuple[Action, ...]]:
    """Take one event. An event that no longer means anything changes nothing and returns no action."""
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
    if ladder.why or ladder.taking:  # the step under way, or the timer, goes on
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
