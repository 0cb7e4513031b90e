"""Group Keys at the CPNS Server: created, updated, delivered and deleted (seed 000 and 001, role SRV)."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import pytest

from cpns import messages as m
from cpns import numbers as n
from key_servers.cpns_server import tuning
from key_servers.cpns_server.app import CpnsServer
from key_servers.cpns_server.config import ServerConfig
from key_servers.cpns_server.group_keys import WeakRandomness
from key_servers.cpns_server.values import StoredKey
from key_servers.errors import StoreFailed
from tests.unit.cpns_server_parts import HandClock, House, error_of, succeeded
from tests.waiting import until


@pytest.fixture
async def house(tmp_path: Path):  # type: ignore[no-untyped-def]
    house = await House.open(tmp_path)
    yield house
    await house.server.close()


@pytest.mark.req("CPNS-GKM-58", "CPNS-GKM-62", "CPNS-GKM-28")
async def test_a_key_is_created_with_the_group_and_delivered_to_the_pn_gw(house: House) -> None:
    home = house.gateway("home")
    await house.create(home, "lamp", "light")
    assert house.server.show_group("light").version == 1
    await house.work()
    ((version, key),) = home.keys["light"].items()
    assert version == 1 and len(key) == 16
    assert home.reasons["light"][1] == n.REASON_CREATE


@pytest.mark.req("CPNS-GKM-58")
async def test_an_operators_group_has_a_key_before_it_has_members(house: House) -> None:
    assert house.server.create_group("light").version == 1


@pytest.mark.req("CPNS-GKM-08", "CPNS-GKM-09", "CPNS-GKM-62")
async def test_an_updated_key_goes_to_every_pn_gw_with_members_and_to_no_other(house: House) -> None:
    home, office, barn = house.gateway("home"), house.gateway("office"), house.gateway("barn")
    await house.create(home, "lamp", "light")
    for pn in ("pn.office", "pn.barn"):
        house.server.open_group("light", pn)
    await house.join(office, "desk", "light")
    await house.join(barn, "cow", "light")
    await house.pass_time(10)
    await house.leave(barn, "cow", "light")
    await house.pass_time(10)
    last_in_barn = barn.newest("light")
    version = house.server.update_key("light")
    await house.work()
    assert home.keys["light"][version] == office.keys["light"][version]
    assert barn.newest("light") == last_in_barn < version
    assert barn.members["light"] == []
    assert home.reasons["light"][version] == n.REASON_BY_HAND


@pytest.mark.req("CPNS-GKM-61")
async def test_keys_are_updated_periodically(house: House) -> None:
    home = house.gateway("home")
    house.server.create_group("light", open_to=["pn.home"], period_s=3600)
    await house.join(home, "lamp", "light")
    await house.pass_time(10)
    first = home.newest("light")
    made_at = house.clock.moment.unix
    await house.pass_time(3600)
    assert home.newest("light") == first + 1
    assert home.reasons["light"][first + 1] == n.REASON_PERIODIC
    # SEC-05: it may be activated a little later, so that all members change together
    assert 0 < home.key_fields[-1][m.ACTIVATION] - made_at <= 3600 + tuning.PERIODIC_LEAD_S
    await house.pass_time(2 * 3600)
    assert home.newest("light") == first + 3


@pytest.mark.req("CPNS-GKM-61")
async def test_a_period_goes_on_across_a_restart(tmp_path: Path) -> None:
    clock = HandClock()
    house = await House.open(tmp_path, ServerConfig(period_s=3600), clock)
    house.server.create_group("light")
    clock.advance(3000)
    await house.server.close()
    house = await House.open(tmp_path, None, clock)
    await house.work()
    assert house.server.show_group("light").version == 1
    await house.pass_time(601)
    assert house.server.show_group("light").version == 2
    await house.server.close()


async def test_without_a_clock_a_periodic_key_is_active_when_stored(tmp_path: Path) -> None:
    clock = HandClock()
    clock.moment = dataclasses.replace(clock.moment, unix=0)
    house = await House.open(tmp_path, ServerConfig(period_s=60), clock)
    home = house.gateway("home")
    await house.create(home, "lamp", "light")
    await house.work()
    clock.moment = dataclasses.replace(clock.moment, monotonic=clock.moment.monotonic + 61)
    await house.work()
    assert home.reasons["light"][2] == n.REASON_PERIODIC
    assert home.key_fields[-1][m.ACTIVATION] == 0
    await house.server.close()


@pytest.mark.req("SEC-36", "SEC-05")
async def test_a_key_made_while_the_clock_was_years_ahead_is_active_at_once_later(house: House) -> None:
    """Its activation would be refused by PN GWs, and the group be without a new key until the next period."""
    home = house.gateway("home")
    house.server.create_group("light", open_to=["pn.home"], period_s=3600)
    await house.join(home, "lamp", "light")
    await house.pass_time(10)
    right, home.down = house.clock.moment.unix, True
    house.clock.moment = dataclasses.replace(house.clock.moment, unix=right + 366 * 86400)
    await house.pass_time(3600)
    house.clock.moment = dataclasses.replace(house.clock.moment, unix=right + 3600)
    home.down = False
    await house.pass_time(900)
    assert (home.reasons["light"][home.newest("light")], home.key_fields[-1][m.ACTIVATION]) == (n.REASON_PERIODIC, 0)
    assert (await house.pull(home, "light"))[m.ACTIVATION] == 0


@pytest.mark.req("SEC-19", "CPNS-GKM-60")
async def test_leaves_inside_the_window_make_one_update(house: House) -> None:
    home = house.gateway("home")
    await house.create(home, "lamp", "light")
    for i in range(20):
        await house.join(home, f"pne{i}", "light")
    await house.pass_time(10)
    before = home.newest("light")
    for i in range(20):
        await house.leave(home, f"pne{i}", "light")
        await house.pass_time(tuning.BATCHING_S / 40)
    await house.pass_time(tuning.BATCHING_S)
    assert house.server.show_group("light").version == before + 1
    assert home.members["light"] == ["lamp"]


@pytest.mark.req("SEC-05", "SEC-19")
async def test_a_stream_of_leaves_does_not_put_the_update_off(house: House) -> None:
    home = house.gateway("home")
    await house.create(home, "lamp", "light")
    for i in range(10):
        await house.join(home, f"pne{i}", "light")
    await house.pass_time(10)
    before = home.newest("light")
    for i in range(10):
        await house.leave(home, f"pne{i}", "light")
        await house.pass_time(tuning.BATCHING_S * 0.6)
    assert home.newest("light") >= before + 3


async def test_a_join_and_a_leave_in_one_window_are_told_as_a_leave(house: House) -> None:
    home = house.gateway("home")
    await house.create(home, "lamp", "light")
    await house.join(home, "door", "light")
    await house.pass_time(10)
    before = home.newest("light")
    await house.leave(home, "door", "light")
    await house.join(home, "cat", "light")
    await house.pass_time(10)
    assert home.versions("light")[-1] == before + 1
    assert home.reasons["light"][before + 1] == n.REASON_LEAVE


@pytest.mark.req("SEC-06")
async def test_an_update_that_a_restart_interrupted_is_made_at_once(tmp_path: Path) -> None:
    clock = HandClock()
    house = await House.open(tmp_path, None, clock)
    home = house.gateway("home")
    await house.create(home, "lamp", "light")
    await house.join(home, "door", "light")
    await house.pass_time(10)
    before = home.newest("light")
    await house.leave(home, "door", "light")
    await house.server.close()
    house = await House.open(tmp_path, None, clock)
    house.attach(home)
    await house.work()
    assert home.members["light"] == ["lamp"]
    assert home.newest("light") == before + 1
    await house.server.close()


@pytest.mark.req("SEC-12")
async def test_every_key_is_16_octets_of_the_random_source(tmp_path: Path) -> None:
    drawn: list[bytes] = []

    def random_octets(count: int) -> bytes:
        drawn.append(bytes([len(drawn) + 1]) * count)
        return drawn[-1]

    house = await House.open(tmp_path, random_octets=random_octets)
    server = house.server
    home = house.gateway("home")
    await house.create(home, "lamp", "light")
    await house.work()
    server.update_key("light")
    await house.work()
    assert list(home.keys["light"].values()) == drawn == [b"\x01" * 16, b"\x02" * 16]
    await server.close()


@pytest.mark.req("SEC-12")
@pytest.mark.parametrize("octets", [b"", b"\x07" * 15, b"\x07" * 17, b"\x07" * 16])
async def test_a_broken_random_source_makes_no_key(tmp_path: Path, octets: bytes) -> None:
    given = [b"\x07" * 16]  # the first key; a source that repeats itself gives it again

    def random_octets(count: int) -> bytes:
        return given.pop() if given else octets

    server = await CpnsServer.open(tmp_path, clock=HandClock(), random_octets=random_octets)
    server.create_group("light")
    with pytest.raises(WeakRandomness):
        server.update_key("light")
    assert server.show_group("light").version == 1
    await server.close()


@pytest.mark.req("CPNS-GKM-59")
async def test_a_deleted_groups_key_is_in_no_file(tmp_path: Path) -> None:
    house = await House.open(tmp_path)
    home = house.gateway("home")
    await house.create(home, "lamp", "light")
    for _ in range(5):
        house.server.update_key("light")
        await house.work()
    keys = list(home.keys["light"].values())
    assert len(keys) >= 5

    def found() -> list[int]:
        files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        return [i for i, key in enumerate(keys) if key in files]

    assert found() == [len(keys) - 2, len(keys) - 1]  # SEC-29: the two newest
    house.server.delete_group("light")
    assert found() == []
    await house.server.close()
    assert found() == []


# Pull


async def test_a_pull_gives_the_newest_key_or_none_if_it_is_there(house: House) -> None:
    home = house.gateway("home")
    await house.create(home, "lamp", "light")
    await house.work()
    answer = await house.pull(home, "light", 0)
    assert answer[m.GROUP_KEY] == [(home.keys["light"][1], None)] and answer[m.VERSION] == 1
    answer = await house.pull(home, "light", 1)
    assert succeeded(answer) and m.GROUP_KEY not in answer


@pytest.mark.req("SEC-24")
async def test_a_member_without_its_replay_windows_gets_a_new_key_once_an_hour(house: House) -> None:
    home = house.gateway("home")
    await house.create(home, "lamp", "light")
    await house.work()

    async def report(version: int) -> None:
        fields = {m.SG_ID: "light", m.VERSION: version, m.WINDOWS_LOST: version}
        assert succeeded(await house.ask(home, n.KEY_PULL_REQUEST, fields))
        await house.pass_time(10)

    await report(1)
    assert home.newest("light") == 2
    await report(1)  # of a key that is over
    await report(2)  # again within the hour
    assert home.newest("light") == 2
    await house.pass_time(3600)
    await report(2)
    assert home.newest("light") == 3


@pytest.mark.req("SEC-06")
async def test_a_pull_is_for_pns_with_members_now(house: House) -> None:
    home, office = house.gateway("home"), house.gateway("office")
    await house.create(home, "lamp", "light")
    assert error_of(await house.pull(office, "light")) == n.ERROR_NOT_MEMBER
    await house.leave(home, "lamp", "light")
    assert error_of(await house.pull(home, "light")) == n.ERROR_NOT_MEMBER


@pytest.mark.req("SEC-06")
async def test_a_pull_never_gives_a_key_that_a_leaver_knows(house: House) -> None:
    home = house.gateway("home")
    await house.create(home, "lamp", "light")
    await house.join(home, "door", "light")
    await house.pass_time(10)
    before = home.newest("light")
    await house.leave(home, "door", "light")
    answer = await house.pull(home, "light", 0)
    assert answer[m.VERSION] == before + 1


# Delivery


@pytest.mark.req("Q-17")
async def test_a_silent_pn_gw_gets_the_newest_key_when_it_is_back_and_an_operator_is_told(house: House) -> None:
    home = house.gateway("home")
    await house.create(home, "lamp", "light")
    await house.work()
    home.down = True
    for _ in range(3):
        house.server.update_key("light")
    await house.pass_time(60)
    (alarm,) = house.server.alarms()
    assert (alarm.kind, alarm.gateway_id, alarm.sg_id) == ("undelivered", "gw.home", "light")
    (delivery,) = house.server.show_group("light").deliveries
    assert delivery.state == "failing" and (delivery.wanted_version, delivery.accepted_version) == (4, 1)
    home.down = False
    await house.list_versions(home, (1, "light"))  # it speaks: no need to wait for the back-off
    await house.work()
    assert home.versions("light") == [1, 4]
    assert house.server.alarms() == ()


async def test_a_refusal_is_retried_with_back_off(house: House) -> None:
    home = house.gateway("home")
    home.refuses = True
    await house.create(home, "lamp", "light")
    await house.pass_time(30)
    assert 3 <= len(home.raw) <= 6
    home.refuses = False
    await house.pass_time(60)
    assert home.versions("light") == [1]


async def test_an_answer_to_another_request_is_no_answer(house: House) -> None:
    home = house.gateway("home")

    async def confused(message: bytes) -> bytes:
        answer = {m.RESULT: n.RESULT_SUCCESS, m.SG_ID: "other", m.VERSION: 9}
        return bytes(m.encode(n.GROUP_KEY_DELIVERY_RESPONSE, answer))

    house.receivers["gw.home"] = confused
    await house.create(home, "lamp", "light")
    await house.work()
    (delivery,) = house.server.show_group("light").deliveries
    assert delivery.accepted_revision == delivery.accepted_version == 0
    assert house.server.counters()["deliveries_refused"] == 1


# Secrecy


@pytest.mark.req("SEC-12")
async def test_no_key_shows_in_what_people_read(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    home = house.gateway("home")
    await house.create(home, "lamp", "light")
    house.server.update_key("light")
    home.down = True
    await house.pass_time(60)
    home.down = False
    await house.pass_time(600)
    key = home.keys["light"][2]
    kept = StoredKey("light", 2, key, 0, n.REASON_CREATE)
    seen = "".join(
        [
            caplog.text,
            repr(kept),
            str(kept),
            repr(house.server),
            repr(vars(house.server)),
            repr([dataclasses.asdict(view) for view in house.server.list_groups()]),
            repr(house.server.alarms()),
            repr(house.server.counters()),
        ]
    )
    assert "light" in seen
    for form in (key.hex(), key.hex().upper(), repr(key)[2:-1]):
        assert form not in seen


@pytest.mark.req("SEC-06")
async def test_a_key_that_a_leaver_knows_is_not_delivered_any_more(house: House) -> None:
    home = house.gateway("home")
    await house.create(home, "lamp", "light")
    await house.join(home, "door", "light")
    await house.pass_time(10)
    before = home.newest("light")
    house.server.update_key("light")  # before + 1 has not gone out yet
    await house.leave(home, "door", "light")
    await house.work()
    assert home.members["light"] == ["lamp"] and home.newest("light") == before
    await house.pass_time(tuning.BATCHING_S)
    assert home.versions("light")[-2:] == [before, before + 2]


# The background


async def test_by_itself_the_server_updates_delivers_and_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "RETRY_MIN_S", 0.05)
    house = await House.open(tmp_path, ServerConfig(batching_s=0.1), by_itself=True)
    server = house.server
    home = house.gateway("home")
    home.down = True
    await house.create(home, "lamp", "light")
    await until(lambda: server.counters().get("deliveries_unanswered", 0) >= 3)
    home.down = False
    await until(lambda: home.versions("light") == [1])
    await house.join(home, "door", "light")
    await until(lambda: home.versions("light") == [1, 2])
    server.expel("light", "door")
    await until(lambda: home.versions("light") == [1, 2, 3])
    assert home.members["light"] == ["lamp"]
    await server.close()
    await server.close()  # closing twice does no harm


async def test_what_the_medium_refused_is_not_told_and_changes_no_schedule(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    house.server.create_group("light", period_s=3600)
    file = house.server._store._database._file
    run = file.run

    def refuse(sql: str, *values: Any) -> Any:
        if sql == "COMMIT":
            raise StoreFailed("The store failed: disk full.", "Check the free space and the medium.")
        return run(sql, *values)

    with monkeypatch.context() as full:
        full.setattr(file, "run", refuse)
        with pytest.raises(StoreFailed):
            house.server.create_group("door", period_s=3600)
        with pytest.raises(StoreFailed):
            house.server.delete_group("light")
    assert not [line for line in caplog.messages if "door" in line or "deleted" in line]
    await house.pass_time(3700)
    assert house.server.show_group("light").version == 2  # its period goes on
    assert not house.server.alarms()  # nobody waits for a group that there is not
    house.server.create_group("door", period_s=3600)
    assert [line for line in caplog.messages if "door" in line]
