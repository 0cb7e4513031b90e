"""A whole gateway whose configuration has `[ble]`: it runs whatever BLE lacks, tells a person, and UDP goes on."""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import pytest

from gateway_agent.app import GatewayApp
from gateway_agent.config.load import parse
from gateway_agent.errors import ConfigError
from gateway_agent.machine_watch import LOOK_EVERY_S
from gateway_agent.radios import ble, ble_sender
from gateway_agent.radios.ble import BleSection
from gateway_agent.radios.ble_sender import NoSender
from gateway_agent.radios.medium import Step
from gateway_agent.sessions import PneSessions
from keycast.commands import status
from keycast.free_ports import free_port
from keycast.services import steering
from message_plane.sessions import Heard
from tests.unit.gateway_world import Server
from tests.unit.scripted_sender import ScriptedScanner, ScriptedSender

CONFIG = """
[gateway]
id = "gw"
pn = "pn.home"
state_dir = "{folder}/state"

[message_plane]
listen = ["127.0.0.1"]
port = {port}
discovery = false

[broadcast]
interfaces = {interfaces}
port = {broadcast_port}

[ble]
sender = "{sender}"
company_id = 2989
"""

Opened = Callable[..., Awaitable[GatewayApp]]


class Kinds:
    """Stand-ins for the modules of senders: `opens[name]` is the sender that is opened, or the exception."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opens: dict[str, ScriptedSender | Exception] = {}
        self.tried: list[str] = []
        for name in ble_sender.SENDERS:
            module = ModuleType(f"sender_{name}")
            module.open_sender = lambda section, counters, name=name: self._open(name)  # type: ignore[attr-defined]
            monkeypatch.setitem(sys.modules, module.__name__, module)
            monkeypatch.setitem(ble_sender.SENDERS, name, module.__name__)

    def _open(self, name: str) -> ScriptedSender:
        self.tried.append(name)
        sender = self.opens[name]
        if isinstance(sender, Exception):
            raise sender
        return sender


@pytest.fixture
def kinds(monkeypatch: pytest.MonkeyPatch) -> Kinds:
    return Kinds(monkeypatch)


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Opened]:
    apps: list[GatewayApp] = []

    async def make(sender: str = "auto", interfaces: str = '["lo"]') -> GatewayApp:
        text = CONFIG.format(
            folder=tmp_path, port=free_port(), broadcast_port=free_port(), sender=sender, interfaces=interfaces
        )
        apps.append(await GatewayApp.open(parse(text.encode()), Uplink()))
        await apps[-1].start()
        await asyncio.sleep(LOOK_EVERY_S + 1)
        return apps[-1]

    yield make
    for app in apps:
        await app.close()


class Uplink:
    """A CPNS Server without groups."""

    def __init__(self) -> None:
        self._server = Server()

    async def request(self, message: bytes) -> bytes:
        return await self._server.answer("pn.home", message)


def own_sender() -> ScriptedSender:
    sender = ScriptedSender()
    sender.scanner = ScriptedScanner()  # type: ignore[assignment]
    return sender


def alarms(app: GatewayApp) -> dict[str, str]:
    """The alarms, without that for a machine of which nobody keeps the clock in step."""
    return {alarm.kind: alarm.text for alarm in app.gateway.administration.alarms() if alarm.kind != "clock"}


def test_auto_is_the_first_sender_that_works_and_says_why_the_others_do_not(kinds: Kinds) -> None:
    counters, sender = Counter[str](), ScriptedSender()
    kinds.opens = {"mgmt": NoSender("It may not.", "Next: setcap"), "bluez": sender, "virtual": sender}
    assert ble_sender.choose(BleSection(), counters) == (sender, {"mgmt": "It may not. Next: setcap"})
    kinds.opens["bluez"] = ModuleNotFoundError("No module named 'dbus_fast.aio'", name="dbus_fast.aio")
    found, reasons = ble_sender.choose(BleSection(), counters)
    assert found is None and "The package dbus_fast is not installed" in reasons["bluez"]
    assert "pip install 'keycast[ble]'" in reasons["bluez"] and kinds.tried == ["mgmt", "bluez"] * 2
    kinds.opens["mgmt"] = ZeroDivisionError("a fault")
    assert "fault of keycast" in ble_sender.choose(BleSection(), counters)[1]["mgmt"]
    kinds.tried.clear()
    assert ble_sender.choose(BleSection(sender="virtual"), counters) == (sender, {}) and kinds.tried == ["virtual"]


def test_off_is_no_medium_and_no_section_is_no_ble(kinds: Kinds) -> None:
    assert ble.open_medium(BleSection(sender="off"), Counter()) is None and not kinds.tried
    for wrong in ('sender = "pigeon"', "company_id = 65536", "connections_max = 0", 'adapter = ""'):
        with pytest.raises(ConfigError, match=rf"ble\.{wrong.split()[0]}"):
            parse(f'[gateway]\nid = "a"\npn = "b"\nstate_dir = "c"\n[ble]\n{wrong}\n'.encode())


@pytest.mark.req("CPNS-GKM-71")
async def test_a_gateway_with_both_names_both_and_tells_boards_its_company(kinds: Kinds, opened: Opened) -> None:
    kinds.opens["mgmt"] = sender = own_sender()
    app = await opened()
    assert app.networks() == ["hci7 BLE", "lo 127.255.255.255"] and not app.no_network() and not alarms(app)
    assert app.trust()["company_id"] == 2989
    assert [link.scheme for link in app.endpoint._exchanges.links._links] == ["udp", "gatt"]
    await app.close()
    assert sender.is_closed


async def test_with_ble_off_nothing_of_it_is_there(kinds: Kinds, opened: Opened) -> None:
    app = await opened("off")
    assert app.networks() == ["lo 127.255.255.255"] and "company_id" not in app.trust() and not kinds.tried


@pytest.mark.parametrize(
    "fault",
    [
        NoSender("It lacks the capability CAP_NET_ADMIN.", "Next: setcap"),
        ModuleNotFoundError("No module named 'bumble'", name="bumble"),
        RuntimeError("a fault of the sender"),
    ],
)
async def test_what_ble_lacks_is_an_alarm_and_the_gateway_goes_on_by_udp(
    kinds: Kinds, opened: Opened, fault: Exception
) -> None:
    kinds.opens["hci"] = fault
    app = await opened("hci")
    await asyncio.sleep(60)
    told = str(fault) if isinstance(fault, NoSender) else "bumble" if isinstance(fault, ImportError) else "a fault of"
    assert told in alarms(app)["radio"] and told in next(each for each in app.broadcasts() if each.problem).problem
    assert app.networks() == ["lo 127.255.255.255"] and not app.gateway.failed.done()
    kinds.opens["hci"] = own_sender()  # it was installed, or plugged in
    await asyncio.sleep(700)
    assert "hci7 BLE" in app.networks() and not alarms(app)


async def test_a_gateway_with_ble_only_says_that_no_key_can_be_broadcast(kinds: Kinds, opened: Opened) -> None:
    kinds.opens["bluez"] = sender = own_sender()
    app = await opened("bluez", interfaces="[]")
    assert not alarms(app)
    steps: list[str] = []
    sender.steps = tuple(Step(what, lambda what=what: steps.append(what)) for what in ("register again", "reset it"))
    sender.up = False
    assert "hci7: the adapter was pulled out" in app.no_network()
    await asyncio.sleep(60)
    assert set(alarms(app)) == {"network"} and "pulled out" in alarms(app)["network"]
    assert steps[:2] == ["register again", "reset it"]
    sender.up = True
    await asyncio.sleep(60)
    assert not alarms(app) and app.networks() == ["hci7 BLE"]


async def test_a_gateway_that_hears_no_boards_says_so_while_it_sends(
    kinds: Kinds, opened: Opened, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds.opens["mgmt"] = sender = own_sender()
    app = await opened()
    scanner = sender.scanner
    assert isinstance(scanner, ScriptedScanner)
    scanner.problem = "bluetoothd does not scan."
    await asyncio.sleep(5)
    assert not alarms(app)
    await asyncio.sleep(15)
    assert "No board is heard on hci7: bluetoothd does not scan." in alarms(app)["radio"]
    assert "hci7 BLE" in app.networks()
    status._show(json.loads(json.dumps(steering._status(app.observer().snapshot(), []), default=asdict)))
    shown = " ".join(capsys.readouterr().out.split())
    assert "keys go to hci7 BLE, lo 127.255.255.255" in shown
    assert "hci7: 0 broadcasts sent, 0 failed; no boards are heard on it: bluetoothd does not scan" in shown
    sender.up = False
    await asyncio.sleep(20)
    assert "pulled out" in alarms(app)["radio"] and "heard" not in alarms(app)["radio"]
    sender.up = True
    scanner.problem = ""
    await asyncio.sleep(10)
    assert not alarms(app)


async def test_a_request_to_a_board_behind_gatt_may_wait_for_other_connections(
    kinds: Kinds, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds.opens["mgmt"] = own_sender()
    app = await opened()
    places = {"a": "gatt:AA:BB:CC:DD:EE:FF", "b": "udp:127.0.0.1:5683"}
    limits: list[float] = []

    async def request(pne_id: str, message: bytes, *, resource: str, timeout_s: float) -> bytes:
        limits.append(timeout_s)
        return b""

    monkeypatch.setattr(app.endpoint, "last_heard", lambda name: Heard(0.0, places[name]) if name in places else None)
    monkeypatch.setattr(app.endpoint, "request", request)
    for name in "abc":
        await PneSessions(app.endpoint).request(name, b"")
    assert limits == [30.0, 10.0, 10.0]


async def test_boards_behind_gatt_are_behind_bluetooth(
    kinds: Kinds, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds.opens["mgmt"] = own_sender()
    app = await opened()
    places = {"a": "gatt:AA:BB:CC:DD:EE:FF", "b": "udp:127.0.0.1:5683", "c": "memory:yard:7"}
    monkeypatch.setattr(app.endpoint, "last_heard", lambda name: Heard(0.0, places[name]) if name in places else None)
    assert [app._network_of(name) for name in "abcd"] == ["Bluetooth", "lo", "", ""]


WITHOUT_EXTRA = """
import asyncio, sys
sys.modules.update({"bleak": None, "dbus_fast": None, "bumble": None})
from collections import Counter
from gateway_agent.radios import ble
from gateway_agent.radios.ble import BleSection

async def main():
    for sender, package in (("bluez", "dbus_fast"), ("hci", "bumble"), ("virtual", "bumble"), ("auto", "")):
        medium = ble.open_medium(BleSection(sender=sender), Counter())
        medium.open(lambda: None, lambda frame: None, None)
        (health,) = medium.health()
        told = health.problem if package else medium.radio.in_vain.get("bluez", "package")
        assert (package or "package") in told, health
        assert not package or "pip install" in told and not medium.up, health
        await medium.close()

asyncio.run(main())
"""


@pytest.mark.real_time
async def test_without_the_extra_each_sender_says_which_package_it_lacks() -> None:
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", WITHOUT_EXTRA, stderr=asyncio.subprocess.PIPE)
    _, errors = await child.communicate()
    assert child.returncode == 0, errors.decode()
