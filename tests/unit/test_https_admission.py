"""Which connections get a place at a server's door, and which are ended: pure."""

import pytest

from http_door.admission import Admission, Limits, holder

SMALL = Limits(strangers=4, strangers_of_one_address=3, members=3, members_of_one_user=2)


@pytest.fixture
def table() -> Admission[str]:
    return Admission(SMALL)


@pytest.mark.req("SEC-35")
def test_the_oldest_of_an_address_goes_for_its_newest(table: Admission[str]) -> None:
    assert [table.arrived(f"c{n}", "a") for n in range(5)] == [None, None, None, "c0", "c1"]
    assert table.strangers == SMALL.strangers_of_one_address


@pytest.mark.req("SEC-35")
def test_a_full_pool_takes_from_the_address_that_holds_most(table: Admission[str]) -> None:
    for name, address in (("b0", "b"), ("a0", "a"), ("a1", "a"), ("a2", "a")):
        assert table.arrived(name, address) is None
    assert table.arrived("c0", "c") == "a0" and table.strangers == SMALL.strangers
    assert table.arrived("a3", "a") == "a1", "the address that knocks most pays itself"


@pytest.mark.req("SEC-35")
def test_strangers_never_displace_who_showed_a_token(table: Admission[str]) -> None:
    table.arrived("alice", "a")
    assert table.proved("alice", "sip:alice") == (True, None)
    gone = {table.arrived(f"c{n}", "a") for n in range(50)}
    assert "alice" not in gone and table.is_member("alice")
    assert table.proved("alice", "sip:alice") == (True, None) and table.members == 1


@pytest.mark.req("SEC-35")
def test_a_user_with_too_many_loses_its_own_that_asks_nothing_first(table: Admission[str]) -> None:
    for name in ("one", "two", "three", "bob"):
        table.arrived(name, name)
    table.proved("bob", "sip:bob")
    table.answered("bob")
    for name in ("one", "two"):
        table.proved(name, "sip:alice")
    table.answered("two")
    assert table.proved("three", "sip:alice") == (True, "two")
    table.arrived("four", "x")
    assert table.proved("four", "sip:alice") == (True, "one"), "none is idle: the oldest"
    assert table.is_member("bob")


@pytest.mark.req("SEC-35")
def test_when_all_places_are_taken_the_longest_idle_goes_and_no_request_that_is_answered(table: Admission[str]) -> None:
    for name in ("a", "b", "c", "d", "e"):
        table.left(name)
        table.arrived(name, name)
        if name < "d":
            table.proved(name, name)
    table.answered("b")
    table.answered("a")
    assert table.proved("d", "d") == (True, "b")
    table.proved("a", "a")
    assert table.proved("e", "e") == (False, None) and not table.is_member("e")
    table.left("c")
    assert table.proved("e", "e") == (True, None)


def test_who_left_is_forgotten_altogether(table: Admission[str]) -> None:
    table.arrived("a", "a")
    table.arrived("b", "a")
    table.proved("b", "b")
    for name in ("a", "b", "never"):
        table.left(name)
    assert (table.strangers, table.members) == (0, 0) and table.oldest_stranger() is None
    assert table.proved("a", "sip:a") == (False, None), "it was ended while its token was looked at"


@pytest.mark.parametrize(
    ("address", "held_by"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_an_ipv6_host_does_not_count_for_each_address_of_its_network(address: str, held_by: str) -> None:
    assert holder(address) == held_by


@pytest.mark.parametrize("descriptors", [1, 7, 100, 900, 10**6])
def test_limits_fit_the_descriptors_of_the_process(descriptors: int) -> None:
    fitted = Limits().within(descriptors)
    assert fitted.strangers_of_one_address <= fitted.strangers
    assert min(fitted.strangers, fitted.members) >= 1
    assert fitted.connections <= max(descriptors, 2)
    assert fitted.first_request_s == Limits().first_request_s
