"""The serial ports of this computer on which boards are, and who uses them.

Nothing in here opens a port: to open one can reset the board behind it.
"""

import contextlib
import fcntl
import getpass
import grp
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from keycast.board.faults import NoPort, PortForbidden, PortTaken
from keycast.hardware.board import Board
from keycast.hardware.catalogue import usb_matches
from keycast.places import RUN
from private_store import folders

CABLE_S = 10.0
"""Seconds that a command waits for a board to be connected."""

BACK_S = 10.0
"""Seconds within which the port of a board that was reset is back."""

LEAVE_S = 2.0
"""Seconds within which the port of a chip's own USB goes away when the chip is reset."""

VIRTUAL_BOARDS = RUN / "boards"
"""The folder in which a virtual board has its pseudo-terminal, as a symbolic link with the name of the board."""

LOCKS = RUN / "locks"

_POLL_S = 0.2
_PROC = Path("/proc")
_USB_DEVICES = Path("/sys/bus/usb/devices")
_UUCP_LOCKS = Path("/run/lock")


class Port(NamedTuple):
    """A serial port.

    `device` is its path, such as "/dev/ttyUSB0". `usb_id` is vendor:product such as "10c4:ea60", `serial` the serial
    number and `location` the place in the tree of USB sockets, such as "1-1.2"; each is None if unknown. `name` is what
    a person types: the path, or the name of a virtual board, which has no USB id.
    """

    device: str
    usb_id: str | None
    serial: str | None
    name: str
    location: str | None = None

    @property
    def is_virtual(self) -> bool:
        """True for the pseudo-terminal of a virtual board."""
        return self.name != self.device


def ports() -> list[Port]:
    """Return the ports of USB devices, and those of the virtual boards that run, in the order of their names."""
    from serial.tools import list_ports

    found = [
        Port(each.device, f"{each.vid:04x}:{each.pid:04x}", each.serial_number, each.device, _socket(each.location))
        for each in list_ports.comports()
        if each.vid is not None
    ]
    return sorted(found, key=lambda port: port.device) + _virtual()


def ports_of_boards(boards: dict[str, Board]) -> list[Port]:
    """Return the ports that may be those of `boards`: by their USB ids, or because the board is virtual."""
    return [port for port in ports() if _may_be_board(port, boards)]


def chosen(name: str | None, boards: dict[str, Board], wait_s: float = 0.0) -> Port:
    """Return the port that is named, or the only one with a board of `boards`, which are those we know.

    `name` is the name, the path or the serial number of a port, or a link to it such as those in /dev/serial/by-id.
    Waits up to `wait_s` seconds for a board to be connected. Raises NoPort, and PortTaken if brltty took the port.
    """
    end = time.monotonic() + wait_s
    while True:
        found = [port for port in ports() if _is_named(port, name)] if name else ports_of_boards(boards)
        if len(found) == 1:
            return found[0]
        if name and os.path.exists(name):
            return Port(name, None, None, name)  # of a UART of the computer itself
        if found:
            raise NoPort.several([port.name for port in found])
        if time.monotonic() >= end:
            break
        time.sleep(_POLL_S)
    if taken := taken_by_brltty(boards):
        raise PortTaken.by_brltty(taken)
    if name:
        raise NoPort.named(name, [port.name for port in ports()])
    raise NoPort.after(wait_s) if wait_s else NoPort.at_all()


def back_again(port: Port, wait_s: float = BACK_S, leave_s: float = 0.0) -> Port:
    """Return the port on which the board of `port` is after a reset: native USB can come back under another name.

    It is the port at the same USB socket or, if the socket is not known, with the same serial number. The port has
    `leave_s` seconds to go away first. Raises NoPort if none appears within `wait_s` seconds.
    """
    end = time.monotonic() + leave_s
    while os.path.exists(port.device) and time.monotonic() < end:
        time.sleep(_POLL_S)
    end = time.monotonic() + wait_s
    while True:
        if found := next((each for each in ports() if same_board(port, each)), None):
            return found
        if port.usb_id is None and os.path.exists(port.device):
            return port
        if time.monotonic() >= end:
            raise NoPort.gone(port.device, wait_s)
        time.sleep(_POLL_S)


def device_now(port: Port) -> str | None:
    """Return the device on which the board of `port` is at this moment, None while it is away."""
    if found := next((each for each in ports() if same_board(port, each)), None):
        return found.device
    is_of_computer = port.usb_id is None and not port.is_virtual  # such a UART is in no list
    return port.device if is_of_computer and os.path.exists(port.device) else None


def same_board(one: Port, other: Port) -> bool:
    """Return whether two ports, seen at different times, are those of the same board."""
    if one.is_virtual or other.is_virtual:
        return one.name == other.name
    if one.location is not None and other.location is not None:
        return one.location == other.location
    if one.serial is not None and other.serial is not None:
        return one.serial == other.serial
    return one.device == other.device


def users(port: Port) -> list[tuple[int, str]]:
    """Return (pid, name) of each other process that has the port open, as far as this user may see them.

    The process that stands for a virtual board does not count.
    """
    device = os.path.realpath(port.device)
    found = {pid for pid in _processes() if _has_open(pid, device) and not _is_front(pid, device)}
    found |= _uucp_lock(device)
    return [(pid, _name(pid)) for pid in sorted(found - {os.getpid()})]


def require_free(port: Port) -> None:
    """Raise NoPort, PortForbidden or PortTaken if the port cannot be opened now. It is not opened to find that out."""
    try:
        status = os.stat(port.device)
    except FileNotFoundError:
        raise NoPort.named(port.name, [each.name for each in ports()]) from None
    if not os.access(port.device, os.R_OK | os.W_OK):
        try:
            group = grp.getgrgid(status.st_gid)
        except KeyError:
            raise PortForbidden.of(port.device, str(status.st_gid), is_member=False) from None
        raise PortForbidden.of(port.device, group.gr_name, getpass.getuser() in group.gr_mem)
    if found := users(port):
        raise PortTaken.by(port.device, found)


@contextlib.contextmanager
def locked(port: Port, command: str) -> Iterator[None]:
    """Keep other commands of keycast away from the board while the `with` block runs. `command` is the present one.

    The lock is that of the board, not of its port: it holds while the port goes away and comes back. Raises PortTaken,
    and what `require_free` raises.
    """
    folders.make(LOCKS)
    with open(LOCKS / re.sub(r"[^\w.:-]", "_", port.location or port.device), "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            pid, _, other = file.read().partition(" ")
            raise PortTaken.by(port.name, [(int(pid), other)] if pid.isdecimal() else []) from None
        file.truncate(0)
        file.write(f"{os.getpid()} {command}")
        file.flush()
        require_free(port)
        yield


def taken_by_brltty(boards: dict[str, Board]) -> str | None:
    """Return the USB id of a bridge of `boards` whose port brltty took away, None if there is none.

    brltty takes USB-to-UART bridges for Braille displays: it claims them through usbfs, and their port disappears.
    """
    if not any(_name(pid) == "brltty" for pid in _processes()):
        return None
    for driver in sorted(_USB_DEVICES.glob("*/*:*/driver")):
        if driver.resolve().name == "usbfs" and usb_matches(found := _usb_id(driver.parent.parent), boards):
            return found
    return None


def front_file(link: Path) -> Path:
    """Return the file beside the `link` of a virtual board in which the process that stands for it writes its pid."""
    return link.with_name(f".{link.name}")


def _virtual() -> list[Port]:
    links = sorted(VIRTUAL_BOARDS.iterdir()) if VIRTUAL_BOARDS.is_dir() else []
    return [Port(str(link.resolve()), None, None, link.name) for link in links if link.is_symlink() and _is_live(link)]


def _is_live(link: Path) -> bool:
    """Return whether the port of a virtual board is its own still.

    That of a process that was killed may be another program's by now, for example a person's terminal.
    """
    try:
        pid = int(front_file(link).read_text())
    except (OSError, ValueError):
        return False
    return link.exists() and _is_front(pid, str(link.resolve()))


def _is_named(port: Port, name: str) -> bool:
    return name in (port.name, port.serial) or os.path.realpath(name) == os.path.realpath(port.device)


def _may_be_board(port: Port, boards: dict[str, Board]) -> bool:
    return port.is_virtual or (port.usb_id is not None and bool(usb_matches(port.usb_id, boards)))


def _socket(location: str | None) -> str | None:
    """Return the USB socket of a location such as "1-1.2:1.0", which ends with the interface of the device."""
    return location.partition(":")[0] if location else None


def _processes() -> list[int]:
    return [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal()]


def _name(pid: int) -> str:
    try:
        return (_PROC / str(pid) / "comm").read_text().strip()
    except OSError:
        return "ended"


def _has_open(pid: int, device: str) -> bool:
    """Return whether a process has the device open, and not a pseudo-terminal of the same name in a container."""
    for number, target in _descriptors(pid):
        if target == device:
            with contextlib.suppress(OSError):
                theirs, ours = os.stat(_PROC / str(pid) / "fd" / number), os.stat(device)
                if theirs.st_rdev == ours.st_rdev and (theirs.st_dev == ours.st_dev or "/pts/" not in device):
                    return True
    return False


def _descriptors(pid: int) -> Iterator[tuple[str, str]]:
    """Yield number and path of each open file of a process; none of another user's, or of one that has ended."""
    folder = _PROC / str(pid) / "fd"
    try:
        numbers = os.listdir(folder)
    except OSError:
        return
    for number in numbers:
        with contextlib.suppress(OSError):
            yield number, os.readlink(folder / number)


def _is_front(pid: int, device: str) -> bool:
    """Return whether a process has the other end of the pseudo-terminal `device`, and so is the board itself."""
    wanted = f"tty-index:\t{device.rpartition('/')[2]}\n"
    for number, target in _descriptors(pid):
        if target.endswith("/ptmx"):
            with contextlib.suppress(OSError):
                if wanted in (_PROC / str(pid) / "fdinfo" / number).read_text():
                    return True
    return False


def _uucp_lock(device: str) -> set[int]:
    """Return the process that has a lock file for the device, as minicom and others make it."""
    try:
        pid = int((_UUCP_LOCKS / f"LCK..{device.rpartition('/')[2]}").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return set()
    return {pid} if (_PROC / str(pid)).is_dir() else set()


def _usb_id(device: Path) -> str:
    try:
        return ":".join((device / name).read_text().strip() for name in ("idVendor", "idProduct"))
    except OSError:
        return ""
