"""The scanner of a controller of our own: it listens passively, all the time, and reports the adverts of boards."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from bumble import hci

from cpns import numbers
from gateway_agent.radios.ble_scanner import Advert
from gateway_agent.radios.bumble_controller import OPENING, HostDevice, OwnController, Report

WINDOW_MS = 100.0
"""Scan window and interval: it listens without a pause."""
ADDRESSES_MAX = 1024
"""Addresses of boards whose type is remembered, as an address alone does not say whether it is a public one."""
_MANUFACTURER_DATA, _SERVICES_128, _SERVICES_128_MORE = 0xFF, 0x07, 0x06
_SERVICE = bytes.fromhex(numbers.BLE_SERVICE.replace("-", ""))[::-1]
_WANTS = 1
_CONNECTABLE = 1


class BumbleScanner:
    """Implements `ble_scanner.Scanner`."""

    def __init__(self, controller: OwnController, company_id: int) -> None:
        self._controller = controller
        self._company = company_id.to_bytes(2, "little")
        self._heard: Callable[[Advert], None] | None = None
        self._types: OrderedDict[str, hci.AddressType] = OrderedDict()

    @property
    def problem(self) -> str:
        """Why nothing is heard, "" if nothing is wrong, as while the controller is opened for the first time."""
        return "" if self._controller.problem == OPENING else self._controller.problem

    def open(self, heard: Callable[[Advert], None]) -> None:
        """Begin to call `heard`, as soon as the sender of the same controller is started."""
        self._heard = heard

    async def close(self) -> None:
        """Stop calling `heard`."""
        self._heard = None

    def type_of(self, address: str) -> hci.AddressType:
        """Return the type of the address of a device that has been heard, that of a public one for others."""
        return self._types.get(address, hci.Address.PUBLIC_DEVICE_ADDRESS)

    async def scan(self, device: HostDevice) -> None:
        """Scan with an open controller until it is gone."""
        device.on(device.EVENT_REPORT, self._reported)
        await device.start_scanning(
            legacy=not device.is_extended,
            active=False,
            scan_interval=WINDOW_MS,
            scan_window=WINDOW_MS,
            scanning_phys=(hci.HCI_LE_1M_PHY,),
        )
        await asyncio.Event().wait()

    def _reported(self, report: Report) -> None:
        if self._heard is None:
            return
        company, offers = None, False
        for kind, content in structures(report.data):
            if kind == _MANUFACTURER_DATA and content[:2] == self._company:
                company = content[2:]
            elif kind in (_SERVICES_128, _SERVICES_128_MORE):
                offers = _SERVICE in (content[at : at + 16] for at in range(0, len(content), 16))
        if company is None and not offers:
            return
        offers = offers and _is_connectable(report)
        address = report.address.to_string(False)
        if offers:
            self._types[address] = report.address.address_type
            self._types.move_to_end(address)
            if len(self._types) > ADDRESSES_MAX:
                self._types.popitem(last=False)
        wants = offers and company is not None and bool(company[:1] and company[0] & _WANTS)
        self._heard(Advert(address, company, offers, wants, report.rssi))


def structures(data: bytes) -> list[tuple[int, bytes]]:
    """Return type and content of each whole AD structure in the octets of an advert."""
    found = []
    at = 0
    while at + 1 < len(data) and data[at] and at + data[at] < len(data):
        found.append((data[at + 1], data[at + 2 : at + 1 + data[at]]))
        at += 1 + data[at]
    return found


def _is_connectable(report: Report) -> bool:
    if isinstance(report, hci.HCI_LE_Advertising_Report_Event.Report):
        return report.event_type == hci.HCI_LE_Advertising_Report_Event.EventType.ADV_IND
    return bool(report.event_type & _CONNECTABLE)
