"""The sender `mgmt`: adverts by the kernel's management socket, beside bluetoothd on the same adapter.

On a controller with extended advertising up to four instances take turns. A 4.x controller shows one advert at a time,
and an update of it is a transmission. Here are the adapter, its events and its recovery; `mgmt_instances` sends.
"""

import logging
import os
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway_agent.radios import adapters, mgmt_instances, mgmt_socket
from gateway_agent.radios import mgmt_packets as packets
from gateway_agent.radios.adapter_sender import AdapterSender, Restart, ended, restart_driver
from gateway_agent.radios.ble_sender import PAYLOAD_LEN
from gateway_agent.radios.mgmt_instances import FRAME_S, INTERVAL_MS, SPACING_LEGACY_S, Instances
from gateway_agent.radios.mgmt_socket import MgmtError, MgmtSocket, OpenSocket

if TYPE_CHECKING:
    from gateway_agent.radios.ble import BleSection

_log = logging.getLogger(__name__)

INSTANCES_MAX = 4
_MANUFACTURER_DATA = 0xFF  # an AD type


def open_sender(section: "BleSection", counters: Counter[str]) -> "MgmtSender":
    """Return the sender for a section. Raises NoSender if this process may not use the management socket.

    An adapter may still be missing: the sender waits for it.
    """
    mgmt_socket.require()
    return MgmtSender(section.adapter, section.company_id, counters)


class MgmtSender(AdapterSender):
    """Implements `ble_sender.BleSender`. `counters`: as for `Instances`."""

    name = "mgmt"
    advice = ""
    scanner = None
    carrier = None

    def __init__(
        self,
        adapter: str,
        company_id: int,
        counters: Counter[str],
        *,
        open_it: OpenSocket = mgmt_socket.open_socket,
        restart: Restart = restart_driver,
    ) -> None:
        """`adapter`: a name, or "auto" for the first one that can advertise; `company_id`: that of all payloads."""
        super().__init__(adapter, restart)
        self._company_id = company_id
        self._counters = counters
        self._open = open_it
        self._link: MgmtSocket | None = None
        self._adapter: adapters.Adapter | None = None
        self._index = packets.NO_CONTROLLER
        self._instances: Instances | None = None
        self._others: set[int] = set()  # instances of other programs on the adapter
        self._left: list[tuple[int, int]] = []  # own instances that were not removed, as the socket had failed

    @property
    def adapter(self) -> str:
        """The name of the adapter that is used, "" while there is none."""
        return "" if self._adapter is None else self._adapter.name

    @property
    def instances(self) -> int:
        """How many payloads are on the air at the same time."""
        return 1 if self._instances is None else self._instances.count

    @property
    def frame_s(self) -> float:
        """Seconds from one payload to the next; while there is no adapter those of an extended controller."""
        return FRAME_S if self._instances is None else self._instances.frame_s

    @property
    def interval_ms(self) -> float:
        """The interval that is really used; on a 4.x controller that of the updates, as each is a transmission."""
        if self._adapter is None:
            return 0.0
        return INTERVAL_MS if self._adapter.is_extended else SPACING_LEGACY_S * 1000

    def wake(self) -> None:
        """Call `take` again."""
        if self._instances is not None:
            self._instances.wake()

    def withdraw(self) -> None:
        """Remove all own instances; the commands are written before this call returns (SEC-38). Raises OSError."""
        if self._instances is not None:
            self._instances.withdraw()

    async def close(self) -> None:
        """Remove all own instances and close the socket."""
        await ended(self._watch)
        self._release()
        self._close_link()

    async def _attach(self) -> None:
        """Find an adapter with free instances and begin to send on it; tell whether that was possible."""
        await self._detach()
        try:
            self._tell(await self._find())
        except (MgmtError, OSError, packets.MalformedPacket) as error:
            self._close_link()
            self._tell(f"the management socket of the kernel fails: {error}. Next: restart this machine")
        except Exception as fault:  # noqa: BLE001 - a fault of ours must not end the watch over the adapter
            self._close_link()
            self._tell_of_fault(fault)

    async def _find(self) -> str:
        """Begin to send on the first adapter that can; return what is wrong if none can, else ""."""
        link, found = self._opened(), []
        while self._left:
            index, number = self._left.pop()
            try:
                await link.ask(packets.REMOVE_ADVERTISING, index, packets.remove_advertising(number))
            except MgmtError as error:
                if error.is_lost:
                    raise  # otherwise its time was over
        for index in packets.index_list(await link.ask(packets.READ_INDEX_LIST)):
            if self._wanted in ("auto", adapters.name_of(index)):
                try:
                    found.append((index, *await _described(link, index)))
                except MgmtError as error:
                    if error.is_lost:
                        raise  # otherwise it was pulled just now
        if not found:
            self._adapter = None
            return self._none_found()
        problem = ""
        for index, adapter, features in sorted(found, key=lambda each: (not each[1].is_powered, each[0])):
            if index != self._index:
                self._others.clear()
            self._index, self._adapter = index, adapter
            problem = await self._use(link, index, adapter, features)
            if not problem:
                break
        self._may_switch_on = False
        return problem

    async def _use(
        self, link: MgmtSocket, index: int, adapter: adapters.Adapter, features: packets.AdvertisingFeatures
    ) -> str:
        """Begin to send on an adapter, which is switched on first if that may be; return what is wrong, else ""."""
        if not adapter.is_powered and adapter.has_low_energy and self._may_switch_on:
            try:
                await link.ask(packets.SET_POWERED, index, packets.set_powered(True))
            except MgmtError as error:
                if error.status == packets.RFKILLED:
                    return adapters.blocked_words(adapter.name, adapter.blocked)
                return f"{adapter.name} cannot be switched on: {packets.words(error.status)}. Next: dmesg"
            adapter, features = await _described(link, index)
            self._adapter = adapter
        if adapter.problem:
            return adapter.problem
        self._others.update(features.used)
        features = replace(features, used=tuple(self._others))
        numbers = adapters.free_instances(features, INSTANCES_MAX if features.is_extended else 1)
        if not numbers:
            return (
                f"all {features.instances} adverts that {adapter.name} can have are those of other programs. "
                "Next: end one of these programs"
            )
        try:
            await mgmt_instances.prove(link, index, numbers[0], self._noise())
        except MgmtError as error:
            if error.is_lost:
                self._close_link()
            return _refusal(adapter.name, str(error))
        self._instances = Instances(
            link,
            index,
            features.is_extended,
            numbers,
            self._others,
            self._take,
            self._instances_failed,
            self._counters,
        )
        return ""

    def _noise(self) -> bytes:
        """Return a payload that says nothing."""
        head = bytes([PAYLOAD_LEN - 1, _MANUFACTURER_DATA]) + self._company_id.to_bytes(2, "little")
        return head + os.urandom(PAYLOAD_LEN - len(head))

    def _heard(self, event: packets.KernelEvent) -> None:
        """Handle an event of the kernel."""
        if event.code in (packets.ADVERTISING_ADDED, packets.ADVERTISING_REMOVED):
            if event.index == self._index:
                self._heard_of_instance(packets.instance(event.parameters), event.code == packets.ADVERTISING_ADDED)
            return
        is_ours = event.index == self._index and self._instances is not None
        if event.code == packets.INDEX_REMOVED and is_ours:
            self._release()
            self._others.clear()
            self._tell(f"{self.adapter} was pulled out. Next: plug it in again")
            self._changed.set()
        elif event.code in (packets.INDEX_ADDED, packets.NEW_SETTINGS) and not is_ours:
            if not self.up:
                self._changed.set()
        elif event.code == packets.NEW_SETTINGS and packets.settings(event.parameters) & _MATTERS != _BEST:
            self._changed.set()

    def _heard_of_instance(self, number: int, is_new: bool) -> None:
        """Handle that another program has added an instance of the adapter, or that one was removed.

        The list that the kernel gives when it is asked lacks instances with high numbers, so both sources are used.
        """
        if is_new:
            self._others.add(number)
            if self._instances is not None and number in self._instances:
                self._changed.set()
        else:
            self._others.discard(number)
            if self._instances is not None:
                self._instances.removed(number)
            elif not self.up:
                self._changed.set()  # there may be room now

    def _instances_failed(self, why: str) -> None:
        self._release()
        self._tell(_refusal(self.adapter, why))

    def _lost(self, why: str) -> None:
        self._release()
        self._link = None
        self._tell(f"the management socket of the kernel fails: {why}. Next: restart this machine")

    async def _forget(self) -> None:
        self._close_link()

    async def _switch_off(self) -> None:
        await self._opened().ask(packets.SET_POWERED, self._index, packets.set_powered(False))

    def _release(self) -> None:
        """Stop sending and remove all own instances as far as that is possible."""
        if self._instances is not None:
            self._left += [(self._index, number) for number in self._instances.stop()]
            self._instances = None

    async def _detach(self) -> None:
        instances = self._instances
        self._release()
        if instances is not None:
            await instances.removed_all()

    def _opened(self) -> MgmtSocket:
        if self._link is None:
            self._link = MgmtSocket(self._heard, self._lost, self._open)
        return self._link

    def _close_link(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None
            self._others.clear()


def _refusal(adapter: str, why: str) -> str:
    return f"{adapter} accepts no adverts: {why}. Next: unplug the adapter, or restart this machine"


async def _described(link: MgmtSocket, index: int) -> tuple[adapters.Adapter, packets.AdvertisingFeatures]:
    info = packets.controller(await link.ask(packets.READ_INFO, index))
    features = packets.AdvertisingFeatures(False, 0, ())
    if info.supported & packets.LOW_ENERGY:
        features = packets.features(await link.ask(packets.READ_ADVERTISING_FEATURES, index))
    return adapters.adapter(index, info, features), features


_BEST = packets.POWERED | packets.LOW_ENERGY
_MATTERS = _BEST | packets.ADVERTISING
"""The settings that must be as in _BEST so that instances are on the air."""
