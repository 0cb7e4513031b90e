"""The service manager hears READY, STATUS, WATCHDOG and STOPPING on its datagram socket, by path or abstract name."""

import asyncio
import os
import signal
import socket

import pytest

from gateway_agent.config.load import load
from keycast.services import gateway_watch
from keycast.services.gateway_watch import GatewayWatch
from keycast.services.home import open_home
from keycast.services.supervisor import serve, tell, watchdog_s
from tests.unit.home_world import configured

WATCHDOG_S = 30


class Manager:
    """A service manager: its socket, and what it was told, one list of assignments a datagram."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)

    def told(self):
        """What came since the last call."""
        found = []
        while True:
            try:
                found.append(self.socket.recv(4096).decode().split("\n"))
            except BlockingIOError:
                return found


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path, monkeypatch):
    name = f"@keycast-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "notify")
    found = Manager(name.replace("@", "\0", 1))
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    monkeypatch.setenv("WATCHDOG_USEC", str(WATCHDOG_S * 1_000_000))
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    yield found
    found.socket.close()


async def test_it_hears_that_the_process_serves_works_and_ends(manager):
    said = ["two boards"]
    serving = asyncio.create_task(serve(lambda: said[0]))
    await asyncio.sleep(1)
    assert manager.told() == [["READY=1", "STATUS=two boards", "WATCHDOG=1"]]
    await asyncio.sleep(WATCHDOG_S)
    assert (
        manager.told() == [["WATCHDOG=1"]] * 3
    )  # twice a watchdog's time is the least that sd_watchdog_enabled(3) asks
    said[0] = "three\nboards"
    await asyncio.sleep(WATCHDOG_S / 3)
    assert manager.told() == [["STATUS=three boards", "WATCHDOG=1"]]
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    assert manager.told() == [["STOPPING=1", "STATUS=it ends"]]


@pytest.mark.real_time
async def test_sigterm_ends_it_and_the_service_manager_hears_so(manager):
    serving = asyncio.create_task(serve(lambda: "well"))
    while not manager.told():
        await asyncio.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)
    await serving
    assert manager.told()[-1][0] == "STOPPING=1"


async def test_the_watchdog_hears_nothing_while_there_is_trouble(manager):
    trouble = [""]
    serving = asyncio.create_task(serve(lambda: "well", trouble=lambda: trouble[0]))
    await asyncio.sleep(1)
    manager.told()
    trouble[0] = "the store is broken"
    await asyncio.sleep(WATCHDOG_S)
    assert manager.told() == [["STATUS=the store is broken"]]
    trouble[0] = ""
    await asyncio.sleep(WATCHDOG_S / 3)
    assert manager.told() == [["STATUS=well", "WATCHDOG=1"]]
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    assert manager.told()[-1][0] == "STOPPING=1"


async def test_a_part_that_has_failed_ends_the_process_and_a_fault_in_the_watch_too(manager):
    failed = asyncio.get_running_loop().create_future()
    failed.set_result(RuntimeError("taken over"))
    with pytest.raises(RuntimeError, match="taken over"):
        await serve(lambda: "well", failed)
    with pytest.raises(ZeroDivisionError):
        await serve(lambda: "well", trouble=lambda: str(1 / 0))
    assert manager.told()[-1][0] == "STOPPING=1"


def test_without_a_service_manager_nothing_happens(monkeypatch, caplog):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    tell("READY=1")
    assert watchdog_s() == 0
    assert not caplog.records


def test_a_watchdog_of_another_process_or_a_wrong_time_is_none(monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid() + 1))
    assert watchdog_s() == 0
    monkeypatch.delenv("WATCHDOG_PID")
    assert watchdog_s() == 30
    monkeypatch.setenv("WATCHDOG_USEC", "soon")
    assert watchdog_s() == 0


@pytest.mark.parametrize("address", ["/nowhere/notify", "@nobody-listens-there", "vsock:2:1234"])
def test_a_socket_on_which_nobody_listens_is_told_and_nothing_more(address, monkeypatch, caplog):
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    tell("READY=1")
    assert "KC1901" in caplog.text and "READY=1" in caplog.text


async def test_a_store_that_cannot_be_read_is_trouble_and_a_full_disk_is_none(tmp_path, monkeypatch):
    async with open_home(load(configured(tmp_path))) as home:
        watch = GatewayWatch(home.app)
        assert watch.trouble() == ""
        assert watch.status().startswith("gw.home serves home; broadcasts to no network")
        home.app.gateway.administration.set_alarm("store", "Nothing new can be stored: no space")
        assert watch.trouble() == ""
        assert watch.status().endswith("; alarms: 1, since longest: Nothing new can be stored: no space")
        home.app._store.database._file.connection.execute("ALTER TABLE pn RENAME TO gone")
        assert "cannot be used" in watch.trouble()


async def test_media_may_be_down_for_some_time_before_it_is_trouble(tmp_path, monkeypatch):
    async with open_home(load(configured(tmp_path))) as home:
        now, down = [0.0], ["no interface is up"]
        monkeypatch.setattr(home.app, "no_network", lambda: down[0])
        watch = GatewayWatch(home.app, lambda: now[0])
        now[0] = gateway_watch.MEDIA_PATIENCE_S - 1
        assert watch.trouble() == ""
        now[0] += 1
        assert watch.trouble() == "no interface is up"
        down[0] = ""
        assert watch.trouble() == ""
