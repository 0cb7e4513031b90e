"""The order of requests to PN GWs: the living before the silent, those heard last first (Q-17)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from key_servers.cpns_server import tuning
from key_servers.cpns_server.places import Places, Request


@pytest.fixture(autouse=True)
def _few_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "PLACES", 8)
    monkeypatch.setattr(tuning, "PLACES_OF_SILENT", 2)


def about(*names: str) -> list[Request]:
    return [(name, "light") for name in names]


def queued(*names: str) -> Places:
    places = Places()
    for request in about(*names):
        places.wait(request)
    return places


def made_silent(places: Places, *names: str) -> None:
    """Each of them lets a request go unanswered."""
    for request in about(*names):
        places.wait(request)
        assert places.admit(0, 1) == [request]
        places.ended(request, 0, answered=False)


ALL = [f"gw{number}" for number in range(20)]


def test_who_was_heard_last_goes_first_and_who_was_never_heard_goes_last() -> None:
    places = queued("a", "b", "c", "d")
    places.heard("b", 1)
    places.heard("c", 2)
    assert places.admit(3, 9) == about("c", "b", "a", "d")


def test_there_are_so_many_places_and_each_pn_gw_has_one() -> None:
    places = queued(*ALL)
    places.wait((ALL[0], "heat"))
    assert places.admit(0, 5) == about(*ALL[:5])
    assert places.admit(0, 9) == about(*ALL[5:8])
    assert places.taken == 8
    places.ended(about(ALL[0])[0], 1, answered=True)
    assert places.admit(1, 9) == [(ALL[0], "heat")]  # it has just been heard


def test_what_is_for_one_pne_waits_behind_what_is_for_all_of_its_pn() -> None:
    places = Places()
    order: list[Request] = [("a", "heat"), ("a", "light"), ("a", "alarm", "door"), ("a", "alarm", "lamp")]
    for request in (order[2], order[0], order[3], order[1]):
        places.wait(request)
    for request in order:
        assert places.admit(0, 9) == [request]
        places.ended(request, 0, answered=True)
    assert places.admit(0, 9) == []


def test_the_silent_have_a_quarter_however_many_they_are_and_whatever_is_free() -> None:
    places = Places()
    made_silent(places, *ALL)
    for request in about(*ALL):
        places.wait(request)
    assert places.admit(1, 99) == about(*ALL[:2])
    places.ended(about(ALL[1])[0], 20, answered=False)
    assert places.admit(20, 99) == about(ALL[2])  # who waits longest
    for request in about("x", "y"):
        places.wait(request)
    assert places.admit(20, 99) == about("x", "y")


def test_one_that_was_silent_and_speaks_goes_before_all_others() -> None:
    places = Places()
    made_silent(places, "a", "b", "c", "d")
    for request in about("a", "b", "c", "d", *ALL):
        places.wait(request)
    assert places.admit(1, 6) == about(*ALL[:6])
    assert places.heard("d", 2) is None  # nothing of it is under way
    assert places.admit(2, 1) == about("d")


def test_one_that_speaks_while_it_waits_gets_a_place_though_all_are_taken() -> None:
    places = queued(*ALL)
    assert len(places.admit(0, 99)) == 8
    places.heard(ALL[19], 1)
    places.heard(ALL[18], 2)
    places.heard(ALL[17], 3)
    assert places.admit(3, 99) == about(ALL[17], ALL[18])  # two more, as many as for the silent
    places.ended(about(ALL[17])[0], 4, answered=True)
    assert places.admit(4, 99) == about(ALL[19])


def test_what_a_pn_gw_cannot_have_heard_is_sent_again_when_it_speaks_but_once() -> None:
    places = queued("a")
    places.admit(0, 1)
    assert places.heard("a", tuning.QUIET_S / 2) is None  # it may be about to answer
    places.ended(about("a")[0], 1, answered=True)
    places.wait(about("a")[0])
    places.admit(10, 1)
    assert places.heard("a", 10 + tuning.QUIET_S) == about("a")[0]
    assert places.heard("a", 20) is None and places.heard("a", 30) is None  # it is only slow
    assert places.taken == 1 and places.taken_by_silent == 0
    places.ended(about("a")[0], 31, answered=False)
    places.wait(about("a")[0])
    assert places.admit(40, 1) == about("a")
    assert places.heard("a", 40) == about("a")[0]  # it was silent until now


def test_one_that_spoke_and_does_not_answer_is_asked_again_soon() -> None:
    places = queued("a", "b")
    places.admit(0, 2)
    assert places.heard("a", 0.5) is None and places.heard("b", 0.5) is None
    assert places.wake_at() == tuning.QUIET_S
    places.ended(about("b")[0], 1, answered=True)
    assert places.repeat(tuning.QUIET_S - 0.1) == []
    assert places.repeat(tuning.QUIET_S) == about("a")
    assert places.repeat(99) == [] and places.heard("a", 99) is None and places.wake_at() is None


def test_the_living_get_the_places_of_those_that_have_been_quiet_for_too_long() -> None:
    places = queued(*ALL)
    places.admit(0, 99)
    for name in ALL[:3]:
        places.ended(about(name)[0], 1, answered=True)
    places.admit(1, 99)  # 3 to 7 since 0, 8 to 10 since 1
    assert places.wake_at() == tuning.QUIET_S
    assert places.recall(tuning.QUIET_S - 0.1) == []
    assert places.recall(tuning.QUIET_S) == about(*ALL[3:6])  # two are a quarter
    assert places.admit(tuning.QUIET_S, 99) == about(*ALL[11:14])
    for name in ALL[8:20]:  # all the others answer
        if about(name)[0] in about(*ALL[8:14]):
            places.ended(about(name)[0], 2, answered=True)
    assert places.admit(3, 99) == about(*ALL[14:])
    for name in ALL[14:]:
        places.ended(about(name)[0], 3, answered=True)
    assert places.admit(3, 99) == about(*ALL[3:6])  # those recalled come last of the living
    others = [f"other{number}" for number in range(9)]
    for request in about(*others):
        places.wait(request)
    assert places.admit(3, 99) == about(*others[:3])
    assert places.recall(3 + tuning.QUIET_S) == about(*ALL[6:8], *ALL[3:7][:1], *ALL[4:6], others[0])
    assert places.admit(3 + tuning.QUIET_S, 99) == about(*others[3:])
    for name in others[3:]:
        places.ended(about(name)[0], 6, answered=True)
    assert places.admit(6, 99) == about(*ALL[6:8], others[0])  # recalled twice, the others are silent now


def test_nothing_is_recalled_for_nobody() -> None:
    places = queued(*ALL[:8])
    places.admit(0, 99)
    assert places.recall(100) == [] and places.wake_at() is None
    made = Places()
    made_silent(made, *ALL[8:])
    for request in about(*ALL[:8]):
        made.wait(request)
    made.admit(0, 99)
    for request in about(*ALL[8:]):
        made.wait(request)
    assert made.recall(100) == []  # only silent ones wait: they have their quarter


def test_a_request_that_was_recalled_is_the_next_of_its_pn_gw() -> None:
    places = queued(*ALL)
    places.admit(0, 99)
    places.wait((ALL[0], "heat"))
    assert about(ALL[0])[0] in places.recall(tuning.QUIET_S)
    places.heard(ALL[0], 3)
    assert places.admit(3, 1) == about(ALL[0])


def test_what_was_not_sent_says_nothing_about_the_pn_gw() -> None:
    places = queued("a")
    places.admit(0, 1)
    places.unsent(about("a")[0])
    assert places.taken == 0
    for name in ("b", "a"):
        places.wait(about(name)[0])
    assert places.admit(0, 9) == about("b", "a")
    assert places.taken_by_silent == 0


def test_an_end_without_a_beginning_is_a_fault_of_the_caller() -> None:
    places = queued("a")
    with pytest.raises(ValueError, match="under way"):
        places.ended(about("a")[0], 0, answered=True)


NAMES = st.sampled_from(["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"])
GROUPS = st.sampled_from(["light", "heat"])
STEPS = st.one_of(
    st.tuples(st.just("wait"), st.tuples(NAMES, GROUPS)),
    st.tuples(st.just("heard"), NAMES),
    st.tuples(st.sampled_from(["answered", "unanswered", "unsent"]), st.integers(0, 20)),
    st.tuples(st.just("work"), st.integers(1, 9)),
)


@pytest.mark.req("SEC-27", "Q-17")
@given(st.lists(st.tuples(STEPS, st.floats(0, 3)), max_size=80))
def test_no_request_is_lost_or_under_way_twice_and_no_rule_of_places_broken(steps: list[tuple[tuple, float]]) -> None:
    places, now = Places(), 0.0
    wanted: set[Request] = set()
    under_way: list[Request] = []

    def work(most: int) -> None:
        for request in places.repeat(now):
            assert request in under_way
        for request in places.recall(now):
            under_way.remove(request)
        for request in places.admit(now, most):
            assert request in wanted
            under_way.append(request)

    for (what, value), passed in steps:
        now += passed
        if what == "wait":
            wanted.add(value)
            places.wait(value)
        elif what == "heard":
            again = places.heard(value, now)
            assert again is None or again in under_way
        elif what == "work":
            work(value)
        elif under_way:
            request = under_way.pop(value % len(under_way))
            if what == "unsent":
                places.unsent(request)
            else:
                places.ended(request, now, answered=what == "answered")
            wanted.discard(request)
        assert len(under_way) == places.taken <= tuning.PLACES + tuning.PLACES_OF_SILENT
        assert len({pn for pn, _ in under_way}) == len(under_way), "two requests to one PN GW"
    for _ in range(200):
        work(9)
        if not wanted:
            break
        while under_way:
            request = under_way.pop()
            places.ended(request, now, answered=True)
            wanted.discard(request)
    assert not wanted and places.taken == 0, "a request waits for ever"
