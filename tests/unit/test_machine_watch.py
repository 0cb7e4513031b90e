"""A disk that is full, read-only or broken, and a clock that is lost: an alarm that begins and ends, one line for each,
and everything goes on when there is room again."""

import asyncio
import contextlib
import logging
import re
import sqlite3
import subprocess

import pytest

from cpns import messages, numbers
from gateway_agent import machine_watch
from gateway_agent.clock import SystemClock
from gateway_agent.core import housekeeping, server_messages
from gateway_agent.core.delivering import batch, deliveries
from gateway_agent.machine_watch import (
    BROKER_GRACE_S,
    CLOCK_GRACE_S,
    NETWORK_GRACE_S,
    NO_DATE_BEFORE,
    ClockWatch,
    MachineWatch,
)
from gateway_agent.store.errors import FAULTS, StoreFailed
from key_servers.cpns_server import tuning as server_tuning
from key_servers.errors import ServerError
from message_plane import endpoint
from private_store.sqlite_file import SqliteFile
from tests.privileges import needs_root
from tests.unit.gateway_world import World
from tests.unit.home_world import SG, Home
from tests.waiting import until


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(machine_watch, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(endpoint, "_HOUSEKEEPING_S", 0.01)
    monkeypatch.setattr(server_tuning, "STORE_LOOK_S", 0.01)
    monkeypatch.setattr(server_tuning, "UPDATE_RETRY_S", 0.01)
    for module in (batch, deliveries, server_messages):
        monkeypatch.setattr(module, "STORE_RETRY_S", 0.02)


def files_of(service):
    return {
        "inventory": service.app._store.database._file,
        "sessions": service.app.credentials._file,
        "server": service.server._store._database._file,
    }


def store_alarms(service):
    standing = (*service.app.gateway.administration.alarms(), *service.server.alarms())
    return [alarm for alarm in standing if alarm.kind == "store"]


def said_of_alarms(caplog):
    return [said[0] for record in caplog.records if (said := re.search(r"\balarm (begins|ends)(?=:)", record.message))]


@pytest.mark.parametrize("name", ["inventory", "sessions", "server"])
async def test_a_medium_that_becomes_read_only_is_one_alarm_that_begins_and_ends(tmp_path, caplog, name):
    caplog.set_level(logging.INFO)
    home = Home(tmp_path)
    async with home.running() as service:
        await home.live(service)
        file = files_of(service)[name]
        caplog.clear()
        file.connection.execute("PRAGMA query_only = ON")
        if name == "inventory":
            await service.app.gateway.handle_pne("lamp", left())
        elif name == "server":
            with pytest.raises(ServerError, match="readonly"):
                service.server.update_key(SG)
        await until(lambda: store_alarms(service))
        await asyncio.sleep(0.1)  # many rounds of housekeeping
        (alarm,) = store_alarms(service)
        assert "readonly" in alarm.text and str(file.path) in alarm.text
        file.connection.execute("PRAGMA query_only = OFF")
        await until(lambda: not store_alarms(service))
        assert said_of_alarms(caplog) == ["alarm begins", "alarm ends"]
        await goes_on(service, caplog)


async def goes_on(service, caplog):
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert not service.app.endpoint.failed.done() and not service.app.gateway.failed.done()
    version = service.server.update_key(SG)
    await until(lambda: service.app._store.group_keys.get(SG, version) is not None)


@needs_root
async def test_a_disk_that_is_full_is_an_alarm_until_there_is_room_again(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path], capture_output=True)
    if mounted.returncode:
        pytest.skip("this machine mounts nothing: " + mounted.stderr.decode())
    try:
        home = Home(tmp_path)
        async with home.running() as service:
            await home.live(service)
            caplog.clear()
            with contextlib.suppress(OSError), open(tmp_path / "fill", "wb", buffering=0) as fill:
                while True:
                    fill.write(bytes(4096))
            with pytest.raises(ServerError, match="full"):
                service.server.update_key(SG)
            await until(lambda: len(store_alarms(service)) == 2)  # the gateway's sessions, and the Server's groups
            await asyncio.sleep(0.1)
            assert all("full" in alarm.text for alarm in store_alarms(service))
            (tmp_path / "fill").unlink()
            await until(lambda: not store_alarms(service))
            assert said_of_alarms(caplog) == ["alarm begins"] * 2 + ["alarm ends"] * 2
            await goes_on(service, caplog)
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


def left():
    return messages.encode(numbers.LEAVE_REQUEST, {messages.PNE_ID: "lamp", messages.SG_ID: SG})


@pytest.fixture
async def world(tmp_path):
    made = await World(tmp_path / "gw").start()
    yield made
    await made.close()


def read_only(world, on):
    world.store.database.rows(f"PRAGMA query_only = {'ON' if on else 'OFF'}")


async def test_a_board_and_the_server_are_told_to_try_again(world):
    board = await world.board("lamp", "light")
    read_only(world, True)
    refused = await board.join("other")
    assert refused[messages.ERROR] == numbers.ERROR_TOO_MANY
    await world.server.rekey("light")
    assert (await world.server.send_key("light"))[messages.ERROR] == numbers.ERROR_TOO_MANY
    read_only(world, False)
    await world.server.send_key("light")
    await world.delivered("light")
    assert board.version("light") == world.server.group("light").version


@pytest.mark.parametrize("when", ["before it begins", "while boards confirm", "between two rounds"])
async def test_a_delivery_goes_on_when_there_is_room_again(world, when, caplog):
    boards = [await world.board(f"b{number}", "light") for number in range(3)]
    for board in boards:
        board.deaf = board.reachable = False
        board.deaf = when == "between two rounds"
    begin = world.gateway._server_messages._keys.begin_delivery
    if when == "before it begins":

        def begin_on_a_full_disk(sg_id):
            read_only(world, True)
            world.gateway._server_messages._keys.begin_delivery = begin
            asyncio.get_running_loop().call_later(0.1, read_only, world, False)
            begin(sg_id)

        world.gateway._server_messages._keys.begin_delivery = begin_on_a_full_disk
        await world.server.rekey("light")
    else:
        await world.server.rekey("light")
        await until(lambda: world.air)
        read_only(world, True)
        await asyncio.sleep(0.3)
        read_only(world, False)
    for board in boards:
        board.deaf, board.reachable = False, True
    await world.delivered("light", timeout=40)
    version = world.server.group("light").version
    assert world.server.reports[-1][messages.VERSION] == version
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_housekeeping_outlasts_a_full_disk(world, monkeypatch):
    tried = []

    def tick():
        tried.append(True)
        raise world.store.database._file.failed(sqlite3.OperationalError("database or disk is full"))

    monkeypatch.setattr(housekeeping, "UPLINK_RETRY_S", 0.01)
    with monkeypatch.context() as patch:
        patch.setattr(world.gateway._housekeeping, "_count_time", tick)
        world.gateway._housekeeping.soon()
        await until(lambda: len(tried) > 2)
    assert not world.gateway.failed.done()


# The one file


def test_trouble_stands_until_something_is_written_and_a_probe_finds_its_end(tmp_path):
    table = "CREATE TABLE row (octets BLOB UNIQUE);\n"
    file = SqliteFile(tmp_path / "rows.db", [table], holds="rows", remedy="", faults=FAULTS)
    with pytest.raises(StoreFailed), file.transaction():
        file.run("INSERT INTO row VALUES (1), (1)")
    assert file.trouble == "", "a rule of the schema is no fault of the medium"
    file.connection.execute("PRAGMA query_only = ON")
    with pytest.raises(StoreFailed), file.transaction():
        file.run("INSERT INTO row VALUES (1)")
    assert "readonly" in file.trouble
    for _ in range(3):
        file.probe()
    assert "readonly" in file.trouble
    file.connection.execute("PRAGMA query_only = OFF")
    file.probe()
    assert file.trouble == "" and file.rows("SELECT * FROM row") == []
    file.close()


async def test_the_watch_finds_the_end_of_a_trouble_in_a_store_that_nobody_writes_to(tmp_path):
    table = "CREATE TABLE row (octets BLOB);\n"
    files = [SqliteFile(tmp_path / name, [table], holds="rows", remedy="", faults=FAULTS) for name in ("a.db", "b.db")]
    alarms = {}
    watch = MachineWatch(files, SystemClock(), lambda kind, text: alarms.update({kind: text}))
    for file in files:
        file.connection.execute("PRAGMA query_only = ON")
        with pytest.raises(StoreFailed), file.transaction():
            file.run("INSERT INTO row VALUES (1)")
    for file in files:
        watch.look()
        assert str(file.path) in alarms["store"]
        file.connection.execute("PRAGMA query_only = OFF")
    watch.look()
    assert alarms["store"] == ""
    for file in files:
        file.close()


async def test_outcomes_that_could_not_be_stored_are_told_and_stored_later():
    stored, full = [], [True]

    def store(outcomes):
        if full:
            raise StoreFailed("full", "")
        stored.append(set(outcomes.confirmed))

    made = batch.Batch(store, 0.0, lambda: 100)
    with pytest.raises(StoreFailed):
        await made.add("confirmed", "lamp")
    full.clear()
    await made.add("confirmed", "door")
    assert stored == [{"lamp", "door"}]
    full.append(True)
    made.add("confirmed", "desk")
    made.flush()
    made.close()
    await asyncio.sleep(0.05)
    assert len(stored) == 1, "closed"


# The clock


def test_a_clock_that_nobody_keeps_in_step_is_told_after_a_while():
    watch, today = ClockWatch(0.0), NO_DATE_BEFORE + 1e6
    assert watch.look(CLOCK_GRACE_S - 1, False, today) == ""
    assert "in step" in watch.look(CLOCK_GRACE_S, False, today)
    assert watch.look(CLOCK_GRACE_S + 1, True, today) == ""
    assert watch.look(2 * CLOCK_GRACE_S, False, today) == ""
    assert "in step" in watch.look(2 * CLOCK_GRACE_S + 1, False, today)


def test_a_clock_that_is_set_back_by_a_year_is_told_until_it_is_right():
    today, year = NO_DATE_BEFORE + 5e7, 366 * 86_400
    watch = ClockWatch(0.0)
    assert watch.look(1.0, True, today) == ""
    assert watch.look(2.0, False, today - 3600) == ""  # the hour of a person who knows no UTC
    assert "was set back: it says 20" in watch.look(3.0, False, today - year)
    assert watch.look(4.0, False, today) == ""
    assert watch.look(5.0, True, today - year) == ""  # it was ahead before
    assert watch.look(6.0, False, today - year) == ""
    after_a_start = ClockWatch(100.0, known=today)
    assert "was set back" in after_a_start.look(100.0, False, today - year)
    assert ClockWatch(100.0, known=today).look(100.0, False, today - 60) == ""


def test_a_clock_that_has_lost_the_date_is_told_at_once():
    assert "lost the date" in ClockWatch(0.0).look(0.0, False, 100.0)
    assert "lost the date" in ClockWatch(0.0).look(0.0, True, 100.0)


def test_an_alarm_of_the_clock_begins_and_ends(monkeypatch):
    class Clock:
        now, date = 0.0, 0

        def monotonic(self):
            return self.now

        def unix(self):
            return self.date

    clock, alarms = Clock(), {}
    watch = MachineWatch([], clock, lambda kind, text: alarms.update({kind: text}))
    watch.look()
    assert alarms == {"store": "", "network": "", "radio": "", "broker": "", "clock": ""}
    clock.now = CLOCK_GRACE_S
    watch.look()
    assert "timedatectl" in alarms["clock"]
    clock.date = NO_DATE_BEFORE
    watch.look()
    assert alarms["clock"] == ""


async def test_a_radio_that_does_not_recover_is_an_alarm_unless_nothing_can_be_broadcast_at_all():
    alarms, no_network, broken = {}, [""], ["Nothing goes out by ble."]
    words = (SystemClock(), lambda kind, text: alarms.update({kind: text}))
    watch = MachineWatch([], *words, lambda: no_network[0], lambda: broken[0])
    watch.look()
    assert alarms["radio"] == "Nothing goes out by ble."
    no_network[0] = "eth0: no carrier"
    watch.look()
    assert alarms["radio"] == ""
    no_network[0] = broken[0] = ""
    watch.look()
    assert alarms["radio"] == ""


def test_a_gateway_that_no_broker_lets_in_is_an_alarm_while_that_lasts():
    class Clock:
        now = 0.0

        def monotonic(self):
            return self.now

        def unix(self):
            return NO_DATE_BEFORE

    clock, alarms, problem = Clock(), {}, ["the broker does not let this end in"]
    words = (clock, lambda kind, text: alarms.update({kind: text}))
    watch = MachineWatch([], *words, no_broker=lambda: problem[0])
    watch.look()
    assert alarms["broker"] == ""  # it is restarted
    clock.now = BROKER_GRACE_S
    watch.look()
    assert alarms["broker"] == "the broker does not let this end in"
    problem[0] = ""
    watch.look()
    assert alarms["broker"] == ""


def test_a_gateway_without_a_network_to_broadcast_on_is_an_alarm_while_that_lasts():
    class Clock:
        now = 0.0

        def monotonic(self):
            return self.now

        def unix(self):
            return NO_DATE_BEFORE

    clock, alarms, problem = Clock(), {}, ["eth0: no carrier"]
    watch = MachineWatch([], clock, lambda kind, text: alarms.update({kind: text}), lambda: problem[0])
    watch.look()
    assert alarms["network"] == ""  # a cable that is put into another socket
    clock.now = NETWORK_GRACE_S
    watch.look()
    assert alarms["network"] == "eth0: no carrier"
    problem[0] = ""
    watch.look()
    assert alarms["network"] == ""
