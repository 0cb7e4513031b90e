"""Bluetooth LE: the section `[ble]`, and the composition of its medium and its link.

Group Keys go out as adverts (docs/protocol.md "Adverts"), unicasts by GATT, on one adapter. The parts are imported when
the medium is opened, because every command that reads a configuration needs the section.
"""

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from gateway_agent.config.section import Section
from message_plane import tuning

if TYPE_CHECKING:
    from gateway_agent.radios.ble_medium import BleMedium


class BleSection(Section):
    """Bluetooth LE: adverts for Group Keys, GATT for unicast. Without this section the gateway uses none of it."""

    sender: Literal["auto", "mgmt", "bluez", "hci", "virtual", "off"] = Field(
        "auto",
        description="mgmt: the kernel's management socket, bluez: D-Bus, hci: a controller of its own, virtual: no "
        "radio, for virtual boards; auto: mgmt, else bluez; off: no BLE",
    )
    adapter: Annotated[str, Field(min_length=1, max_length=256)] = Field(
        "auto", description='"auto", an adapter such as "hci0", or with sender = "hci" a transport such as "usb:0"'
    )
    company_id: int = Field(
        0xFFFF, ge=0, le=0xFFFF, description="Bluetooth company identifier in all adverts; 65535 is for tests only"
    )
    connections_max: int = Field(
        tuning.GATT_CONNECTIONS_MAX, ge=1, le=16, description="connections by GATT at the same time"
    )


SECTION = BleSection


def open_medium(section: BleSection, counters: Counter[str]) -> "BleMedium | None":
    """Return the medium that a section describes, None if BLE is off. What it lacks is told by its `health`."""
    if section.sender == "off":
        return None
    from gateway_agent.radios import ble_sender
    from gateway_agent.radios.ble_ears import Ears
    from gateway_agent.radios.ble_medium import BleMedium
    from gateway_agent.radios.ble_reception import BleReception
    from message_plane.links.gatt import GattLink

    ears = Ears(section, counters)
    link = GattLink(ears, connections_max=section.connections_max, counters=counters)
    return BleMedium(
        choose=partial(ble_sender.choose, section, counters),
        scanner_of=ears.beside,
        reception=BleReception(link.advertised, counters),
        links=(link,),
        company_id=section.company_id,
        counters=counters,
    )
