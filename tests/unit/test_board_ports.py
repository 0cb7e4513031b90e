"""The ports on which boards are: found, chosen, followed, and never taken from another program."""

import contextlib
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from serial.tools import list_ports

from keycast.board import ports
from keycast.board.faults import BoardFault, NoPort, PortForbidden, PortTaken
from keycast.board.ports import Port
from keycast.hardware.catalogue import all_boards
from tests.privileges import needs_root

BOARDS = all_boards()
BRIDGE = Port("/dev/ttyUSB0", "10c4:ea60", "0001", "/dev/ttyUSB0", "1-1.2")
MOUSE = Port("/dev/ttyACM9", "1546:01a7", None, "/dev/ttyACM9", "1-1.4")
OPEN = "import os, sys; os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY); print(flush=True); sys.stdin.read()"
FRONT = "import os, sys; m, s = os.openpty(); print(os.ttyname(s), flush=True); sys.stdin.read()"


@pytest.fixture(autouse=True)
def plugged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Port]:
    """The USB ports of this computer, to be filled by the test; and no others, no brltty, no locks of others."""
    there: list[Port] = []
    monkeypatch.setattr(list_ports, "comports", lambda: [seen(port) for port in there])
    monkeypatch.setattr(ports, "VIRTUAL_BOARDS", tmp_path / "boards")
    monkeypatch.setattr(ports, "LOCKS", tmp_path / "locks")
    monkeypatch.setattr(ports, "_UUCP_LOCKS", tmp_path)
    monkeypatch.setattr(ports, "_USB_DEVICES", tmp_path / "usb")
    return there


def seen(port: Port) -> SimpleNamespace:
    """What pyserial says of a port."""
    vid, pid = (int(each, 16) for each in (port.usb_id or ":").split(":"))
    return SimpleNamespace(
        device=port.device, vid=vid, pid=pid, serial_number=port.serial, location=f"{port.location}:1.0"
    )


@contextlib.contextmanager
def process(code: str, *arguments: str) -> Iterator[tuple[int, str]]:
    """A program of Python while it waits: its pid and the first line that it prints."""
    command = [sys.executable, "-c", code, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin and child.stdout
        try:
            yield child.pid, child.stdout.readline().strip()
        finally:
            child.stdin.close()


@pytest.fixture
def terminal() -> Iterator[str]:
    """A pseudo-terminal, as a port."""
    front, back = pty.openpty()
    yield os.ttyname(back)
    os.close(front)
    os.close(back)


def virtual(name: str, device: str) -> Port:
    ports.VIRTUAL_BOARDS.mkdir(exist_ok=True)
    link = ports.VIRTUAL_BOARDS / name
    link.symlink_to(device)
    ports.front_file(link).write_text(str(os.getpid()))
    return Port(device, None, None, name)


def of(device: str) -> Port:
    return Port(device, None, None, device)


def test_the_port_of_a_virtual_board_that_was_killed_may_be_a_persons_terminal(
    plugged: list[Port], terminal: str
) -> None:
    lamp = virtual("lamp", terminal)
    assert [port.name for port in ports.ports()] == ["lamp"]
    with process("print(); input()") as (other, _):
        ports.front_file(ports.VIRTUAL_BOARDS / "lamp").write_text(str(other))
        assert not ports.ports(), "its process has no such terminal"
    ports.front_file(ports.VIRTUAL_BOARDS / "lamp").unlink()
    assert not ports.ports()
    assert ports.device_now(lamp) is None, "a monitor that waits for the board opens it"
    assert ports.device_now(of(terminal)) == terminal


def test_usb_ports_and_virtual_boards_are_listed(plugged: list[Port], terminal: str) -> None:
    plugged += [BRIDGE, MOUSE]
    lamp = virtual("lamp", terminal)
    virtual("gone", "/dev/pts/no-such")
    assert ports.ports() == [MOUSE, BRIDGE, lamp]
    assert [port.is_virtual for port in ports.ports()] == [False, False, True]


def test_the_only_board_is_chosen_without_a_name(plugged: list[Port]) -> None:
    plugged += [MOUSE, BRIDGE]
    assert ports.chosen(None, BOARDS) == BRIDGE


def test_a_board_is_chosen_by_path_serial_number_or_link(plugged: list[Port], terminal: str, tmp_path: Path) -> None:
    plugged += [BRIDGE, MOUSE]
    lamp = virtual("lamp", terminal)
    link = tmp_path / "by-id"
    link.symlink_to("/dev/ttyACM9")
    for name, port in {"/dev/ttyUSB0": BRIDGE, "0001": BRIDGE, str(link): MOUSE, "lamp": lamp, terminal: lamp}.items():
        assert ports.chosen(name, BOARDS) == port


def test_a_port_that_is_no_usb_device_is_used_if_it_is_named(terminal: str) -> None:
    assert ports.chosen(terminal, BOARDS) == of(terminal)


def test_no_board_several_boards_and_a_name_that_is_none(plugged: list[Port]) -> None:
    with pytest.raises(NoPort, match="No board is connected to this computer"):
        ports.chosen(None, BOARDS)
    with pytest.raises(NoPort, match=r"no port or virtual board lamp\. No board is connected"):
        ports.chosen("lamp", BOARDS)
    plugged += [BRIDGE, BRIDGE._replace(device="/dev/ttyUSB1")]
    with pytest.raises(NoPort, match="Name one: --port /dev/ttyUSB0 or --port /dev/ttyUSB1"):
        ports.chosen(None, BOARDS)
    with pytest.raises(NoPort, match="There is /dev/ttyUSB0, /dev/ttyUSB1"):
        ports.chosen("/dev/ttyUSB7", BOARDS)


def test_a_cable_without_data_lines_is_named_after_a_wait() -> None:
    with pytest.raises(NoPort, match="carries power and no data: take another cable"):
        ports.chosen(None, BOARDS, wait_s=0.01)


def test_a_board_that_is_connected_during_the_wait_is_chosen(
    plugged: list[Port], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports.time, "sleep", lambda _: plugged.append(BRIDGE))
    assert ports.chosen(None, BOARDS, wait_s=3600) == BRIDGE


def test_a_port_is_followed_to_another_name_by_its_socket_or_serial_number(plugged: list[Port]) -> None:
    native = Port("/dev/ttyACM0", "303a:1001", "AA:BB", "/dev/ttyACM0", "1-1.3")
    later = Port("/dev/ttyACM1", "303a:4001", "aabb", "/dev/ttyACM1", "1-1.3")
    plugged += [MOUSE, later]
    assert ports.back_again(native) == later
    assert ports.back_again(native._replace(location=None, serial="aabb")) == later
    with pytest.raises(NoPort, match="/dev/ttyACM0 went away and did not come back"):
        ports.back_again(native._replace(location="1-1.9"), wait_s=0.01)


def test_a_port_that_is_to_go_away_has_time_for_that(
    plugged: list[Port], terminal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Port(terminal, "303a:1001", None, terminal, "1-1.3")
    after = before._replace(device="/dev/ttyACM1")
    plugged.append(before)

    def go_away(_: float) -> None:
        plugged[:] = [after]
        monkeypatch.setattr(ports.os.path, "exists", lambda path: path != terminal)

    monkeypatch.setattr(ports.time, "sleep", go_away)
    assert ports.back_again(before, leave_s=3600).device == after.device


def test_the_program_that_has_a_port_open_is_named(terminal: str) -> None:
    assert ports.users(of(terminal)) == []
    ports.require_free(of(terminal))
    with process(OPEN, terminal) as (pid, _):
        assert [each for each, _ in ports.users(of(terminal))] == [pid]
        with pytest.raises(PortTaken, match=rf"in use by python\S* \(process {pid}\). End that program"):
            ports.require_free(of(terminal))
    assert ports.users(of(terminal)) == []


@needs_root
def test_a_terminal_of_the_same_name_in_a_container_is_another_one(terminal: str) -> None:
    number = int(terminal.rpartition("/")[2])
    code = (
        "import ctypes, os, sys\n"
        "assert ctypes.CDLL(None).unshare(0x20000) == 0\n"  # CLONE_NEWNS
        "os.system('mount --make-rprivate / && mount -t devpts -o newinstance,ptmxmode=0666 devpts /dev/pts')\n"
        "os.system('mount --bind /dev/pts/ptmx /dev/ptmx')\n"
        "for _ in range(int(sys.argv[1]) + 1):\n"
        "    front, back = os.openpty()\n"
        "if os.fork():\n"
        "    sys.stdin.read()\n"  # the front stays with the parent
        "    os._exit(0)\n"
        "os.closerange(3, back)\n"
        "print(os.ttyname(back), flush=True)\n"
        "sys.stdin.read()"
    )
    with process(code, str(number)) as (_, name):
        assert name == terminal
        ports.require_free(of(terminal))


def test_the_process_that_is_a_virtual_board_does_not_count_as_a_user() -> None:
    with process(FRONT) as (_, device):
        assert ports.users(of(device)) == []


def test_a_lock_file_names_a_program_of_another_user(terminal: str, tmp_path: Path) -> None:
    lock = tmp_path / f"LCK..{terminal.rpartition('/')[2]}"
    with process("import sys; print(flush=True); sys.stdin.read()") as (pid, _):
        lock.write_text(f"{pid:10d}\n")
        assert [each for each, _ in ports.users(of(terminal))] == [pid]
    for left_over in (f"{pid:10d}\n", "", "x"):
        lock.write_text(left_over)
        assert ports.users(of(terminal)) == []


@pytest.mark.parametrize(("members", "step"), [([], "sudo usermod -aG dialout"), (["me"], "log out and in again")])
def test_a_port_that_may_not_be_opened_names_its_group(
    terminal: str, members: list[str], step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(ports.getpass, "getuser", lambda: "me")
    monkeypatch.setattr(ports.grp, "getgrgid", lambda _: SimpleNamespace(gr_name="dialout", gr_mem=members))
    with pytest.raises(PortForbidden, match=rf"belongs to the group dialout\. .*{step}"):
        ports.require_free(of(terminal))


def test_two_commands_never_use_one_board(terminal: str) -> None:
    board = of(terminal)
    mine = rf"keycast board flash \(process {os.getpid()}\)"
    with ports.locked(board, "keycast board flash"), pytest.raises(PortTaken, match=mine):
        ports.locked(board, "keycast board monitor").__enter__()
    with ports.locked(board, "keycast board monitor"):
        pass


def test_a_lock_holds_while_the_port_comes_back_under_another_name(terminal: str) -> None:
    one = Port(terminal, "303a:1001", None, terminal, "1-1.3")
    with ports.locked(one, "keycast board flash"), pytest.raises(PortTaken):
        ports.locked(one._replace(device="/dev/ttyACM1"), "keycast board monitor").__enter__()


@pytest.mark.parametrize(("driver", "name", "taken"), [("usbfs", "brltty", True), ("ch341", "brltty", False),
                                                       ("usbfs", "qemu", False)])  # fmt: skip
def test_a_bridge_that_brltty_took_is_named(
    driver: str, name: str, taken: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    interface = tmp_path / "usb" / "1-1" / "1-1:1.0"
    interface.mkdir(parents=True)
    (tmp_path / driver).mkdir()
    (interface / "driver").symlink_to(tmp_path / driver)
    (interface.parent / "idVendor").write_text("1a86\n")
    (interface.parent / "idProduct").write_text("7523\n")
    running = tmp_path / "proc" / "77"
    running.mkdir(parents=True)
    (running / "comm").write_text(f"{name}\n")
    monkeypatch.setattr(ports, "_PROC", tmp_path / "proc")
    with pytest.raises(BoardFault) as caught:
        ports.chosen(None, BOARDS)
    assert isinstance(caught.value, PortTaken) == taken
    if taken:
        assert "brltty, took the port of the USB-to-UART bridge 1a86:7523" in str(caught.value)
        assert "sudo apt remove brltty" in caught.value.next_step
