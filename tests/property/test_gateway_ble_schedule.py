"""The order of adverts under random airings: fair, never the same row again too early, nothing after a stop."""

from collections import Counter
from itertools import pairwise
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_agent.radios.ble_schedule import OBJECTS_AT_ONCE, REMEMBERED_MAX, ROWS, Adverts, Schedule, burst


def adverts(name: int, rows: int = 6, keys: int = 1) -> Adverts:
    """Adverts that say which datagram, key and row they are of."""
    return Adverts(b"%d" % name, rows, keys, lambda key, index: bytes((name % 256, key, index)))


@given(st.integers(1, 80), st.integers(1, 3), st.integers(0, 3 * ROWS), st.integers(1, 4))
def test_bursts_go_through_all_rows_under_each_key_and_begin_again(
    rows: int, keys: int, stopped: int, more: int
) -> None:
    """Wherever an airing is stopped, the next one of the same datagram goes on there."""
    schedule, sent = Schedule(), []
    while len(sent) < stopped:
        number = schedule.begin(adverts(1, rows, keys))
        while len(sent) < stopped and (found := schedule.next()):
            sent.append(found[1])
        schedule.stop(number)
    for _ in range(more):
        schedule.begin(adverts(1, rows, keys))
        count = 0
        while found := schedule.next():
            sent.append(found[1])
            count += 1
            assert found[2] == (count == keys * burst(rows))
    assert sent == [bytes((1, place % keys, place // keys % ROWS)) for place in range(len(sent))]


@pytest.mark.parametrize("rows", [1, 4, 6, 7, 11, 62, 72, 80])
def test_a_burst_is_what_nineteen_of_twenty_need_at_half_of_the_frames(rows: int) -> None:
    assert burst(rows) - 1 < 2 * rows + 2.5 * sqrt(rows) <= burst(rows) < ROWS


@pytest.mark.req("SEC-38")
@given(
    st.lists(st.tuples(st.sampled_from(["begin", "begin", "next", "next", "next", "stop", "clear"]), st.integers(0, 9)))
)
def test_nothing_of_a_stopped_airing_comes_after_its_stop_and_the_others_take_turns(
    script: list[tuple[str, int]],
) -> None:
    schedule, running, left, which_of = Schedule(), list[int](), dict[int, int](), dict[int, int]()
    waited = Counter[int]()
    for what, which in script:
        if what == "begin":
            number = schedule.begin(adverts(which, which + 1))
            assert number not in left
            running.append(number)
            which_of[number] = which
            left[number] = burst(which + 1)
        elif what == "stop" and running:
            schedule.stop(running.pop(which % len(running)))
        elif what == "clear":
            schedule.clear()
            running.clear()
        elif what == "next":
            found = schedule.next()
            assert (found is None) == (not running)
            if found is None:
                continue
            number, _, is_last = found
            assert number in running
            left[number] -= 1
            assert is_last == (left[number] == 0)
            for each in running:
                waited[each] += 1
                assert waited[each] <= len(left) * burst(10), "an airing that never has its turn"
            assert number in turns(running, which_of), "an object that does not wait until others have ended"
            waited[number] = 0
            if is_last:
                running.remove(number)
        assert len(schedule) == len(running)


def turns(running: list[int], which_of: dict[int, int]) -> set[int]:
    """The airings that take turns: datagrams of one row, and the objects that were begun first."""
    objects = sorted(number for number in running if which_of[number])
    return {number for number in running if not which_of[number]} | set(objects[:OBJECTS_AT_ONCE])


@given(st.integers(1, OBJECTS_AT_ONCE), st.integers(0, 8), st.integers(1, 5))
def test_of_airings_that_take_turns_none_is_ahead_by_more_than_one_advert(
    objects: int, beacons: int, turns: int
) -> None:
    schedule = Schedule()
    numbers = [schedule.begin(adverts(each, 40 if each < objects else 1)) for each in range(objects + beacons)]
    counts = Counter(dict.fromkeys(numbers, 0))
    for _ in range(turns):
        found = schedule.next()
        assert found is not None
        counts[found[0]] += 1
        assert max(counts.values()) - min(counts.values()) <= 1


def test_objects_that_wait_take_the_place_of_one_that_has_ended_or_was_stopped() -> None:
    schedule = Schedule()
    numbers = [schedule.begin(adverts(each, 4)) for each in range(OBJECTS_AT_ONCE + 4)]
    schedule.stop(numbers.pop())
    for _ in range(OBJECTS_AT_ONCE):
        schedule.stop(numbers.pop(0))
    begins, ends = [], []
    while found := schedule.next():
        begins += [found[0]] if found[0] not in begins else []
        ends += [found[0]] if found[2] else []
    assert begins == ends == numbers
    assert not len(schedule)


def test_two_airings_of_one_datagram_share_its_rows() -> None:
    schedule = Schedule()
    schedule.begin(adverts(1))
    schedule.begin(adverts(1))
    sent = []
    while found := schedule.next():
        sent.append(found[1][2])
    assert sent == list(range(2 * burst(6))) and all(one < other for one, other in pairwise(sent))


def test_places_of_old_datagrams_are_forgotten_but_not_of_those_on_the_air() -> None:
    schedule = Schedule()
    on_air = [schedule.begin(adverts(each, 80, 3)) for each in range(OBJECTS_AT_ONCE)]
    for _ in on_air:
        schedule.next()
    for name in range(1000, 1000 + 3 * REMEMBERED_MAX):
        number = schedule.begin(adverts(name, 1))
        for _ in range(3):
            schedule.next()
        schedule.stop(number)
        assert len(schedule._places) <= REMEMBERED_MAX + len(on_air) + 2
    schedule.clear()
    schedule.begin(adverts(0, 80, 3))
    found = schedule.next()
    assert found is not None and found[1][2] > 0, "it went on where it was"
    schedule.clear()
    schedule.begin(adverts(1000, 1))
    found = schedule.next()
    assert found is not None and found[1][2] == 0, "it was forgotten and begins anew"
