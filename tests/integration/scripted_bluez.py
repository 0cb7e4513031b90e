"""A scripted bluetoothd on a real D-Bus daemon with an address of its own: not BlueZ, but as bluetoothd is observed.

It reads the advert's properties back over the bus, follows their changes with the delay of a controller, names its
errors as BlueZ does, ignores the interval where the real one does, and dies of an unregistration while a change is
under way, as 5.66 does. `on_air` has (moment, payload) of each payload that the controller was given.
"""

import asyncio
import subprocess
from pathlib import Path

from dbus_fast import Message, MessageType, Variant
from dbus_fast.aio import MessageBus

BLUEZ, DBUS_PROPERTIES = "org.bluez", "org.freedesktop.DBus.Properties"
OBJECT_MANAGER = "org.freedesktop.DBus.ObjectManager"
ADAPTER, MANAGER = "org.bluez.Adapter1", "org.bluez.LEAdvertisingManager1"
CONTROLLER_S = 0.03
"""How long a change of an advert is under way in bluetoothd and the kernel."""

CONFIGURATION = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path={path}</listen>
  <servicedir>{services}</servicedir>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/><allow own="*"/><allow send_type="*"/><allow receive_type="*"/>
    <allow send_destination="*" eavesdrop="true"/>
    {denied}
  </policy>
</busconfig>
"""


class PrivateBus:
    """A D-Bus daemon of the test alone. With `denies` its policy lets nobody speak to bluetoothd."""

    def __init__(self, folder: Path, denies: bool = False) -> None:
        denied = f'<deny send_destination="{BLUEZ}"/>' if denies else ""
        configuration = folder / "bus.conf"
        services = folder / "services"
        services.mkdir(exist_ok=True)
        self.was_asked_to_start = folder / "started"
        service = f"[D-BUS Service]\nName={BLUEZ}\nExec=/bin/sh -c 'touch {self.was_asked_to_start}; exit 1'\n"
        (services / "org.bluez.service").write_text(service)
        configuration.write_text(CONFIGURATION.format(path=folder / "bus", denied=denied, services=services))
        self.address = f"unix:path={folder / 'bus'}"
        self._process = subprocess.Popen(
            ["dbus-daemon", f"--config-file={configuration}", "--nofork", "--print-address"], stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline(), "the daemon says its address when it is ready"

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


class ScriptedBluez:
    """One bluetoothd. `fails` has (D-Bus error name, text) with which registrations are refused."""

    def __init__(self, address: str, *, keeps_interval: bool = True, extended: bool = True, dies: bool = True) -> None:
        self.address = address
        self.keeps_interval = keeps_interval
        self.extended = extended
        self.dies = dies
        self.powered = {"hci0": True}
        self.instances = 4
        self.is_blocked = False
        self.fails: tuple[str, str] | None = None
        self.registered: dict[tuple[str, str], str] = {}  # (owner, path) -> adapter
        self.on_air: list[tuple[float, bytes]] = []
        self.calls: list[str] = []
        self.has_died = False
        self.intervals: list[int] = []
        self._bus: MessageBus | None = None
        self._pending_until = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def payloads(self) -> list[bytes]:
        return [payload for _, payload in self.on_air]

    async def start(self) -> "ScriptedBluez":
        self._bus = await MessageBus(self.address).connect()
        self._bus.add_message_handler(self._handle)
        rule = f"type='signal',interface='{DBUS_PROPERTIES}'"
        await self._bus.call(_to_bus("AddMatch", "s", rule))
        await self._bus.request_name(BLUEZ)
        return self

    def stop(self) -> None:
        """End as a process does that is killed."""
        for task in self._tasks:
            task.cancel()
        if self._bus is not None and self._bus.connected:
            self._bus.disconnect()
        self.registered.clear()

    def switch(self, adapter: str, is_on: bool) -> None:
        self.powered[adapter] = is_on
        changed = {"Powered": Variant("b", is_on)}
        self._signal(f"/org/bluez/{adapter}", DBUS_PROPERTIES, "PropertiesChanged", "sa{sv}as", [ADAPTER, changed, []])

    def pull_out(self, adapter: str = "hci0") -> None:
        del self.powered[adapter]
        for (owner, path), name in list(self.registered.items()):
            if name == adapter:
                del self.registered[owner, path]
                self._send(
                    Message(destination=owner, path=path, interface="org.bluez.LEAdvertisement1", member="Release")
                )
        self._signal("/", OBJECT_MANAGER, "InterfacesRemoved", "oas", [f"/org/bluez/{adapter}", [ADAPTER, MANAGER]])

    def plug_in(self, adapter: str = "hci0") -> None:
        self.powered[adapter] = True
        self._signal(
            "/", OBJECT_MANAGER, "InterfacesAdded", "oa{sa{sv}}", [f"/org/bluez/{adapter}", self._object(adapter)]
        )

    def find_device(self) -> None:
        """Tell of a device that a scan has found."""
        path = "/org/bluez/hci0/dev_00_11_22_33_44_55"
        self._signal("/", OBJECT_MANAGER, "InterfacesAdded", "oa{sa{sv}}", [path, {"org.bluez.Device1": {}}])

    def _object(self, adapter: str) -> dict[str, dict[str, Variant]]:
        manager = {
            "ActiveInstances": Variant("y", len(self.registered)),
            "SupportedInstances": Variant("y", self.instances - len(self.registered)),
        }
        if self.extended:
            manager["SupportedSecondaryChannels"] = Variant("as", ["1M"])
        if self.keeps_interval:
            manager["SupportedFeatures"] = Variant("as", [])
        of_adapter = {"Address": Variant("s", "00:11:22:33:44:00"), "Powered": Variant("b", self.powered[adapter])}
        return {ADAPTER: of_adapter, MANAGER: manager}

    def _handle(self, message: Message) -> Message | bool | None:
        if message.message_type is MessageType.SIGNAL:
            if message.member == "PropertiesChanged" and (message.sender, message.path) in self.registered:
                self._change(message.body[1]["ManufacturerData"].value)
            return None
        if message.message_type is not MessageType.METHOD_CALL or message.path is None:
            return None
        self.calls.append(str(message.member))
        if message.member == "GetManagedObjects":
            objects = {f"/org/bluez/{name}": self._object(name) for name in self.powered}
            return Message.new_method_return(message, "a{oa{sa{sv}}}", [objects])
        if message.member == "Set":
            return self._set_powered(message)
        if message.member == "RegisterAdvertisement":
            self._begin(self._register(message))
            return True
        if message.member == "UnregisterAdvertisement":
            return self._unregister(message)
        return None

    def _set_powered(self, message: Message) -> Message:
        if self.is_blocked:
            return _error(message, "org.bluez.Error.Failed", "Blocked through rfkill")
        self.switch(message.path.rpartition("/")[2], message.body[2].value)
        return Message.new_method_return(message)

    async def _register(self, message: Message) -> None:
        key = (str(message.sender), str(message.body[0]))
        adapter = message.path.rpartition("/")[2]
        if key in self.registered:
            self._send(_error(message, "org.bluez.Error.AlreadyExists", "Already Exists"))
            return
        if len(self.registered) >= self.instances:
            self._send(_error(message, "org.bluez.Error.NotPermitted", "Maximum advertisements reached"))
            return
        assert self._bus is not None
        read = Message(key[0], key[1], DBUS_PROPERTIES, "GetAll", signature="s", body=["org.bluez.LEAdvertisement1"])
        found = (await self._bus.call(read)).body[0]
        await asyncio.sleep(CONTROLLER_S)
        if self.fails:
            self._send(_error(message, *self.fails))
        elif not self.powered.get(adapter):
            self._send(_error(message, "org.bluez.Error.Failed", "Failed to register advertisement"))
        elif found["Type"].value != "broadcast" or not self._show(found["ManufacturerData"].value):
            self._send(_error(message, "org.bluez.Error.Failed", "Failed to parse advertisement."))
        else:
            self.intervals = [found["MinInterval"].value, found["MaxInterval"].value]
            self.registered[key] = adapter
            self._send(Message.new_method_return(message))

    def _unregister(self, message: Message) -> Message | bool:
        key = (str(message.sender), str(message.body[0]))
        if self.dies and asyncio.get_running_loop().time() < self._pending_until:
            self.has_died = True
            self.stop()
            return True
        if self.registered.pop(key, None) is None:
            return _error(message, "org.bluez.Error.DoesNotExist", "Does Not Exist")
        return Message.new_method_return(message)

    def _change(self, data: dict[int, Variant]) -> None:
        self._pending_until = asyncio.get_running_loop().time() + CONTROLLER_S

        async def later() -> None:
            await asyncio.sleep(CONTROLLER_S)
            self._show(data)

        self._begin(later())

    def _show(self, data: dict[int, Variant]) -> bool:
        ((company, advert),) = data.items()
        payload = bytes([len(advert.value) + 3, 0xFF]) + company.to_bytes(2, "little") + bytes(advert.value)
        if len(payload) > 28:
            return False
        self.on_air.append((asyncio.get_running_loop().time(), payload))
        return True

    def _begin(self, work) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _signal(self, path: str, interface: str, member: str, signature: str, body: list) -> None:
        self._send(Message.new_signal(path, interface, member, signature, body))

    def _send(self, message: Message) -> None:
        assert self._bus is not None
        self._bus.send(message)


def _to_bus(member: str, signature: str, *body: str) -> Message:
    dbus = "org.freedesktop.DBus"
    return Message(dbus, "/org/freedesktop/DBus", dbus, member, signature=signature, body=list(body))


def _error(message: Message, name: str, text: str) -> Message:
    return Message(
        message_type=MessageType.ERROR,
        reply_serial=message.serial,
        destination=message.sender,
        error_name=name,
        signature="s",
        body=[text],
    )
