"""After losses: an old copy of the Server's store, a PN GW that forgot, lies or was stolen (SEC-02, 03, 18, 28)."""

import shutil
from pathlib import Path

import pytest

from cpns import messages as m
from cpns import numbers as n
from cpns.errors import NotAllowed, NotMember
from cpns.in_words import version_text
from key_servers.cpns_server import group_version, tuning
from key_servers.cpns_server.values import MemberState
from tests.unit.cpns_server_parts import HandClock, House, error_of, succeeded


def copy_store(house: House, target: Path) -> None:
    """A backup as a person makes it: the folder, while the Server is stopped."""
    shutil.copytree(house.server._store._database.path.parent, target)


@pytest.mark.req("SEC-03")
async def test_after_a_restore_members_end_on_a_higher_version_with_another_key(tmp_path: Path) -> None:
    clock = HandClock()
    house = await House.open(tmp_path / "server", None, clock)
    home = house.gateway("home")
    await house.create(home, "lamp", "light")
    await house.join(home, "door", "light")
    await house.pass_time(10)
    await house.server.close()
    copy_store(house, tmp_path / "copy")

    house = await House.open(tmp_path / "server", None, clock)
    house.attach(home)
    await house.leave(home, "door", "light")  # the copy does not know this
    for _ in range(5):
        house.server.update_key("light")
        await house.work()
    issued = dict(home.keys["light"])
    revision_before = home.seen[-2][2] if home.seen[-2][1] == "inventory" else 0
    await house.server.close()

    house = await House.open(tmp_path / "copy", None, clock)
    house.attach(home)
    assert await house.server.restore() == ("light",)
    await house.pass_time(60)
    assert home.keys["light"] == issued  # held: nothing goes out
    assert error_of(await house.pull(home, "light")) == n.ERROR_NOT_ALLOWED
    assert error_of(await house.join(home, "cat", "light")) == n.ERROR_NOT_ALLOWED
    with pytest.raises(NotAllowed):
        house.server.update_key("light")

    version = house.server.confirm_members("light", expel=["door"])
    await house.pass_time(10)
    assert version > max(issued) and group_version.epoch_of(version) == 1
    assert home.newest("light") == version
    assert home.keys["light"][version] not in issued.values()
    assert home.members["light"] == ["lamp"]
    kind, revision = home.seen[-2][1:]
    assert kind == "inventory" and revision > revision_before
    await house.server.close()


@pytest.mark.req("SEC-03")
async def test_a_copy_put_back_twice_goes_on_two_epochs_later(tmp_path: Path) -> None:
    house = await House.open(tmp_path)
    house.server.create_group("light")
    with pytest.raises(NotAllowed):
        await house.server.restore(epochs=17)  # receivers would refuse the jump
    with pytest.raises(NotAllowed):
        await house.server.restore(epochs=0)
    await house.server.restore(epochs=2)
    assert version_text(house.server.confirm_members("light")) == "2.1"
    await house.server.close()


@pytest.mark.req("SEC-03", "SEC-04")
async def test_a_group_that_the_copy_does_not_know_begins_above_its_lost_versions(tmp_path: Path) -> None:
    house = await House.open(tmp_path)
    await house.server.restore()
    house.server.create_group("light")  # it may have been made, and used, after the copy
    assert version_text(house.server.show_group("light").version) == "1.1"
    await house.server.close()


@pytest.mark.req("SEC-03", "SEC-06")
async def test_a_leave_works_while_a_group_is_held(tmp_path: Path) -> None:
    house = await House.open(tmp_path)
    home = house.gateway("home")
    await house.create(home, "lamp", "light")
    await house.join(home, "door", "light")
    await house.server.restore()
    assert succeeded(await house.leave(home, "door", "light"))
    house.server.confirm_members("light")
    await house.work()
    assert home.members["light"] == ["lamp"]
    await house.server.close()


async def test_confirming_names_only_members_of_held_groups(tmp_path: Path) -> None:
    house = await House.open(tmp_path)
    await house.create(house.gateway("home"), "lamp", "light")
    with pytest.raises(NotAllowed):
        house.server.confirm_members("light")
    await house.server.restore()
    with pytest.raises(NotMember):
        house.server.confirm_members("light", expel=["ghost"])
    assert house.server.show_group("light").state == "held"
    await house.server.close()


@pytest.mark.req("SEC-03")
async def test_a_lying_pn_gw_cannot_burn_the_version_space(tmp_path: Path) -> None:
    house = await House.open(tmp_path)
    home = house.gateway("home")
    await house.create(home, "lamp", "light")
    await house.work()
    await house.list_versions(home, (0xFFFFFFFF, "light"))
    (alarm,) = house.server.alarms()
    assert alarm.kind == "ahead" and alarm.sg_id == "light"
    assert succeeded(await house.pull(home, "light", 0xFFFFFFFF))
    report = {m.SG_ID: "light", m.VERSION: 0xFFFFFFFF, m.CONFIRMED: ["lamp"]}
    assert error_of(await house.ask(home, n.DELIVERY_REPORT_REQUEST, report)) == n.ERROR_UNKNOWN
    await house.ask(home, n.DELETE_SERVICE_GROUP_REQUEST, {m.SG_ID: "light", m.VERSION: 0xFFFFFFFF, m.PNE_ID: "x"})
    assert house.server.update_key("light") == 2
    await house.list_versions(home, (2, "light"))
    assert house.server.alarms() == ()
    await house.server.close()


@pytest.mark.req("SEC-03")
async def test_a_pn_gw_that_always_claims_a_loss_costs_few_updates(tmp_path: Path) -> None:
    house = await House.open(tmp_path)
    home = house.gateway("home")
    await house.create(home, "lamp", "light")
    await house.work()
    before = house.server.show_group("light").version
    for _ in range(100):
        await house.list_versions(home, (0, "light"))
        await house.pass_time(tuning.BATCHING_S)
    assert house.server.show_group("light").version == before + tuning.LOSSES_PER_HOUR_MAX
    await house.server.close()


@pytest.mark.req("SEC-02")
async def test_a_restored_pn_gw_gets_the_members_and_then_a_new_key(tmp_path: Path) -> None:
    house = await House.open(tmp_path)
    home = house.gateway("home")
    await house.create(home, "lamp", "light")
    await house.work()
    before = home.newest("light")
    home.members.clear()
    home.keys.clear()
    home.seen.clear()
    await house.list_versions(home, (0, "light"))
    await house.pass_time(10)
    assert [kind for _, kind, _ in home.seen] == ["inventory", "key"]
    assert home.members["light"] == ["lamp"]
    assert home.versions("light") == [before + 1]  # the one it had before is not sent again
    await house.server.close()


@pytest.mark.req("SEC-02")
async def test_a_restored_pn_gw_that_forgot_a_group_before_its_first_key_gets_the_members_first(tmp_path: Path) -> None:
    house = await House.open(tmp_path)
    home = house.gateway("home")
    await house.create(home, "lamp", "light")  # accepted: its members, and no version yet
    await house.list_versions(home)
    await house.work()
    assert [kind for _, kind, _ in home.seen] == ["inventory", "key"]
    await house.server.close()


@pytest.mark.req("SEC-02", "SEC-03")
@pytest.mark.parametrize("forgets", [False, True], ids=["never had a key", "forgets a key"])
async def test_a_pn_gw_without_members_has_no_key_to_lose_twice(tmp_path: Path, forgets: bool) -> None:
    """Its list names 0 every quarter of an hour, for ever: the boards of others do not get a key each time."""
    house = await House.open(tmp_path)
    home, other = house.gateway("home"), house.gateway("other")
    await house.create(other, "door", "light")
    house.server.open_group("light", "pn.home")
    await house.join(home, "lamp", "light")
    if forgets:
        await house.pass_time(10)
        assert home.newest("light")
    await house.leave(home, "lamp", "light")
    await house.pass_time(60)
    before = house.server.show_group("light").version
    for _ in range(20):
        home.seen.clear()
        await house.list_versions(home, (0, "light"))
        await house.pass_time(900)
        assert [kind for _, kind, _ in home.seen] == ["inventory"]  # it may have forgotten that it has no members
    assert house.server.show_group("light").version == before + forgets
    await house.join(home, "lamp", "light")
    await house.pass_time(60)
    assert home.newest("light") == other.newest("light") == house.server.show_group("light").version
    await house.server.close()


@pytest.mark.req("SEC-02", "SEC-28")
async def test_an_old_image_of_a_pn_gw_learns_that_it_is_old(tmp_path: Path) -> None:
    house = await House.open(tmp_path)
    home = house.gateway("home")
    await house.create(home, "lamp", "light")
    for _ in range(4):
        house.server.update_key("light")
        await house.work()
    assert home.newest("light") == 5
    answer = await house.list_versions(home, (3, "light"))
    assert answer[m.VERSION_ENTRY] == [(5, "light")]  # what it once accepted: more than it holds
    assert [alarm.kind for alarm in house.server.alarms()] == ["lost-store"]
    await house.pass_time(10)
    assert home.newest("light") == 6
    await house.server.close()


async def test_the_version_list_names_what_was_accepted_not_what_is_on_its_way(tmp_path: Path) -> None:
    house = await House.open(tmp_path)
    home = house.gateway("home")
    await house.create(home, "lamp", "light")
    await house.work()
    home.down = True
    house.server.update_key("light")
    await house.work()
    answer = await house.list_versions(home, (1, "light"))
    assert answer[m.VERSION_ENTRY] == [(1, "light")]
    assert house.server.alarms() == ()
    await house.server.close()


@pytest.mark.req("SEC-28")
async def test_a_pn_gw_that_sends_no_version_list_is_an_alarm(tmp_path: Path) -> None:
    house = await House.open(tmp_path)
    home = house.gateway("home")
    house.gateway("empty")  # serves no group: nothing can be withheld from it
    await house.create(home, "lamp", "light")
    await house.pass_time(tuning.VERSION_LIST_OVERDUE_S - 60)
    assert house.server.alarms() == ()
    await house.pass_time(120)
    assert [(alarm.kind, alarm.gateway_id) for alarm in house.server.alarms()] == [("silent", "gw.home")]
    await house.list_versions(home, (1, "light"))
    await house.pass_time(1)
    assert house.server.alarms() == ()
    await house.server.close()


@pytest.mark.req("SEC-28")
async def test_groups_this_server_never_made_are_an_alarm(tmp_path: Path) -> None:
    house = await House.open(tmp_path)
    home = house.gateway("home")
    await house.list_versions(home, *[(7, f"lost{i}") for i in range(1000)])
    (alarm,) = house.server.alarms()  # one, not a thousand
    assert alarm.kind == "unknown-group"
    assert house.server.list_groups() == ()
    await house.server.close()


@pytest.mark.req("Q-23")
async def test_a_deleted_group_that_a_pn_gw_still_names_is_deleted_there_again(tmp_path: Path) -> None:
    house = await House.open(tmp_path)
    home = house.gateway("home")
    await house.create(home, "lamp", "light")
    await house.work()
    house.server.delete_group("light")
    await house.work()
    home.keys["light"] = {1: b""}  # an old image
    await house.list_versions(home, (1, "light"))
    await house.work()
    assert "light" not in home.keys
    await house.server.close()


@pytest.mark.req("SEC-18")
async def test_a_stolen_pn_gw_is_replaced_and_its_keys_with_it(tmp_path: Path) -> None:
    house = await House.open(tmp_path)
    home, office = house.gateway("home"), house.gateway("office")
    await house.create(home, "lamp", "light")
    house.server.open_group("light", "pn.office")
    await house.join(office, "desk", "light")
    await house.pass_time(10)
    before = home.newest("light")
    await house.server.replace_gateway("gw.home", "gw.new")
    await house.pass_time(10)
    assert home.newest("light") == before  # the thief's gets nothing
    assert office.newest("light") == before + 1
    with pytest.raises(NotAllowed):
        await house.list_versions(home, (before, "light"))

    new = type(home)("gw.new", "pn.home")
    house.attach(new)
    await house.pass_time(10)
    assert new.members["light"] == ["lamp"] and new.versions("light") == [before + 1]
    await house.server.close()


@pytest.mark.req("SEC-18")
async def test_a_blocked_pn_gw_is_neither_heard_nor_served(tmp_path: Path) -> None:
    house = await House.open(tmp_path)
    home = house.gateway("home")
    await house.create(home, "lamp", "light")
    await house.work()
    await house.server.block_gateway("gw.home")
    house.server.update_key("light")
    await house.pass_time(60)
    assert home.versions("light") == [1]
    with pytest.raises(NotAllowed):
        await house.join(home, "door", "light")
    with pytest.raises(NotAllowed):
        house.server.register_gateway("gw.home", "pn.home")
    (delivery,) = house.server.show_group("light").deliveries
    assert delivery.state == "blocked"
    await house.server.close()


async def test_members_lost_with_the_newer_store_are_taken_out_at_their_pn_gw(tmp_path: Path) -> None:
    """Joined after the copy was made: the Server does not know them, so its PN GW must not key them."""
    house = await House.open(tmp_path)
    office = house.gateway("office")
    house.server.create_group("light", open_to=["pn.office"])
    await house.server.restore()
    house.server.confirm_members("light")
    office.members["light"] = ["desk"]
    await house.list_versions(office, (1, "light"))
    await house.work()
    assert office.members["light"] == []
    assert office.versions("light") == []
    assert MemberState.MEMBER not in [member.state for member in house.server.show_group("light").members]
    await house.server.close()
