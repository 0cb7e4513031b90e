"""`keycast radios` with scripted adapters and senders: what it shows, what is wrong, and the next step of each."""

import json
import platform
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway_agent.radios import adapters
from gateway_agent.radios.adapters import Adapter
from gateway_agent.radios.ble import BleSection
from gateway_agent.radios.ble_sender import NoSender
from gateway_agent.radios.medium import Radio
from keycast.program import program
from keycast.services import radio_survey

EXTENDED = Adapter("hci0", "B8:27:EB:00:00:01", "5.0", True, True, True, True, False, "", True, 4, (1,))
LEGACY = Adapter("hci1", "00:1A:7D:00:00:02", "4.0", True, True, True, False, False, "", False, 1, ())
NO_CAPABILITY = NoSender("It lacks the capability CAP_NET_ADMIN.", "Next: AmbientCapabilities=CAP_NET_ADMIN")
CONFIG = '[gateway]\nid = "gw"\npn = "home"\nstate_dir = "state"\n'


class ScriptedSender:
    """A sender that says `problem`, and tells its interval once it has started."""

    scanner = carrier = None
    steps = ()

    def __init__(self, name: str, adapter: str = "", problem: str = "") -> None:
        self.name, self.adapter, self.problem = name, adapter, problem
        self.advice = ""
        self.frame_s, self.instances, self.interval_ms = 0.2, 4, 0.0
        self.up = False
        self.taken: list[bytes | None] = []
        self.is_closed = False

    def start(self, take: Callable[[], bytes | None], news: Callable[[], None]) -> None:
        assert not self.is_closed
        self.taken.append(take())
        self.up, self.interval_ms = not self.problem, 0.0 if self.problem else 27.0
        news()

    async def close(self) -> None:
        self.is_closed = True


class Machine:
    """A machine whose adapters and senders a test sets."""

    def __init__(self) -> None:
        self.adapters: list[Adapter] | Exception = [EXTENDED]
        self.sender: ScriptedSender | None = ScriptedSender("mgmt", "hci0")
        self.in_vain: dict[str, str] = {}

    def look(self) -> list[Adapter]:
        if isinstance(self.adapters, Exception):
            raise self.adapters
        return self.adapters

    def choose(self, section: BleSection, counters: Counter[str]) -> tuple[Any, dict[str, str]]:
        if self.sender is not None:
            self.sender.is_closed = False  # another one, of the same kind
        return self.sender, self.in_vain


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    found = Machine()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(adapters, "look", found.look)
    monkeypatch.setattr(radio_survey, "choose", found.choose)
    monkeypatch.setattr(radio_survey, "bluez_version", lambda: "5.66")
    monkeypatch.setattr(platform, "release", lambda: "6.1.0-rpi7")
    return found


def radios(*words: str) -> tuple[int, str]:
    """The exit code of the command and what it prints on both outputs."""
    run = CliRunner().invoke(program(["radios"]), ["radios", *words], env={"COLUMNS": "400"})
    assert run.exception is None or isinstance(run.exception, SystemExit), run.exception
    return run.exit_code, run.stdout + run.stderr


def test_an_adapter_and_its_sender_in_plain_lines(machine: Machine) -> None:
    code, told = radios()
    assert code == 0
    lines = told.splitlines()
    assert "kernel 6.1.0-rpi7, BlueZ 5.66" in lines
    row = next(line for line in lines if line.startswith("hci0"))
    assert "B8:27:EB:00:00:01" in row and "5.0" in row and "extended; 1 of 4 instances in use" in row
    assert any("would advertise by mgmt on hci0" in line for line in lines) and "wrong:" not in told
    assert not set(told) & set("│╭╰━┃")


def test_json_has_the_same(machine: Machine) -> None:
    machine.adapters = [EXTENDED, LEGACY]
    code, told = radios("--json")
    answer = json.loads(told)
    assert code == 0 and answer["radio"]["sender"] == "mgmt" and answer["problems"] == []
    assert [(each["name"], each["is_extended"], each["instances"]) for each in answer["adapters"]] == [
        ("hci0", True, 4),
        ("hci1", False, 1),
    ]
    assert answer["radio"]["interval_ms"] is None and answer["in_use"] is False


def test_a_trial_tells_the_interval_that_is_really_used(machine: Machine) -> None:
    code, told = radios("--try")
    assert code == 0 and "every 27 ms" in told
    assert machine.sender is not None and machine.sender.is_closed
    (payload,) = machine.sender.taken
    assert payload is not None and len(payload) == 28 and payload[:4] == b"\x1b\xff\xff\xff"


def test_without_the_capability_the_other_sender_is_used_and_the_reason_shown(machine: Machine) -> None:
    machine.sender, machine.in_vain = ScriptedSender("bluez", "hci0"), {"mgmt": str(NO_CAPABILITY)}
    code, told = radios()
    assert code == 0 and "would advertise by bluez" in told
    assert "not by mgmt: It lacks the capability CAP_NET_ADMIN. Next: AmbientCapabilities" in told


def test_if_no_sender_works_each_reason_is_wrong(machine: Machine) -> None:
    machine.sender, machine.in_vain = None, {"mgmt": str(NO_CAPABILITY), "bluez": "No bluetoothd. Next: start it"}
    code, told = radios()
    assert code == 2
    assert "wrong: mgmt: It lacks the capability CAP_NET_ADMIN. Next: " in told
    assert "wrong: bluez: No bluetoothd. Next: start it" in told
    assert len(json.loads(radios("--json")[1])["problems"]) == 2


@pytest.mark.parametrize("release", ["6.12.93+rpt-rpi-v8", "6.18.34-v8-16k+", "6.12.93"])
def test_kernels_on_which_bluez_refuses_adverts_are_named(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, release: str
) -> None:
    monkeypatch.setattr(platform, "release", lambda: release)
    assert radios()[0] == 0  # mgmt does not ask BlueZ
    machine.sender = ScriptedSender("bluez", "hci0")
    code, told = radios()
    assert code == 2 and release in told and "CAP_NET_ADMIN" in told and "newer kernel" in told
    assert "bluez issue 2269" in told and "raspberrypi/linux issue 7473" in told
    assert "Failed to register advertisement" in told
    assert radios("--try")[0] == 0  # a newer BlueZ does not have the fault


@pytest.mark.parametrize("release", ["6.12.9", "6.12.930", "6.18.35+rpt", "16.12.93"])
def test_other_kernels_are_not(machine: Machine, monkeypatch: pytest.MonkeyPatch, release: str) -> None:
    monkeypatch.setattr(platform, "release", lambda: release)
    machine.sender = ScriptedSender("bluez", "hci0")
    assert radios()[0] == 0


def test_what_a_trial_meets_is_wrong(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(radio_survey, "TRIAL_S", 0.01)  # nothing comes
    machine.sender = ScriptedSender("bluez", "hci0", "bluetoothd does not run. Next: systemctl start bluetooth")
    assert radios()[0] == 0  # a sender that has not begun does not know
    code, told = radios("--try")
    assert code == 2 and "wrong: bluez: bluetoothd does not run. Next: systemctl start bluetooth" in told


def test_how_a_slow_sender_could_be_faster(machine: Machine) -> None:
    machine.sender = ScriptedSender("bluez", "hci0")
    machine.sender.advice = "It ignores the interval. Next: BlueZ 5.77"
    code, told = radios("--try")
    assert code == 0 and "it could be faster: It ignores the interval. Next: BlueZ 5.77" in told


def test_no_adapter_and_no_bluetooth_at_all(machine: Machine) -> None:
    machine.adapters, machine.sender = [], None
    machine.in_vain = {"mgmt": "nothing there"}
    code, told = radios()
    assert code == 2 and "There is no Bluetooth adapter. Next: plug one in" in told and "nothing there" not in told
    machine.adapters = OSError(97, "Address family not supported by protocol")
    code, told = radios()
    assert code == 2 and "offers no Bluetooth (Address family not supported by protocol). Next: " in told


def test_an_adapter_that_is_off_is_wrong_unless_another_one_works(machine: Machine) -> None:
    is_off = Adapter("hci0", "", "5.0", False, True, True, True, False, "", True, 4, ())
    machine.adapters = [is_off]
    assert is_off.problem
    code, told = radios()
    assert code == 2 and f"wrong: {is_off.problem}" in told
    machine.adapters = [is_off, LEGACY]
    code, told = radios()
    assert code == 0 and is_off.problem in told


def test_what_a_process_without_the_capability_may_not_know_is_left_out(machine: Machine) -> None:
    machine.adapters = [Adapter("hci0", "B8:27:EB:00:00:01", "5.0", True, True, True, True, False, "")]
    assert "instances" not in radios()[1]
    assert json.loads(radios("--json")[1])["adapters"][0]["is_extended"] is None


def test_a_configuration_that_wants_no_bluetooth(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "keycast.toml"
    path.write_text(CONFIG)
    machine.adapters = []
    code, told = radios()
    assert "no section [ble]" in told and code == 2
    path.write_text(f'{CONFIG}[ble]\nsender = "off"\n')
    code, told = radios()
    assert code == 0 and 'sender = "off"' in told and "wrong:" not in told


def test_a_configuration_that_cannot_be_used_is_refused(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "keycast.toml").write_text(f'{CONFIG}[ble]\nsender = "bluetooth"\n')
    code, told = radios()
    assert code == 1 and "ble.sender: found 'bluetooth', expected 'auto', " in told


def test_without_the_extra_it_says_how_to_install_it(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(radio_survey, "find_spec", lambda name: None)
    code, told = radios()
    assert code == 2 and "Not installed: bleak, bumble, dbus_fast" in told and "-m pip install 'keycast[ble]'" in told


def test_the_driver_and_the_bus_of_an_adapter(tmp_path: Path) -> None:
    usb, drivers, buses = tmp_path / "1-2", tmp_path / "drivers", tmp_path / "bus"
    for folder in (usb / "1-2:1.0", drivers / "btusb", drivers / "hci_uart_bcm", buses / "usb", buses / "serial"):
        folder.mkdir(parents=True)
    (usb / "idVendor").write_text("0a12\n")
    (usb / "idProduct").write_text("0001\n")
    serial = tmp_path / "serial0-0"
    serial.mkdir()
    for device, driver, bus in ((usb / "1-2:1.0", "btusb", "usb"), (serial, "hci_uart_bcm", "serial")):
        (device / "driver").symlink_to(drivers / driver)
        (device / "subsystem").symlink_to(buses / bus)
    for name, device in (("hci0", serial), ("hci1", usb / "1-2:1.0")):
        (tmp_path / "class" / name).mkdir(parents=True)
        (tmp_path / "class" / name / "device").symlink_to(device)
    (tmp_path / "class" / "hci2").mkdir()
    assert radio_survey.hardware("hci0", tmp_path / "class") == ("hci_uart_bcm", "serial")
    assert radio_survey.hardware("hci1", tmp_path / "class") == ("btusb", "usb 0a12:0001")
    assert radio_survey.hardware("hci2", tmp_path / "class") == ("", "")


def test_a_running_gateway_tells_what_it_really_uses(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "keycast.toml").write_text(f"{CONFIG}[ble]\n")
    assert machine.sender is not None
    machine.sender.interval_ms = 1280.0  # its own is not asked
    told_by_gateway = Radio("bluez", "hci1", 100.0, 1, 0.2, in_vain={"mgmt": "Not permitted."})
    asked = []

    def ask(state_dir: Path, do: str, *more: Any) -> Any:
        asked.append((state_dir, do))
        return [json.loads(json.dumps(asdict(told_by_gateway)))]

    monkeypatch.setattr("gateway_agent.control_client.ask", ask)
    code, told = radios("--try")
    assert (
        code == 0 and "the gateway advertises by bluez on hci1: every 100 ms, 1 at a time, 5 payloads a second" in told
    )
    assert "not by mgmt: Not permitted." in told
    assert asked == [(Path("state"), "radios")] and machine.sender.taken == []
    monkeypatch.setattr(
        "gateway_agent.control_client.ask", lambda *words: [asdict(Radio("", in_vain={"mgmt": "No. Next: x"}))]
    )
    code, told = radios()
    assert code == 2 and "wrong: mgmt: No. Next: x" in told


def test_a_gateway_that_cannot_be_asked_is_told_and_one_that_does_not_answer_is_left_alone(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "keycast.toml").write_text(f"{CONFIG}[ble]\n")
    code, told = radios()
    assert code == 0 and "Nothing answers on" in told and "would advertise by mgmt" in told

    def never(*_: Any) -> Any:
        raise TimeoutError

    monkeypatch.setattr("gateway_agent.control_client.ask", never)
    code, told = radios("--try")
    assert code == 1 and "does not answer" in told
    assert machine.sender is not None and machine.sender.taken == []
