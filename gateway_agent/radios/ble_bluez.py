"""The sender `bluez`: adverts by bluetoothd over D-Bus, for a process that may not use the management socket.

One advert is registered while there is something to send, and its payload is changed in place. A change has no answer,
so the pace is slow. bluetoothd 5.66 crashes if an advert is unregistered while a change of it is under way: the sender
pauses before that, and takes a payload off the air by another change.
"""

import asyncio
import contextlib
import logging
import os
from collections import Counter
from typing import TYPE_CHECKING

from dbus_fast import Message

from gateway_agent.radios import bluez_bus
from gateway_agent.radios.adapter_sender import AdapterSender, Restart, ended, restart_driver
from gateway_agent.radios.ble_sender import NoSender
from gateway_agent.radios.bluez_advertisement import PATH, Advertisement
from gateway_agent.radios.bluez_bus import Bluez, BluezAdapter, BluezError

if TYPE_CHECKING:
    from gateway_agent.radios.ble import BleSection

_log = logging.getLogger(__name__)

SPACING_S = 0.2
"""Least seconds from one payload to the next: at 10 a second bluetoothd begins to skip some."""
SPARE_S = 0.03
"""What is added to an interval that is longer: its random part, and the time that a change takes."""
PAUSE_S = 0.5
"""Least seconds from a change to the end of the registration."""
_DEPTH_OF_ADAPTERS = 3  # "/org/bluez/hci0"; deeper objects are devices that a scan has found


def open_sender(section: "BleSection", counters: Counter[str]) -> "BluezSender":
    """Return the sender for a section. Raises NoSender if this machine has no system bus.

    bluetoothd or the adapter may still be missing: the sender waits for them.
    """
    address = bluez_bus.system_bus()
    path = address.removeprefix("unix:path=")
    if path != address and not os.path.exists(path):
        raise NoSender(
            f"There is no system bus at {path}.", "Next: systemctl start dbus; in a container, mount /run/dbus"
        )
    return BluezSender(section.adapter, section.company_id, counters)


class BluezSender(AdapterSender):
    """Implements `ble_sender.BleSender`.

    `counters` counts `ble_sent`, payloads that bluetoothd was given, and `ble_refused`, registrations that failed.
    """

    name = "bluez"
    instances = 1
    scanner = None
    carrier = None

    def __init__(
        self,
        adapter: str,
        company_id: int,
        counters: Counter[str],
        *,
        bus_address: str = "",
        restart: Restart = restart_driver,
    ) -> None:
        """`adapter`: a name, or "auto" for the first one that can advertise."""
        super().__init__(adapter, restart)
        self._counters = counters
        self._bus_address = bus_address
        self._advert = Advertisement(company_id, self._released)
        self._bluez: Bluez | None = None
        self._adapter: BluezAdapter | None = None
        self._is_registered = False
        self._changed_at = 0.0  # loop time
        self._withdrawals = 0
        self._may_start = True  # bluetoothd
        self._awake = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None

    @property
    def adapter(self) -> str:
        """The name of the adapter that is used, "" while there is none."""
        return "" if self._adapter is None else self._adapter.name

    @property
    def interval_ms(self) -> float:
        """The interval that is really used, 0 while it is not known."""
        return 0.0 if self._adapter is None else self._adapter.interval_ms

    @property
    def frame_s(self) -> float:
        """Seconds from one payload to the next, which are more than the interval, so that each is sent."""
        return max(SPACING_S, self.interval_ms / 1000 + SPARE_S)

    @property
    def advice(self) -> str:
        """How to shorten the interval, "" if that is not possible or not needed."""
        return "" if self._adapter is None else self._adapter.advice

    def wake(self) -> None:
        """Call `take` again."""
        self._awake.set()

    def withdraw(self) -> None:
        """Replace the payload on the air by noise; bluetoothd is told before this call returns (SEC-38)."""
        self._withdrawals += 1
        self._advert.hide()
        self._changed_at = asyncio.get_running_loop().time()

    async def close(self) -> None:
        """Take the advert back and close the connection."""
        await ended(self._watch)
        await self._detach()
        if self._bluez is not None:
            self._bluez.close()

    async def _attach(self) -> None:
        """Find an adapter, register on it and begin to send; tell whether that was possible."""
        await self._detach()
        try:
            self._tell(await self._find())
        except BluezError as error:
            self._counters["ble_refused"] += 1
            self._tell(bluez_bus.in_words(error, self.adapter or "the adapter"))
        except Exception as fault:  # noqa: BLE001 - a fault of ours must not end the watch over bluetoothd
            self._tell_of_fault(fault)

    async def _find(self) -> str:
        """Begin to send on the first adapter that can; return what is wrong if none can, else ""."""
        bluez = await self._connected()
        self._adapter = None
        may_start, self._may_start = self._may_start, False
        may_switch_on, self._may_switch_on = self._may_switch_on, False
        if may_start and not await bluez.is_running():
            with contextlib.suppress(BluezError):
                await bluez.start()
        if not await bluez.is_running():
            raise BluezError("org.freedesktop.DBus.Error.NameHasNoOwner")
        found = [each for each in await bluez.adapters() if self._wanted in ("auto", each.name)]
        if not found:
            return self._none_found()
        self._adapter = adapter = min(found, key=lambda each: (not each.can_advertise, not each.is_powered, each.name))
        if not adapter.can_advertise:
            return f"{adapter.name} cannot advertise. Next: another adapter"
        if not adapter.is_powered and not may_switch_on:
            return f"{adapter.name} is switched off. Next: bluetoothctl power on"
        if not adapter.is_powered:
            await bluez.switch(adapter.path, True)
        self._advert.hide()
        await self._register(bluez, adapter)
        if adapter.advice:
            _log.warning("KC1112 %s", adapter.advice)
        self._serving = asyncio.get_running_loop().create_task(self._serve(bluez, adapter))
        return ""

    async def _connected(self) -> Bluez:
        if self._bluez is None or not self._bluez.is_open:
            bluez = await bluez_bus.connect(self._bus_address)
            bluez.bus.export(PATH, self._advert)
            await bluez.follow(self._heard, self._lost)
            self._bluez = bluez
        return self._bluez

    async def _serve(self, bluez: Bluez, adapter: BluezAdapter) -> None:
        """Show one payload after the other; end the registration while there is none."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                payload = self._take()
                if payload is None:
                    self._awake.clear()
                    if self._is_registered:
                        self.withdraw()  # the last payload has had its time, and its airing has ended
                    await self._rest(bluez, adapter)
                    continue
                withdrawals = self._withdrawals
                if not self._is_registered:  # which does not happen with a payload that may be withdrawn meanwhile
                    self._advert.hide()
                    await self._register(bluez, adapter)
                if withdrawals != self._withdrawals:
                    continue
                self._advert.show(payload)
                self._changed_at = loop.time()
                self._counters["ble_sent"] += 1
                await asyncio.sleep(self.frame_s)
        except BluezError as error:
            self._counters["ble_refused"] += 1
            self._tell(bluez_bus.in_words(error, adapter.name))
        except Exception as fault:  # noqa: BLE001 - `take` is not ours, and a task would hide what it raises
            _log.exception("KC1113 no payload for the advert")
            self._tell(f"{fault or type(fault).__name__}")

    async def _rest(self, bluez: Bluez, adapter: BluezAdapter) -> None:
        """Wait until there are payloads again; end the registration if that lasts."""
        while self._is_registered and not self._awake.is_set():
            if (left_s := self._left_of_pause()) > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left_s):
                        await self._awake.wait()
            else:
                self._is_registered = False
                await bluez.unregister(adapter.path, PATH)
        await self._awake.wait()

    def _left_of_pause(self) -> float:
        """Return the seconds until the registration may be ended."""
        return self._changed_at + PAUSE_S - asyncio.get_running_loop().time()

    async def _register(self, bluez: Bluez, adapter: BluezAdapter) -> None:
        try:
            await bluez.register(adapter.path, PATH)
        except BluezError as error:
            if not error.name.endswith(".AlreadyExists"):
                raise
        self._is_registered = True
        self._changed_at = asyncio.get_running_loop().time()

    async def _detach(self) -> None:
        """Stop sending and end the registration as far as that is possible, after a pause."""
        await ended(self._serving)
        self._serving = None
        if self._bluez is None or self._adapter is None or not self._is_registered or not self._bluez.is_open:
            self._is_registered = False
            return
        self.withdraw()
        await asyncio.sleep(self._left_of_pause())
        if self._is_registered:
            self._is_registered = False
            try:
                await self._bluez.unregister(self._adapter.path, PATH)
            except BluezError as error:
                _log.debug("the advert cannot be unregistered: %s", error)

    def _released(self) -> None:
        """Handle that bluetoothd has dropped the advert, for example since the adapter is gone."""
        self._is_registered = False
        self._changed.set()

    def _heard(self, signal: Message) -> None:
        """Handle a signal of bluetoothd or of the bus."""
        if signal.member == "NameOwnerChanged":
            self._is_registered = False  # the registrations of a bluetoothd end with it
            if not signal.body[2]:
                self._tell("bluetoothd has stopped. Next: systemctl restart bluetooth")
            self._changed.set()
        elif signal.member in ("InterfacesAdded", "InterfacesRemoved"):
            path = signal.body[0]
            if path.count("/") == _DEPTH_OF_ADAPTERS and (not self.up or path.endswith(f"/{self.adapter}")):
                self._changed.set()
        elif signal.member == "PropertiesChanged" and "Powered" in signal.body[1]:
            is_ours = self._adapter is not None and signal.path == self._adapter.path
            if not self.up or (is_ours and not signal.body[1]["Powered"].value):
                self._changed.set()

    def _lost(self) -> None:
        self._is_registered = False
        if self._serving is not None:
            self._serving.cancel()
        self._tell("the system bus has closed the connection. Next: systemctl restart dbus bluetooth")

    async def _forget(self) -> None:
        await self._detach()
        if self._bluez is not None:
            self._bluez.close()
            self._bluez = None
        self._may_start = True

    async def _switch_off(self) -> None:
        if self._adapter is not None:
            await (await self._connected()).switch(self._adapter.path, False)
