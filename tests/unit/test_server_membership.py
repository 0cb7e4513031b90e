"""Service Groups and their members at the CPNS Server: the rights of each, and the messages to PN GWs."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cpns import messages as m
from cpns import numbers as n
from cpns.errors import NotAllowed, NotMember, Unknown
from key_servers.cpns_server import tuning
from key_servers.cpns_server.config import ServerConfig
from key_servers.cpns_server.values import MemberState
from tests.unit.cpns_server_parts import House, PnGw, error_of, succeeded


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = await House.open(tmp_path)
    yield house
    await house.server.close()


def states(house: House, sg_id: str) -> dict[str, str]:
    return {member.pne_id: member.state for member in house.server.show_group(sg_id).members}


# Create


async def test_the_creating_pne_owns_the_group_and_is_its_first_member(house: House) -> None:
    home = house.gateway("home")
    answer = await house.create(home, "lamp", "light")
    assert succeeded(answer)
    assert answer[m.PN_ID] == "pn.home" and answer[m.PROTECTION] == n.PROTECTION_SEALED
    await house.work()
    assert home.members["light"] == ["lamp"]
    assert house.server.show_group("light").owner == "lamp"
    assert home.newest("light") > answer[m.VERSION]  # the key is above the floor it was told


async def test_creating_again_is_answered_again_for_the_owner_and_refused_for_others(house: House) -> None:
    home = house.gateway("home")
    first = await house.create(home, "lamp", "light")
    again = await house.create(home, "lamp", "light")
    assert again == first
    assert error_of(await house.create(home, "door", "light")) == n.ERROR_NOT_ALLOWED
    assert house.server.show_group("light").owner == "lamp"


async def test_an_operator_may_keep_creation_to_himself(tmp_path: Path) -> None:
    house = await House.open(tmp_path, ServerConfig(creation_by_pnes=False))
    assert error_of(await house.create(house.gateway("home"), "lamp", "light")) == n.ERROR_NOT_ALLOWED
    assert house.server.list_groups() == ()
    await house.server.close()


@pytest.mark.req("SEC-03")
async def test_the_last_revision_is_not_followed_by_one_that_no_message_can_carry(house: House) -> None:
    home = house.gateway("home")
    await house.create(home, "lamp", "light")
    with house.server._store.transaction():
        house.server._store.set_revision("light", "pn.home", 0xFFFFFFFF)
    assert error_of(await house.join(home, "door", "light")) == n.ERROR_TOO_MANY
    assert states(house, "light") == {"lamp": "member"}


@pytest.mark.req("SEC-19")
async def test_one_pne_cannot_own_groups_without_end(house: House) -> None:
    home = house.gateway("home")
    for i in range(tuning.GROUPS_PER_OWNER_MAX):
        assert succeeded(await house.create(home, "lamp", f"sg{i}"))
    assert error_of(await house.create(home, "lamp", "one more")) == n.ERROR_TOO_MANY


# Join


async def test_an_open_group_takes_the_pnes_of_its_pns_only(house: House) -> None:
    home, office = house.gateway("home"), house.gateway("office")
    await house.create(home, "lamp", "light")
    assert succeeded(await house.join(home, "door", "light"))
    assert error_of(await house.join(office, "desk", "light")) == n.ERROR_NOT_ALLOWED
    house.server.open_group("light", "pn.office")
    assert succeeded(await house.join(office, "desk", "light"))
    assert states(house, "light") == {"lamp": "member", "door": "member", "desk": "member"}


async def test_a_listed_group_takes_only_whom_a_person_permitted(house: House) -> None:
    home = house.gateway("home")
    house.server.create_group("light", open_to=["pn.home"], policy="listed")
    assert error_of(await house.join(home, "lamp", "light")) == n.ERROR_NOT_ALLOWED
    house.server.permit("light", "lamp")
    assert succeeded(await house.join(home, "lamp", "light"))
    await house.leave(home, "lamp", "light")
    assert error_of(await house.join(home, "lamp", "light")) == n.ERROR_NOT_ALLOWED  # a permission serves once


@pytest.mark.req("SEC-16")
async def test_a_permission_cannot_be_taken_up_through_a_pn_gw_of_another_pn(house: House) -> None:
    home, office = house.gateway("home"), house.gateway("office")
    house.server.create_group("light", open_to=["pn.home"], policy="listed")
    house.server.permit("light", "lamp")
    assert error_of(await house.join(office, "lamp", "light")) == n.ERROR_NOT_ALLOWED
    await house.pass_time(10)
    assert "light" not in office.keys
    assert succeeded(await house.join(home, "lamp", "light"))


async def test_joining_again_changes_nothing(house: House) -> None:
    home = house.gateway("home")
    await house.create(home, "lamp", "light")
    first = await house.join(home, "door", "light")
    again = await house.join(home, "door", "light")
    assert again == first
    await house.pass_time(10)
    version, revision = house.server.show_group("light").version, first[m.REVISION]
    later = await house.join(home, "door", "light")
    await house.pass_time(10)
    assert later[m.REVISION] == revision
    assert house.server.show_group("light").version == version


async def test_joining_what_does_not_exist_is_refused(house: House) -> None:
    assert error_of(await house.join(house.gateway("home"), "lamp", "nothing")) == n.ERROR_UNKNOWN


@pytest.mark.req("SEC-04", "Q-10")
async def test_a_newcomer_is_told_a_floor_that_keeps_it_from_the_past(house: House) -> None:
    home = house.gateway("home")
    await house.create(home, "lamp", "light")
    await house.work()
    before = home.newest("light")
    answer = await house.join(home, "door", "light")
    assert answer[m.VERSION] == before  # nothing older than the next key is for it
    await house.pass_time(tuning.BATCHING_S)
    assert home.newest("light") == before + 1
    assert home.reasons["light"][before + 1] == n.REASON_JOIN


async def test_without_rekey_on_join_the_newcomer_gets_the_present_key(house: House) -> None:
    home, office = house.gateway("home"), house.gateway("office")
    house.server.create_group("light", open_to=["pn.home", "pn.office"], rekey_on_join=False)
    await house.join(home, "lamp", "light")
    await house.pass_time(10)
    present = home.newest("light")
    answer = await house.join(office, "desk", "light")
    await house.pass_time(10)
    assert answer[m.VERSION] == present - 1
    assert office.versions("light") == home.versions("light") == [present]


async def test_a_newcomers_pn_gw_never_sees_the_key_from_before_the_join(house: House) -> None:
    home, office = house.gateway("home"), house.gateway("office")
    await house.create(home, "lamp", "light")
    await house.work()
    before = home.newest("light")
    house.server.open_group("light", "pn.office")
    await house.join(office, "desk", "light")
    await house.work()
    assert office.versions("light") == []
    pulled = await house.pull(office, "light")
    assert pulled[m.VERSION] == before + 1
    await house.pass_time(10)
    assert before not in office.versions("light")


# Leave, expel


@pytest.mark.req("CPNS-GKM-60", "SEC-05", "SEC-06")
async def test_leaving_tells_the_pn_gw_before_it_gets_the_next_key(house: House) -> None:
    home = house.gateway("home")
    await house.create(home, "lamp", "light")
    await house.join(home, "door", "light")
    await house.pass_time(10)
    before = home.newest("light")
    home.seen.clear()
    answer = await house.leave(home, "door", "light")
    await house.pass_time(10)
    assert home.seen == [("light", "inventory", answer[m.REVISION]), ("light", "key", before + 1)]
    assert home.members["light"] == ["lamp"]
    assert home.reasons["light"][before + 1] == n.REASON_LEAVE
    assert home.keys["light"][before] != home.keys["light"][before + 1]
    assert home.key_fields[-1][m.REVISION] == answer[m.REVISION]
    assert home.key_fields[-1][m.ACTIVATION] == 0  # SEC-05: leave means now


async def test_leaving_again_is_answered_again_and_a_stranger_is_no_member(house: House) -> None:
    home = house.gateway("home")
    await house.create(home, "lamp", "light")
    await house.join(home, "door", "light")
    first = await house.leave(home, "door", "light")
    assert await house.leave(home, "door", "light") == first
    await house.create(home, "cat", "toys")
    assert error_of(await house.leave(home, "cat", "light")) == n.ERROR_NOT_MEMBER


@pytest.mark.req("Q-10")
async def test_who_is_expelled_stays_out_until_permitted(house: House) -> None:
    home = house.gateway("home")
    await house.create(home, "lamp", "light")
    await house.join(home, "door", "light")
    await house.pass_time(10)
    before = home.newest("light")
    house.server.expel("light", "door")
    await house.pass_time(10)
    assert home.members["light"] == ["lamp"]
    assert home.reasons["light"][before + 1] == n.REASON_LEAVE
    assert error_of(await house.join(home, "door", "light")) == n.ERROR_NOT_ALLOWED
    assert succeeded(await house.leave(home, "door", "light"))
    assert states(house, "light")["door"] == MemberState.EXPELLED  # a leave does not wash that off
    house.server.permit("light", "door")
    assert succeeded(await house.join(home, "door", "light"))


async def test_expelling_nobody_is_refused(house: House) -> None:
    house.server.create_group("light")
    with pytest.raises(NotMember):
        house.server.expel("light", "ghost")
    with pytest.raises(Unknown):
        house.server.expel("dark", "ghost")


@pytest.mark.req("SEC-19")
async def test_coming_and_going_too_often_is_held_for_a_person_but_leaving_never_is(house: House) -> None:
    home = house.gateway("home")
    await house.create(home, "lamp", "light")
    assert succeeded(await house.join(home, "door", "light"))
    for _ in range(tuning.JOINS_PER_HOUR_MAX):
        assert succeeded(await house.leave(home, "door", "light"))
        assert succeeded(await house.join(home, "door", "light"))
    assert succeeded(await house.leave(home, "door", "light"))
    assert error_of(await house.join(home, "door", "light")) == n.ERROR_TOO_MANY
    assert succeeded(await house.create(home, "door", "own"))  # first joins of other groups do not count
    house.clock.advance(3601)
    assert succeeded(await house.join(home, "door", "light"))


# Delete


@pytest.mark.req("CPNS-GKM-59", "Q-23", "SEC-15")
async def test_only_the_owner_deletes_and_every_pn_gw_is_told(house: House) -> None:
    home, office = house.gateway("home"), house.gateway("office")
    await house.create(home, "lamp", "light")
    house.server.open_group("light", "pn.office")
    await house.join(office, "desk", "light")
    await house.join(home, "door", "light")
    await house.pass_time(10)
    version = house.server.show_group("light").version
    request = {m.SG_ID: "light", m.VERSION: version}
    assert error_of(await house.ask(home, n.DELETE_SERVICE_GROUP_REQUEST, request)) == n.ERROR_NOT_ALLOWED
    for gateway, pne in ((home, "door"), (office, "desk"), (office, "lamp")):
        answer = await house.ask(gateway, n.DELETE_SERVICE_GROUP_REQUEST, {**request, m.PNE_ID: pne})
        assert error_of(answer) == n.ERROR_NOT_ALLOWED
    assert succeeded(await house.ask(home, n.DELETE_SERVICE_GROUP_REQUEST, {**request, m.PNE_ID: "lamp"}))
    await house.pass_time(10)
    for gateway in (home, office):
        assert gateway.seen[-1] == ("light", "delete", version)
    assert house.server.list_groups() == ()
    assert error_of(await house.pull(home, "light")) == n.ERROR_NOT_MEMBER
    assert succeeded(await house.ask(home, n.DELETE_SERVICE_GROUP_REQUEST, {**request, m.PNE_ID: "lamp"}))


@pytest.mark.req("SEC-04")
async def test_a_group_created_again_goes_on_above_its_old_versions(house: House) -> None:
    home = house.gateway("home")
    await house.create(home, "lamp", "light")
    await house.pass_time(10)
    old = house.server.show_group("light").version
    house.server.delete_group("light")
    await house.pass_time(10)
    assert error_of(await house.create(home, "door", "light")) == n.ERROR_NOT_ALLOWED  # the name was the lamp's
    answer = await house.create(home, "lamp", "light")
    await house.pass_time(10)
    assert answer[m.VERSION] == old
    assert home.versions("light") == [old + 1]
    assert home.members["light"] == ["lamp"]


# Who speaks for whom


@pytest.mark.req("SEC-16")
async def test_a_pne_belongs_to_the_pn_it_first_came_from(house: House) -> None:
    home, office = house.gateway("home"), house.gateway("office")
    await house.create(home, "lamp", "light")
    house.server.create_group("desks", open_to=["pn.home", "pn.office"])
    assert error_of(await house.join(office, "lamp", "desks")) == n.ERROR_NOT_ALLOWED
    assert error_of(await house.create(office, "lamp", "mine")) == n.ERROR_NOT_ALLOWED
    assert error_of(await house.leave(office, "lamp", "light")) == n.ERROR_NOT_ALLOWED
    assert states(house, "light")["lamp"] == "member"


@pytest.mark.req("SEC-16", "Q-10")
async def test_an_operator_moves_a_pne_and_it_leaves_all_its_groups(house: House) -> None:
    home, office = house.gateway("home"), house.gateway("office")
    await house.create(home, "lamp", "light")
    await house.join(home, "door", "light")
    await house.pass_time(10)
    before = home.newest("light")
    house.server.move_pne("door", "pn.office")
    await house.pass_time(10)
    assert home.members["light"] == ["lamp"] and home.newest("light") == before + 1
    house.server.open_group("light", "pn.office")
    assert succeeded(await house.join(office, "door", "light"))
    assert error_of(await house.join(home, "door", "light")) == n.ERROR_NOT_ALLOWED


@pytest.mark.req("SEC-16", "SEC-31")
async def test_a_pn_gw_ends_the_rights_of_names_of_its_own_pn_only(house: House) -> None:
    home, office, guest = house.gateway("home"), house.gateway("office"), house.gateway("guest", is_open=False)
    await house.create(home, "lamp", "light")
    house.server.create_group("listed", open_to=["pn.home"], policy="listed")
    for pne_id in ("lamp", "cat"):  # the cat was never heard of
        house.server.permit("listed", pne_id)

    def rights() -> tuple[str, dict[str, str]]:
        listed = {member.pne_id: str(member.state) for member in house.server.show_group("listed").members}
        return house.server.show_group("light").owner, listed

    async def retire(gateway: PnGw, pne_id: str) -> None:
        assert succeeded(await house.ask(gateway, n.RETIREMENT_REQUEST, {m.PNE_ID: pne_id, m.PN_ID: gateway.pn_id}))

    before = rights()
    assert before == ("lamp", {"lamp": "permitted", "cat": "permitted"})
    await retire(office, "lamp")
    for pne_id in ("lamp", "cat", "nobody"):
        await retire(guest, pne_id)
    assert rights() == before
    for _ in range(2):  # the answer may be lost
        await retire(home, "lamp")
        assert rights() == ("", {"lamp": "left", "cat": "permitted"})
    await retire(home, "cat")
    assert rights()[1]["cat"] == "left"
    await house.pass_time(10)
    assert home.members["light"] == []


@pytest.mark.req("SEC-16")
async def test_a_pn_gw_of_a_closed_pn_binds_no_pne_it_has_guessed(house: House) -> None:
    """Neither by a group of its own nor by one that is open to it: no permission meant for another is taken up."""
    home, guest = house.gateway("home"), house.gateway("guest", is_open=False)
    house.server.admit_pne("chair", "pn.guest")
    assert succeeded(await house.create(guest, "chair", "party"))
    assert error_of(await house.create(guest, "lamp", "bait")) == n.ERROR_NOT_ALLOWED
    assert error_of(await house.join(guest, "lamp", "party")) == n.ERROR_NOT_ALLOWED
    house.server.create_group("safe", policy="listed", open_to=["pn.home"])
    house.server.permit("safe", "lamp")
    assert error_of(await house.join(guest, "lamp", "safe")) == n.ERROR_NOT_ALLOWED
    await house.pass_time(10)
    assert "safe" not in guest.keys
    assert succeeded(await house.join(home, "lamp", "safe"))
    assert succeeded(await house.join(guest, "chair", "party"))


@pytest.mark.req("SEC-16")
async def test_an_operator_admits_a_pne_to_one_pn_or_opens_the_pn(house: House) -> None:
    guest, home = house.gateway("guest", is_open=False), house.gateway("home")
    assert error_of(await house.create(guest, "chair", "party")) == n.ERROR_NOT_ALLOWED
    house.server.admit_pne("chair", "pn.guest")
    house.server.admit_pne("chair", "pn.guest")  # again: no change
    assert succeeded(await house.create(guest, "chair", "party"))
    await house.create(home, "lamp", "light")
    with pytest.raises(NotAllowed):
        house.server.admit_pne("lamp", "pn.guest")
    with pytest.raises(Unknown):
        house.server.admit_pne("stool", "pn.nowhere")
    house.server.register_gateway("gw.guest", "pn.guest", is_open=True)
    assert succeeded(await house.join(guest, "stool", "party"))
    house.server.register_gateway("gw.guest", "pn.guest")  # as it starts again: no change
    assert succeeded(await house.join(guest, "table", "party"))


async def test_a_refused_join_binds_nobody(house: House) -> None:
    home, office = house.gateway("home"), house.gateway("office")
    house.server.create_group("light", open_to=["pn.home"])
    assert error_of(await house.join(office, "lamp", "light")) == n.ERROR_NOT_ALLOWED
    assert succeeded(await house.join(home, "lamp", "light"))


@pytest.mark.req("SEC-16")
async def test_one_pn_gw_serves_a_pn_and_an_unregistered_one_is_not_heard(house: House) -> None:
    house.gateway("home")
    with pytest.raises(NotAllowed):
        house.server.register_gateway("gw.other", "pn.home")
    with pytest.raises(NotAllowed):
        house.server.register_gateway("gw.home", "pn.elsewhere")
    house.server.register_gateway("gw.home", "pn.home")  # again: no change
    with pytest.raises(NotAllowed):
        await house.server.handle("gw.other", m.encode(n.JOIN_REQUEST, {m.PNE_ID: "lamp", m.SG_ID: "light"}))


@pytest.mark.req("SEC-16")
async def test_a_foreign_pn_id_is_no_request_at_all(house: House) -> None:
    home = house.gateway("home")
    house.gateway("office")
    await house.create(home, "lamp", "light")
    message = m.encode(n.JOIN_REQUEST, {m.PNE_ID: "door", m.SG_ID: "light", m.PN_ID: "pn.office"})
    with pytest.raises(NotAllowed):
        await house.server.handle("gw.home", message)
    assert house.server.counters()["messages_foreign"] == 1


# Delivery reports


@pytest.mark.req("Q-08")
async def test_delivery_reports_are_kept_for_the_operator(house: House) -> None:
    home, office = house.gateway("home"), house.gateway("office")
    await house.create(home, "lamp", "light")
    await house.join(home, "door", "light")
    await house.create(office, "desk", "desks")
    await house.pass_time(10)
    version = home.newest("light")
    report = {m.SG_ID: "light", m.VERSION: version, m.CONFIRMED: ["lamp"], m.UNREACHABLE: ["door"]}
    assert succeeded(await house.ask(home, n.DELIVERY_REPORT_REQUEST, report))
    shown = {member.pne_id: member for member in house.server.show_group("light").members}
    assert (shown["lamp"].report, shown["lamp"].confirmed) == ("confirmed", version)
    assert (shown["door"].report, shown["door"].confirmed) == ("unreachable", 0)

    never_issued = {m.SG_ID: "light", m.VERSION: version + 1, m.CONFIRMED: ["door"]}
    assert error_of(await house.ask(home, n.DELIVERY_REPORT_REQUEST, never_issued)) == n.ERROR_UNKNOWN
    foreign = {m.SG_ID: "light", m.VERSION: version, m.CONFIRMED: ["door"]}
    assert error_of(await house.ask(office, n.DELIVERY_REPORT_REQUEST, foreign)) == n.ERROR_NOT_ALLOWED
    shown = {member.pne_id: member for member in house.server.show_group("light").members}
    assert shown["door"].confirmed == 0
