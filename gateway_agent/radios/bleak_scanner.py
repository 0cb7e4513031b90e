"""The scanner of an adapter that bluetoothd manages, by the library bleak. It scans actively, as BlueZ has no other way
that is not experimental.

The scan is started anew every few seconds: bluetoothd pauses a long one, and a chip may report an address only once in
each. Thereby a scan that has gone silent does not stay so, nor one whose bluetoothd has died.
"""

import asyncio
import contextlib
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable

from bleak import BleakScanner
from bleak.args.bluez import BlueZScannerArgs
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData
from bleak.exc import BleakBluetoothNotAvailableError, BleakBluetoothNotAvailableReason, BleakDBusError, BleakError
from dbus_fast.errors import DBusFastError

from cpns import advert, numbers
from gateway_agent.radios import bluez_bus
from gateway_agent.radios.ble_scanner import Advert

_log = logging.getLogger(__name__)

SCAN_S = 8.0
"""Seconds of one scan. bluetoothd would pause after 10."""
CALL_MAX_S = 10.0
"""Seconds that bluetoothd may take to begin or to end a scan."""
AGAIN_S, AGAIN_MAX_S = 1.0, 30.0
"""Pause after a scan that could not begin, doubled each time up to the second value."""
ADVERTS_PER_S = 500
"""Adverts that are looked at in one second; more can only be a flood, of which the rest is dropped."""
DEVICES_MAX = 512
"""Boards whose device is remembered, for connecting."""
FAULTS = (BleakError, DBusFastError, OSError, EOFError, TimeoutError, AssertionError)
"""The exceptions of bleak and of what is below it. It asserts what holds while bluetoothd is there."""
SILENT_SCANS = 4
"""Whole scans in a row in which nothing at all was heard, after which it is looked whether bluetoothd still scans."""
SWITCH_EVERY_S = 300.0
STUCK = (
    "bluetoothd takes the adapter for scanning and cannot end that, so nothing is heard; it was switched off and on. "
    "Next, if that does not help: systemctl restart bluetooth"
)
_WANTS = 1


class BluezScanner:
    """Implements `ble_scanner.Scanner`.

    An advert counts as that of a board that can be connected to if it has the service of boards and the one octet of
    manufacturer data that only such an advert has. bluetoothd remembers the services of a device, so they alone may be
    those of an earlier advert.
    """

    def __init__(self, adapter: Callable[[], str], company_id: int, counters: Counter[str]) -> None:
        """`adapter` returns the name of the adapter, "" for the default one.

        `counters` counts `ble_adverts_too_many`, which were dropped, `ble_scans_failed`, and `ble_scans_unlocked`.
        """
        self.problem = ""
        self._adapter = adapter
        self._company_id = company_id
        self._counters = counters
        self._heard: Callable[[Advert], None] = lambda found: None
        self._devices: OrderedDict[str, BLEDevice] = OrderedDict()
        self._second, self._in_second = 0, 0
        self._anew = asyncio.Event()
        self._detections = 0  # in this scan, of any device
        self._silent = 0
        self._is_stuck = False
        self._may_switch_at = 0.0
        self._task: asyncio.Task[None] | None = None

    @property
    def adapter(self) -> str:
        """The name of the adapter, "" for the default one."""
        return self._adapter()

    def open(self, heard: Callable[[Advert], None]) -> None:
        """Begin to scan."""
        self._heard = heard
        self._task = asyncio.get_running_loop().create_task(self._scan_for_ever(), name="scan for boards")

    def device(self, address: str) -> BLEDevice | None:
        """Return the device of a board that was heard, None if it was not, or too long ago."""
        return self._devices.get(address)

    def again(self) -> None:
        """Begin the scan anew now.

        While a scan runs the kernel makes a connection when the scan reports an advert of the board. A chip reports an
        advert that does not change once in a scan.
        """
        self._anew.set()

    async def close(self) -> None:
        """End the scan."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _scan_for_ever(self) -> None:
        pause_s = AGAIN_S
        while True:
            try:
                await self._scan()
            except FAULTS as fault:
                self._counters["ble_scans_failed"] += 1
                self._tell(in_words(fault, self.adapter or "the adapter"))
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, AGAIN_MAX_S)
            else:
                pause_s = AGAIN_S

    async def _scan(self) -> None:
        """Scan once. Raises one of FAULTS."""
        # What has not changed is wanted, too: it says that the board is still there
        options: BlueZScannerArgs = {"filters": {"DuplicateData": True}}
        if self.adapter:
            options["adapter"] = self.adapter
        scanner = BleakScanner(self._detected, bluez=options)
        self._detections = 0
        async with asyncio.timeout(CALL_MAX_S):
            await scanner.start()
        self._tell(STUCK if self._is_stuck else "")
        self._anew.clear()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SCAN_S):
                    await self._anew.wait()
        finally:
            with contextlib.suppress(*FAULTS):  # if bluetoothd is gone, so is the scan
                async with asyncio.timeout(CALL_MAX_S):
                    await scanner.stop()
        if self._detections:
            self._silent, self._is_stuck = 0, False
        elif not self._anew.is_set():
            self._silent += 1
            if self._silent >= SILENT_SCANS:
                await self._unlock()

    async def _unlock(self) -> None:
        """Switch the adapter off and on if bluetoothd takes it for scanning while nothing is heard by anybody.

        A controller that once did not answer in time leaves it so: it begins no scan any more, and says nothing.
        """
        try:
            bluez = await bluez_bus.connect()
            try:
                for adapter in await bluez.adapters():
                    if self.adapter in ("", adapter.name) and await bluez.is_scanning(adapter.path):
                        self._is_stuck = True
                        await self._switch(bluez, adapter.path)
            finally:
                bluez.close()
        except bluez_bus.BluezError as refusal:
            self._tell(bluez_bus.in_words(refusal, self.adapter or "the adapter"))

    async def _switch(self, bluez: bluez_bus.Bluez, path: str) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._may_switch_at:
            self._may_switch_at = now + SWITCH_EVERY_S
            self._counters["ble_scans_unlocked"] += 1
            await bluez.switch(path, False)
            await bluez.switch(path, True)

    def _tell(self, problem: str) -> None:
        if problem and not self.problem:
            _log.warning("KC1115 boards cannot be heard by Bluetooth: %s", problem)
        elif self.problem and not problem:
            _log.info("boards can be heard by Bluetooth again")
        self.problem = problem

    def _detected(self, device: BLEDevice, data: AdvertisementData) -> None:
        self._detections += 1
        company = data.manufacturer_data.get(self._company_id)
        if company is None:
            return
        second = int(asyncio.get_running_loop().time())
        self._in_second = self._in_second + 1 if second == self._second else 1
        self._second = second
        if self._in_second > ADVERTS_PER_S:
            self._counters["ble_adverts_too_many"] += 1
        elif len(company) == 1 and numbers.BLE_SERVICE in data.service_uuids:
            self._devices.pop(device.address, None)
            self._devices[device.address] = device
            if len(self._devices) > DEVICES_MAX:
                self._devices.popitem(last=False)
            self._heard(Advert(device.address, None, True, bool(company[0] & _WANTS), data.rssi))
        elif len(company) == advert.SIZE:
            self._heard(Advert(device.address, company, False, False, data.rssi))


def in_words(fault: Exception, adapter: str) -> str:
    """Return why bluetoothd did not do something, as a sentence for people with the next step."""
    if isinstance(fault, BleakBluetoothNotAvailableError):
        if fault.reason is BleakBluetoothNotAvailableReason.NO_BLUETOOTH:
            return "there is no Bluetooth adapter. Next: plug one in"
        if fault.reason is BleakBluetoothNotAvailableReason.POWERED_OFF:
            return f"{adapter} is switched off. Next: bluetoothctl power on"
    if isinstance(fault, BleakDBusError):
        if fault.dbus_error == "org.bluez.Error.NotReady":
            return f"{adapter} is switched off. Next: bluetoothctl power on"
        return bluez_bus.in_words(bluez_bus.BluezError(fault.dbus_error, fault.dbus_error_details or ""), adapter)
    if isinstance(fault, TimeoutError):
        return bluez_bus.in_words(bluez_bus.BluezError(bluez_bus.IN_SILENCE, "it was asked to scan"), adapter)
    if isinstance(fault, BleakError):
        return f"{adapter} cannot scan: {fault}. Next: bluetoothctl list shows the adapters"
    return bluez_bus.in_words(bluez_bus.BluezError("org.freedesktop.DBus.Error.NoServer", str(fault)), adapter)
