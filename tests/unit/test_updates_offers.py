"""Which offers stand beside each other, and which board is offered which update."""

from dataclasses import replace

import pytest

from cpns.errors import NotAllowed
from gateway_agent.updates import offers
from gateway_agent.updates.offers import UpdateOffer
from gateway_agent.updates.reports import UpdateReport
from suit import numbers as n

LAMP, CHIP = b"l" * 16, b"c" * 16
IDLE = UpdateReport((LAMP, CHIP), b"k" * 8, agent_number=4, firmware_number=1, state=n.IDLE, wanted=0, detail=0)


def update(number: int, *boards: str, groups: tuple[str, ...] = (), kind: str = "agent", again: int = 0) -> UpdateOffer:
    class_id = LAMP if kind == "agent" else CHIP
    return UpdateOffer(bytes([number, again]) * 4, number, kind, class_id, frozenset(boards), frozenset(groups))


def standing(*added: UpdateOffer) -> list[UpdateOffer]:
    found: list[UpdateOffer] = []
    for each in added:
        found = offers.added(found, each)
    return found


def numbers(found: list[UpdateOffer]) -> list[int]:
    return [each.number for each in found]


def test_a_newer_update_for_all_replaces_every_older_one_of_its_kind() -> None:
    found = standing(update(5), update(6, "lamp"), update(2, kind="firmware"), update(7))
    assert [(each.number, each.kind) for each in found] == [(2, "firmware"), (7, "agent")]


def test_a_newer_update_for_some_stands_beside_the_older_one_for_all() -> None:
    found = standing(update(5), update(6, "lamp"))
    assert numbers(found) == [5, 6]
    assert numbers([offers.offered(found, name, (), IDLE) for name in ("lamp", "door")]) == [6, 5]  # type: ignore[list-item]


def test_a_newer_update_takes_the_boards_that_it_is_for_from_an_older_one() -> None:
    found = standing(update(5, "lamp", "door"), update(6, "lamp"))
    assert [(each.number, each.boards) for each in found] == [(5, {"door"}), (6, {"lamp"})]
    assert numbers(standing(update(5, "lamp"), update(6, "lamp"))) == [6]


@pytest.mark.parametrize("new", [update(5), update(5, "lamp"), update(5, groups=("home/lights",))])
def test_an_older_update_is_refused_where_a_newer_one_is_offered(new: UpdateOffer) -> None:
    with pytest.raises(NotAllowed, match=r"update 6 is offered there.*keycast update withdraw 6"):
        offers.added([update(6)], new)


@pytest.mark.parametrize("whom", [{"boards": {"lamp"}}, {"boards": {"lamp"}, "groups": {"home/lights"}}])
def test_an_older_update_is_refused_for_the_very_same_boards(whom: dict[str, frozenset[str]]) -> None:
    with pytest.raises(NotAllowed, match="update 6 is offered there"):
        offers.added([replace(update(6), **whom)], replace(update(5), **whom))
    assert len(offers.added([replace(update(6), **whom)], replace(update(5), boards={"lamp", "door"}))) == 2


def test_an_older_update_is_taken_for_others() -> None:
    found = standing(update(6, "lamp"), update(5))
    assert {each.number for each in found} == {5, 6}
    assert offers.offered(found, "lamp", (), IDLE).number == 6  # type: ignore[union-attr]


def test_two_updates_with_one_number_are_refused() -> None:
    with pytest.raises(NotAllowed, match="another update with number 5"):
        offers.added([update(5)], update(5, "lamp", again=1))


def test_one_update_offered_again_is_for_all_that_were_named() -> None:
    (found,) = standing(update(5, "lamp"), update(5, "door"), update(5, groups=("home/lights",)))
    assert (found.boards, found.groups) == ({"lamp", "door"}, {"home/lights"})
    (found,) = standing(found, update(5))
    assert found.to_all


def test_a_broadcast_that_is_asked_for_again_begins_anew() -> None:
    aired = replace(update(5), by_broadcast=True, position=100)
    (again,) = offers.added([aired], update(5))
    assert again.by_broadcast and again.position == 100
    (again,) = offers.added([update(5)], replace(update(5), by_broadcast=True))
    assert again.by_broadcast
    (again,) = offers.added([aired], replace(update(5), by_broadcast=True))
    assert again.by_broadcast and again.position == 0


def sealed(number: int, *boards: str, by: str = "home/lights") -> UpdateOffer:
    return replace(update(number, *boards, groups=(by,)), by_broadcast=True, sealed_for=by)


@pytest.mark.req("SEC-30")
def test_what_is_offered_to_all_is_not_sealed_any_more() -> None:
    with pytest.raises(NotAllowed, match=r"update 5 is offered to all boards already.*keycast update withdraw 5"):
        offers.added([update(5)], sealed(5))
    (found,) = standing(update(5, "lamp"), sealed(5))  # one board, then the members of a group
    assert (found.boards, found.groups, found.sealed_for) == ({"lamp"}, {"home/lights"}, "home/lights")
    (found,) = standing(sealed(5), update(5))  # asked for without a seal, it is for all
    assert found.to_all
    assert numbers(standing(update(5), sealed(6))) == [5, 6]


def test_a_sealed_broadcast_ends_where_a_newer_update_takes_its_group() -> None:
    found = standing(sealed(5, "lamp"), update(6, groups=("home/lights",)))
    assert [(each.number, each.boards, each.by_broadcast, each.sealed_for) for each in found] == [
        (5, {"lamp"}, False, ""),
        (6, frozenset(), False, ""),
    ]
    found = standing(replace(sealed(5, "lamp", "door"), position=3), update(6, "lamp"))
    assert [(each.number, each.by_broadcast, each.position) for each in found] == [(5, True, 3), (6, False, 0)]


def test_no_more_than_a_few_are_offered() -> None:
    found = [replace(update(1), class_id=bytes([at]) * 16, update_id=bytes([at]) * 8) for at in range(8)]
    with pytest.raises(NotAllowed, match="8 updates are offered already"):
        offers.added(found, update(9))
    assert len(offers.added(found, replace(found[0], number=2, update_id=b"newer id"))) == 8


@pytest.mark.parametrize(
    ("offer", "is_offered"),
    [
        (update(5), True),
        (update(5, "lamp"), True),
        (update(5, "door"), False),
        (update(5, groups=("home/lights",)), True),
        (update(5, groups=("home/locks",)), False),
        (update(5, "door", groups=("home/lights",)), True),
        (update(4), False),  # it has this one
        (update(3), False),
        (replace(update(5), class_id=b"o" * 16), False),
        (update(1, kind="firmware"), False),
        (update(2, kind="firmware"), True),
    ],
)
def test_which_board_is_offered_what(offer: UpdateOffer, is_offered: bool) -> None:
    assert (offers.offered([offer], "lamp", {"home/lights"}, IDLE) == offer) is is_offered


def test_an_update_from_which_a_board_went_back_is_not_offered_to_it_again() -> None:
    report = replace(IDLE, state=n.FELL_BACK, wanted=6, detail=n.NOT_CONFIRMED)
    assert offers.offered([update(6)], "lamp", (), report) is None
    assert offers.offered([update(7)], "lamp", (), report) == update(7)
    assert offers.offered([update(6), update(5)], "lamp", (), report) == update(5)
    assert offers.offered([update(6)], "lamp", (), replace(report, state=n.REFUSED)) == update(6)


def test_the_agent_comes_before_the_firmware() -> None:
    found = [update(9, kind="firmware"), update(5)]
    assert offers.offered(found, "lamp", (), IDLE) == update(5)
    assert offers.offered(found, "lamp", (), replace(IDLE, agent_number=5)) == update(9, kind="firmware")


def test_an_offer_ends_with_the_last_board_that_it_was_for() -> None:
    found = standing(update(5), update(6, "lamp"), update(7, "door", groups=("home/lights",)))
    left = offers.without(found, boards=["lamp", "door"])
    assert [(each.number, each.boards) for each in left] == [(5, frozenset()), (7, frozenset())]
    assert numbers(offers.without(left, groups=["home/lights"])) == [5]
    assert offers.without(left, groups=["home/locks"], boards=["desk"]) == left
