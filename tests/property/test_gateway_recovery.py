"""The recovery ladder of a medium under random events."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_agent.radios import recovery
from gateway_agent.radios.recovery import MediumFailed, MediumWorks, StepEnded, Waited

events = st.sampled_from(["fails", "works", "ends", "pause", "pause"])


class Care:
    """Carries out actions on paper: which step is under way, when to wake, whether a person was told."""

    def __init__(self, steps: int) -> None:
        self.ladder = recovery.Ladder(steps)
        self.now = 0.0
        self.wake: float | None = None
        self.taking = False
        self.told = False
        self.taken: list[tuple[float, int]] = []

    def take(self, event: recovery.Event) -> None:
        self.ladder, actions = recovery.step(self.ladder, event, self.now)
        for action in actions:
            if isinstance(action, recovery.TakeStep):
                assert not self.taking, "two steps at once"
                self.taking = True
                self.taken.append((self.now, action.number))
            elif isinstance(action, recovery.Wait):
                assert action.until is None or action.until > self.now
                self.wake = action.until
            else:
                tells = isinstance(action, recovery.TellPerson)
                assert tells != self.told, "told twice, or taken back without having been told"
                self.told = tells

    def do(self, what: str) -> None:
        if what == "fails":
            self.take(MediumFailed("scripted"))
        elif what == "works":
            self.take(MediumWorks())
        elif what == "ends" and self.taking:
            self.taking = False
            self.take(StepEnded())
        elif what == "pause" and self.wake is not None:
            self.now, self.wake = self.wake, None
            self.take(Waited())


@given(st.integers(0, 4), st.lists(events, max_size=80))
def test_one_step_at_a_time_and_something_always_goes_on_while_it_fails(steps: int, script: list[str]) -> None:
    care = Care(steps)
    for what in script:
        care.do(what)
        failing = bool(care.ladder.why)
        assert not failing or care.taking or care.wake is not None, "nothing would ever happen again"
        assert failing or (not care.told and care.wake is None)


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_all_steps_are_taken_before_a_person_is_told_and_ever_more_rarely_after(steps: int) -> None:
    care = Care(steps)
    care.do("fails")
    told_after = None
    for _ in range(40):
        care.do("ends" if care.taking else "pause")
        if care.told and told_after is None:
            told_after = len({number for _, number in care.taken})
    assert told_after == steps
    assert [number for _, number in care.taken] == [at % steps for at in range(len(care.taken))]
    pauses = [later - earlier for (earlier, _), (later, _) in zip(care.taken, care.taken[1:], strict=False)]
    assert pauses == sorted(pauses) and (not pauses or pauses[-1] == recovery.WAIT_MAX_S)


def test_a_medium_that_fails_again_soon_goes_on_where_it_was_and_later_from_the_beginning() -> None:
    care = Care(3)
    for what in ("fails", "ends", "pause", "ends", "works"):
        care.do(what)
    assert [number for _, number in care.taken] == [0, 1]
    care.now += recovery.STEADY_S / 2
    care.do("fails")
    assert not care.taking, "it is given time first"
    care.do("pause")
    assert care.taken[-1][1] == 2
    care.do("ends")
    care.do("works")
    care.now += recovery.STEADY_S
    care.do("fails")
    assert care.taken[-1] == (care.now, 0)
