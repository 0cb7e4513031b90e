"""The Bluetooth adapter of a guest, whose controller is on a virtual air of the host, and bluetoothd above it."""

import json
import signal
import time
from pathlib import Path
from types import TracebackType
from typing import IO

from bumble import hci
from bumble.controller import Controller
from bumble.transport import open_transport
from bumble.transport.common import Transport

from gateway_agent.radios.virtual_air.air import AdvertPdu, VirtualAir
from gateway_agent.radios.virtual_air.controller import AirController
from tools.radio_bench.guest import HCI_PORT, Guest

ADDRESS = "00:11:22:33:44:00"
SETS = 4
"""Advertising sets of a controller of Bluetooth 5, as small chips have."""
REMEMBERED, FORGOTTEN_S = 64, 1.0
"""Adverts that the filter of duplicates remembers, and for how long. The memory of a chip is small, too.

Linux drops what it is told before it knows that the scan has begun: a filter that never forgot would hide that for the
whole scan.
"""
RELAY_LOG, BLUETOOTHD_LOG = "/tmp/hci_relay.log", "/tmp/bluetoothd.log"
_BLUETOOTHD = "sh /opt/keycast/tools/radio_bench/on_guest/bluetoothd.sh"
_UP_S = 60
_ADAPTER = "dbus-send --system --print-reply --dest=org.bluez /org/bluez/hci0 org.freedesktop.DBus.Properties"


class GuestController(AirController):
    """A controller as BlueZ expects it of a chip: few advertising sets, and a filter for adverts heard before."""

    def __init__(self, air: VirtualAir, transport: Transport, *, extended: bool) -> None:
        super().__init__(air, ADDRESS, extended=extended, host_source=transport.source, host_sink=transport.sink)
        self._heard: dict[tuple[bytes, bytes], float] = {}

    def report(self, advert: AdvertPdu) -> None:
        """Report an advert, unless the host asked for no duplicates and this one is a duplicate."""
        if self.filter_duplicates:
            heard, now = (bytes(advert.advertiser_address), advert.data), time.monotonic()
            if now - self._heard.get(heard, -FORGOTTEN_S) < FORGOTTEN_S:
                return
            if len(self._heard) >= REMEMBERED:
                self._heard.clear()
            self._heard[heard] = now
        super().report(advert)

    def on_hci_le_set_scan_enable_command(
        self, command: hci.HCI_LE_Set_Scan_Enable_Command
    ) -> hci.HCI_StatusReturnParameters:
        self._heard.clear()  # a filter is that of one scan
        return super().on_hci_le_set_scan_enable_command(command)

    def on_hci_le_set_extended_scan_enable_command(
        self, command: hci.HCI_LE_Set_Extended_Scan_Enable_Command
    ) -> hci.HCI_StatusReturnParameters:
        self._heard.clear()
        return super().on_hci_le_set_extended_scan_enable_command(command)

    def on_hci_le_read_number_of_supported_advertising_sets_command(
        self, _command: hci.HCI_LE_Read_Number_Of_Supported_Advertising_Sets_Command
    ) -> hci.HCI_LE_Read_Number_Of_Supported_Advertising_Sets_ReturnParameters:
        answer = super().on_hci_le_read_number_of_supported_advertising_sets_command(_command)
        answer.num_supported_advertising_sets = SETS
        return answer


class Adapter:
    """The adapter hci0 of a guest. It can be plugged in with one kind of controller and later with the other."""

    def __init__(self, guest: Guest, air: VirtualAir) -> None:
        self._guest = guest
        self._air = air
        self._transport: Transport | None = None
        self._controller: GuestController | None = None
        self._relay = 0
        self._bluetoothd = 0

    async def plug(self, *, extended: bool = True) -> None:
        """Make hci0: with the advertising sets of Bluetooth 5 if `extended`, else of Bluetooth 4."""
        self._transport = await open_transport(f"unix:{self._guest.hci}")
        self._controller = GuestController(self._air, self._transport, extended=extended)
        await self._guest.run("modprobe hci_vhci")
        self._relay = await self._guest.start(f"python3 -m tools.radio_bench.on_guest.hci_relay {HCI_PORT}", RELAY_LOG)
        await self._guest.until("test -e /sys/class/bluetooth/hci0", _UP_S)

    async def unplug(self) -> None:
        """Pull the adapter out. Does nothing if it is not plugged in."""
        if self._transport is not None and self._controller is not None:
            await self._guest.end(self._relay, signal.SIGKILL)
            self._air.remove_controller(self._controller)
            await self._transport.close()
            self._transport = self._controller = None

    async def start_bluetoothd(self, *options: str) -> None:
        """Start bluetoothd with these options, again whenever it ends, and switch the adapter on."""
        self._bluetoothd = await self._guest.start(" ".join((_BLUETOOTHD, *options)), BLUETOOTHD_LOG)
        await self.power(is_on=True)

    async def power(self, *, is_on: bool) -> None:
        """Switch the adapter on or off, as a program of the desktop does."""
        value = f"string:org.bluez.Adapter1 string:Powered variant:boolean:{str(is_on).lower()}"
        await self._guest.until(f"{_ADAPTER}.Set {value}", _UP_S)

    async def kill_bluetoothd(self) -> None:
        """Kill bluetoothd, as a fault of it does. It is started again after a second."""
        await self._guest.run("pkill -KILL -x bluetoothd")

    async def end_bluetoothd(self) -> None:
        """End bluetoothd for good."""
        await self._guest.end(self._bluetoothd, signal.SIGTERM)


class AirLog:
    """Writes each advert on an air to a file: seconds since the log began, address of the controller, data in hex."""

    def __init__(self, air: VirtualAir, path: Path) -> None:
        self._air = air
        self._path = path
        self._file: IO[str] | None = None
        self._began = time.monotonic()

    def __enter__(self) -> "AirLog":
        self._file = self._path.open("w")
        self._air.sniffers.append(self._write)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._air.sniffers.remove(self._write)
        if self._file is not None:
            self._file.close()

    def _write(self, sender: Controller, advert: AdvertPdu) -> None:
        assert self._file is not None
        line = {"at": round(time.monotonic() - self._began, 4), "from": sender.name, "data": advert.data.hex()}
        print(json.dumps({**line, "address": str(advert.advertiser_address), "kind": advert.kind}), file=self._file)
