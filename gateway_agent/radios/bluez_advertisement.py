"""The advert that bluetoothd shows for the sender `bluez`: an object of org.bluez.LEAdvertisement1 on D-Bus."""

import os
from collections.abc import Callable
from typing import Annotated

from dbus_fast import PropertyAccess, Variant
from dbus_fast.annotations import DBusSignature, DBusStr, DBusUInt32
from dbus_fast.service import ServiceInterface, dbus_method, dbus_property

from gateway_agent.radios.ble_sender import PAYLOAD_LEN

PATH = "/org/keycast/advert"
INTERVAL_MS = 20
"""The interval that is asked for. Not every bluetoothd looks at it."""
_COMPANY = slice(2, 4)
_ADVERT = slice(4, PAYLOAD_LEN)

ManufacturerData = Annotated[dict[int, Variant], DBusSignature("a{qv}")]


class Advertisement(ServiceInterface):
    """One non-connectable advert. bluetoothd reads its properties and follows their changes, without any answer."""

    def __init__(self, company_id: int, released: Callable[[], None]) -> None:
        """`released` is called when bluetoothd drops the advert by itself."""
        super().__init__("org.bluez.LEAdvertisement1")
        self._released = released
        self._company_id = company_id
        self._advert = b""
        self.hide()

    def show(self, payload: bytes) -> None:
        """Change the payload, 28 octets, and tell bluetoothd."""
        self._company_id = int.from_bytes(payload[_COMPANY], "little")
        self._advert = payload[_ADVERT]
        self.emit_properties_changed({"ManufacturerData": self._data()})

    def hide(self) -> None:
        """Replace the payload by random octets, and tell bluetoothd: nothing of the payload is sent any more."""
        noise = os.urandom(PAYLOAD_LEN - _ADVERT.start)
        self.show(bytes(_COMPANY.start) + self._company_id.to_bytes(2, "little") + noise)

    @dbus_property(access=PropertyAccess.READ, name="Type")
    def kind(self) -> DBusStr:
        """The type of advert, to which nothing can connect."""
        return "broadcast"

    @dbus_property(access=PropertyAccess.READ, name="ManufacturerData")
    def manufacturer_data(self) -> ManufacturerData:
        """The advert by its company id."""
        return self._data()

    @dbus_property(access=PropertyAccess.READ, name="MinInterval")
    def min_interval(self) -> DBusUInt32:
        """The least interval in milliseconds."""
        return INTERVAL_MS

    @dbus_property(access=PropertyAccess.READ, name="MaxInterval")
    def max_interval(self) -> DBusUInt32:
        """The greatest interval in milliseconds."""
        return INTERVAL_MS

    @dbus_method(name="Release")
    def release(self) -> None:
        """Note that bluetoothd has dropped the advert."""
        self._released()

    def _data(self) -> dict[int, Variant]:
        return {self._company_id: Variant("ay", self._advert)}
