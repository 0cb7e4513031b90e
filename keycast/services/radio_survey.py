"""What `keycast radios` finds out: the Bluetooth adapters, the sender of adverts that works here, and what is wrong.

Without a trial nothing is changed and nothing is sent. What cannot be found out is empty.
"""

import asyncio
import contextlib
import platform
import secrets
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gateway_agent.radios import adapters
from gateway_agent.radios.adapters import Adapter
from gateway_agent.radios.ble import BleSection
from gateway_agent.radios.ble_sender import PAYLOAD_LEN, BleSender, NoSender, choose, radio_of
from gateway_agent.radios.medium import Radio

SYSFS = Path("/sys/class/bluetooth")
TRIAL_S = 10.0
"""How long a trial waits for a sender to advertise."""

_MANUFACTURER_DATA = 0xFF  # an AD type
_DAEMONS = "/usr/libexec/bluetooth:/usr/lib/bluetooth"
_BY_KERNEL = ("auto", "mgmt", "bluez")  # senders that use an adapter of the kernel
_PACKAGES = ("bleak", "bumble", "dbus_fast")


@dataclass(frozen=True)
class AdapterHere:
    """An adapter with its `driver`, such as "btusb", and its `bus`, such as "usb 0a12:0001"."""

    adapter: Adapter
    driver: str
    bus: str


@dataclass
class Survey:
    """What was found out.

    `bluez`: its version, "" if it is not installed; `missing`: packages of the extra `ble` that are not installed;
    `no_adapters`: why no adapter can be listed, with the next step; `wanted`: the value of `sender` in the
    configuration; `radio`: the sender in use, or that would be used, None with sender = "off"; `is_in_use`: a gateway
    runs and has told it.
    """

    wanted: str
    kernel: str = ""
    bluez: str = ""
    missing: Sequence[str] = ()
    adapters: list[AdapterHere] = field(default_factory=list)
    no_adapters: str = ""
    radio: Radio | None = None
    is_in_use: bool = False

    @property
    def problems(self) -> list[str]:
        """Why Group Keys do not go by adverts, or would not, in sentences with the next step; none if they do."""
        if self.radio is None:
            return []
        found = []
        if self.missing:
            found.append(
                f"Not installed: {', '.join(self.missing)}, without which no board is reached over Bluetooth. "
                f"Next: {sys.executable} -m pip install 'keycast[ble]'"
            )
        if self.radio.interval_ms and not self.radio.problem:  # it advertises
            return found
        if self.no_adapters and self.wanted in _BY_KERNEL:  # no sender can do without one, whatever else is wrong
            return [*found, self.no_adapters]
        if not self.radio.sender:
            found += [f"{name}: {why}" for name, why in self.radio.in_vain.items()]
        elif self.radio.problem:
            found.append(f"{self.radio.sender}: {self.radio.problem}")
        elif self.radio.sender == "bluez":  # whether it can is known when it has begun only
            from gateway_agent.radios.bluez_bus import fault_of_kernel  # of the extra `ble`, as the sender is

            found += filter(None, [fault_of_kernel(self.kernel)])
        if self.wanted in _BY_KERNEL:
            broken = [each.adapter.problem for each in self.adapters]
            found += broken if all(broken) else []
        return found


def survey(section: BleSection, used: Radio | None = None, try_it: bool = False) -> Survey:
    """Look at this machine as a gateway with this section would; `used` is what a running gateway told.

    `try_it`: let the sender, if no gateway runs, advertise random octets until it tells its interval, for TRIAL_S at
    most; it may switch its adapter on. The function blocks, and is called outside of an event loop.
    """
    found = Survey(
        section.sender, platform.release(), bluez_version(), [each for each in _PACKAGES if find_spec(each) is None]
    )
    found.radio, found.is_in_use = used, used is not None
    try:
        found.adapters = [AdapterHere(each, *hardware(each.name)) for each in adapters.look()]
    except OSError as error:
        found.no_adapters = (
            f"This kernel or container offers no Bluetooth ({error.strerror}). Next: sudo modprobe bluetooth; a "
            "container needs the network of the host"
        )
    except NoSender as refusal:
        found.no_adapters = str(refusal)
    else:
        if not found.adapters:
            found.no_adapters = (
                "There is no Bluetooth adapter. Next: plug one in; on a Raspberry Pi look for disable-bt in "
                "/boot/firmware/config.txt"
            )
    if used is None and section.sender != "off":
        found.radio = asyncio.run(_choice(section, try_it))
    return found


async def _choice(section: BleSection, try_it: bool) -> Radio:
    sender, in_vain = choose(section, Counter())
    if sender is None:
        return radio_of(None, in_vain)
    try:
        if not try_it:  # a sender that has not begun knows neither its interval nor what hinders it
            return Radio(sender.name, sender.adapter, in_vain=in_vain)
        await _advertise(sender, section.company_id)
        return radio_of(sender, in_vain)
    finally:
        await sender.close()


async def _advertise(sender: BleSender, company_id: int) -> None:
    """Send random octets until the sender tells its interval, TRIAL_S at most."""
    head = bytes([PAYLOAD_LEN - 1, _MANUFACTURER_DATA]) + company_id.to_bytes(2, "little")
    news = asyncio.Event()
    sender.start(lambda: head + secrets.token_bytes(PAYLOAD_LEN - len(head)), news.set)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(TRIAL_S):
            while not (sender.up and sender.interval_ms):
                await news.wait()
                news.clear()


def plain(radio: Radio | None) -> dict[str, Any] | None:
    """Return a radio as a JSON value, None for none."""
    if radio is None:
        return None
    in_vain = [{"sender": name, "reason": why} for name, why in radio.in_vain.items()]
    return asdict(radio) | {"interval_ms": radio.interval_ms or None, "in_vain": in_vain}


def bluez_version() -> str:
    """Return the version of the BlueZ that is installed, "" if none is found."""
    daemon = shutil.which("bluetoothd", path=_DAEMONS) or shutil.which("bluetoothd")
    try:
        said = subprocess.run([daemon or "bluetoothd", "--version"], capture_output=True, text=True, timeout=5).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return said.strip()


def hardware(name: str, sysfs: Path = SYSFS) -> tuple[str, str]:
    """Return the driver of the adapter `name` and how it is connected, such as ("btusb", "usb 0a12:0001").

    Both are "" for an adapter that the kernel shows without a device, as one of hciattach.
    """
    device = (sysfs / name / "device").resolve()
    if not device.is_dir():
        return "", ""
    driver = device / "driver"
    bus = device / "subsystem"
    connection = bus.resolve().name if bus.exists() else ""
    if connection == "usb":  # this is the interface of a USB device, which is the folder above
        connection = " ".join(
            ["usb", ":".join(_first_line(device.parent / each) for each in ("idVendor", "idProduct"))]
        )
    return driver.resolve().name if driver.exists() else "", connection


def _first_line(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return "?"
