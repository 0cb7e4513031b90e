"""bluetoothd on the system bus: its adapters, what it makes of the interval of adverts, and its refusals in words.

MinInterval and MaxInterval of an advert count if bluetoothd is 5.77 or later, or runs with --experimental. It then also
shows the property SupportedFeatures of its advertising manager, which is how that is recognised here: the same change
of BlueZ took both out of the experimental ones.
"""

import asyncio
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dbus_fast import BusType, Message, MessageType, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.errors import AuthError, DBusFastError

BLUEZ = "org.bluez"
ADAPTER = "org.bluez.Adapter1"
ADVERTISING_MANAGER = "org.bluez.LEAdvertisingManager1"
SYSTEM_BUS = "unix:path=/run/dbus/system_bus_socket"
CALL_MAX_S = 10.0
"""bluetoothd answers a registration when the kernel has answered, which waits 2 s for each command of a controller."""
IN_SILENCE = "org.keycast.Error.NoAnswer"

_PROPERTIES = "org.freedesktop.DBus.Properties"
_DBUS = "org.freedesktop.DBus"
_ASKED_MS, _LEGACY_MS, _DEFAULT_MS = 20.0, 100.0, 1280.0
_FAULTY_KERNELS = ("6.12.93", "6.18.34")

Signals = Callable[[Message], None]


class BluezError(Exception):
    """A call that failed. `name` is that of the D-Bus error, the text its message."""

    def __init__(self, name: str, text: str = "") -> None:
        super().__init__(text or name)
        self.name = name


@dataclass(frozen=True, slots=True)
class BluezAdapter:
    """One adapter as bluetoothd sees it.

    `can_advertise`: it has an advertising manager; `is_extended`: its controller has extended advertising;
    `keeps_interval`: the interval that is asked for counts; `active`, `free`: adverts that are and can be registered.
    """

    path: str
    address: str
    is_powered: bool
    can_advertise: bool
    is_extended: bool
    keeps_interval: bool
    active: int
    free: int

    @property
    def name(self) -> str:
        """The name of the adapter, such as "hci0"."""
        return self.path.rpartition("/")[2]

    @property
    def interval_ms(self) -> float:
        """The interval that adverts really have, in milliseconds, unless main.conf of bluetoothd has another."""
        if not self.is_extended:
            return _LEGACY_MS
        return _ASKED_MS if self.keeps_interval else _DEFAULT_MS

    @property
    def advice(self) -> str:
        """How to shorten the interval, "" if that is not possible or not needed."""
        if self.interval_ms != _DEFAULT_MS:
            return ""
        return (
            f"bluetoothd sends each advert every {_DEFAULT_MS / 1000:.2f} s only, as it ignores the interval that is "
            "asked for. Next: BlueZ 5.77 or later; or Experimental = true in the section [General] of "
            "/etc/bluetooth/main.conf, then: systemctl restart bluetooth"
        )


class Bluez:
    """A connection to the system bus, for calls to bluetoothd."""

    def __init__(self, bus: MessageBus) -> None:
        """`bus` is connected."""
        self.bus = bus
        self._owner = ""  # the name of bluetoothd's connection
        self._is_closed = False
        self._end: asyncio.Future[None] | None = None

    @property
    def is_open(self) -> bool:
        """False once the connection has ended."""
        return bool(self.bus.connected)

    async def is_running(self) -> bool:
        """Return whether bluetoothd runs; it is not started by this call. Raises BluezError."""
        try:
            (self._owner,) = await self._ask_bus("GetNameOwner", "s", BLUEZ)
        except BluezError as error:
            if not error.name.endswith(".NameHasNoOwner"):
                raise
            self._owner = ""
        return bool(self._owner)

    async def start(self) -> None:
        """Start bluetoothd unless it runs, if the system lets D-Bus do so. Raises BluezError."""
        await self._ask_bus("StartServiceByName", "su", BLUEZ, 0)

    async def follow(self, signals: Signals, lost: Callable[[], None]) -> None:
        """Call `signals` with each change of bluetoothd's name, objects and properties; `lost` if the bus hangs up.

        Raises BluezError.
        """

        def handle(message: Message) -> None:
            if message.message_type is not MessageType.SIGNAL:
                return
            if message.sender == _DBUS and message.member == "NameOwnerChanged" and message.body[0] == BLUEZ:
                self._owner = message.body[2]
            elif not self._owner or message.sender != self._owner:
                return  # every process may send signals to this one
            signals(message)

        def ended(end: "asyncio.Future[None]") -> None:
            if not end.cancelled():
                end.exception()  # the reason does not matter
            if not self._is_closed:
                lost()

        self._end = asyncio.ensure_future(self.bus.wait_for_disconnect())  # type: ignore[no-untyped-call]
        self._end.add_done_callback(ended)
        self.bus.add_message_handler(handle)
        rules = (
            f"type='signal',sender='{_DBUS}',member='NameOwnerChanged',arg0='{BLUEZ}'",
            f"type='signal',sender='{BLUEZ}',interface='org.freedesktop.DBus.ObjectManager'",
            f"type='signal',sender='{BLUEZ}',interface='{_PROPERTIES}',arg0='{ADAPTER}'",
        )
        for rule in rules:
            await self._ask_bus("AddMatch", "s", rule)

    async def adapters(self) -> list[BluezAdapter]:
        """Return all adapters that bluetoothd knows, in the order of their names. Raises BluezError."""
        (objects,) = await self.call("/", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")
        found = [_adapter(path, interfaces) for path, interfaces in objects.items() if ADAPTER in interfaces]
        return sorted(found, key=lambda adapter: adapter.name)

    async def switch(self, path: str, is_on: bool) -> None:
        """Switch an adapter on or off. Raises BluezError."""
        await self.call(path, _PROPERTIES, "Set", "ssv", ADAPTER, "Powered", Variant("b", is_on))

    async def is_scanning(self, path: str) -> bool:
        """Return whether an adapter scans for some program, as bluetoothd takes it. Raises BluezError."""
        (value,) = await self.call(path, _PROPERTIES, "Get", "ss", ADAPTER, "Discovering")
        return bool(value.value)

    async def register(self, path: str, advert: str) -> None:
        """Register the advert that is exported at a path of this connection. Raises BluezError."""
        await self.call(path, ADVERTISING_MANAGER, "RegisterAdvertisement", "oa{sv}", advert, {})

    async def unregister(self, path: str, advert: str) -> None:
        """Take an advert back. Raises BluezError."""
        await self.call(path, ADVERTISING_MANAGER, "UnregisterAdvertisement", "o", advert)

    async def call(self, path: str, interface: str, member: str, signature: str = "", *body: Any) -> list[Any]:
        """Call a method of bluetoothd; return its result. Raises BluezError."""
        return await self._call(BLUEZ, path, interface, member, signature, *body)

    def close(self) -> None:
        """Close the connection; bluetoothd then drops what was registered on it."""
        self._is_closed = True
        if self.bus.connected:
            self.bus.disconnect()

    async def _ask_bus(self, member: str, signature: str, *body: Any) -> list[Any]:
        return await self._call(_DBUS, "/org/freedesktop/DBus", _DBUS, member, signature, *body)

    async def _call(
        self, destination: str, path: str, interface: str, member: str, signature: str, *body: Any
    ) -> list[Any]:
        message = Message(
            destination=destination,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=list(body),
        )
        try:
            async with asyncio.timeout(CALL_MAX_S):
                answer = await self.bus.call(message)
        except TimeoutError:
            raise BluezError(IN_SILENCE, f"{member} has no answer") from None
        except (OSError, EOFError, DBusFastError) as error:
            raise BluezError("org.freedesktop.DBus.Error.Disconnected", str(error)) from None
        if answer is None:
            raise BluezError("org.freedesktop.DBus.Error.Disconnected", "the system bus has closed the connection")
        if answer.message_type is MessageType.ERROR:
            raise BluezError(str(answer.error_name), str(answer.body[0]) if answer.body else "")
        return list(answer.body)


def system_bus() -> str:
    """Return the address of the system bus."""
    return os.environ.get("DBUS_SYSTEM_BUS_ADDRESS", SYSTEM_BUS)


async def connect(address: str = "") -> Bluez:
    """Return a new connection to the bus with this address, by default the system bus. Raises BluezError."""
    try:
        return Bluez(await MessageBus(address or system_bus(), BusType.SYSTEM).connect())
    except (OSError, AuthError, DBusFastError, EOFError) as error:
        raise BluezError("org.freedesktop.DBus.Error.NoServer", str(error)) from None


def in_words(error: BluezError, adapter: str, kernel: str = "") -> str:
    """Return why bluetoothd or the bus has refused something, as a sentence for people with the next step.

    `kernel` is the release of the running kernel, by default that of this machine.
    """
    release = kernel or platform.release()
    name, text = error.name.rpartition(".")[2], str(error)
    if name in ("NoServer", "Disconnected"):
        return f"there is no system bus ({text}). Next: systemctl start dbus; in a container, mount /run/dbus"
    if name in ("ServiceUnknown", "NameHasNoOwner", "NoReply", "NoSuchUnit") or ".Spawn." in error.name:
        return "bluetoothd does not run. Next: systemctl start bluetooth"
    if name == "AccessDenied":
        return (
            "the policy of D-Bus does not let this user speak to bluetoothd. Next: add the user to the group bluetooth "
            "(usermod -aG bluetooth USER) and log in anew"
        )
    if name == "NotPermitted" and "Maximum advertisements" in text:
        return f"all adverts that {adapter} can have are those of other programs. Next: end one of these programs"
    if name == "Blocked" or "rfkill" in text.lower():
        return f"{adapter} is blocked by rfkill (airplane mode). Next: rfkill unblock bluetooth"
    if text == "Failed to register advertisement":
        return _registration_in_words(adapter, release)
    if name == "NoAnswer":
        return f"bluetoothd does not answer ({text}). Next: systemctl restart bluetooth"
    return f"bluetoothd refuses adverts on {adapter}: {text}. Next: systemctl restart bluetooth"


def fault_of_kernel(release: str) -> str:
    """Return what is known to be wrong with adverts by bluetoothd on a kernel, with the next step; "" for nothing."""
    version = release.partition("+")[0].partition("-")[0]
    if version not in _FAULTY_KERNELS:
        return ""
    return (
        f"BlueZ of June 2026 and before cannot register adverts on the kernel {version} of Raspberry Pi OS, which is a "
        "known fault of the two together (bluez issue 2269, raspberrypi/linux issue 7473): Failed to register "
        'advertisement. Next: sender = "mgmt" in [ble], which needs the capability CAP_NET_ADMIN; or a newer kernel '
        "or BlueZ"
    )


def _registration_in_words(adapter: str, release: str) -> str:
    return fault_of_kernel(release) or (
        f"the kernel refuses the advert of bluetoothd on {adapter} (Failed to register advertisement). "
        'Next: a newer kernel or BlueZ; or sender = "mgmt" in [ble]'
    )


def _adapter(path: str, interfaces: dict[str, dict[str, Variant]]) -> BluezAdapter:
    of_adapter = {name: value.value for name, value in interfaces[ADAPTER].items()}
    manager = {name: value.value for name, value in interfaces.get(ADVERTISING_MANAGER, {}).items()}
    return BluezAdapter(
        path=path,
        address=str(of_adapter.get("Address", "")),
        is_powered=bool(of_adapter.get("Powered", False)),
        can_advertise=ADVERTISING_MANAGER in interfaces,
        is_extended="SupportedSecondaryChannels" in manager,
        keeps_interval="SupportedFeatures" in manager,
        active=int(manager.get("ActiveInstances", 0)),
        free=int(manager.get("SupportedInstances", 0)),
    )
