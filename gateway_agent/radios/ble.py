"""Bluetooth LE: the section `[ble]`, and the composition of its medium and its link.

Group Keys go out as adverts (docs/protocol.md "Adverts"), unicasts by GATT, on one adapter.
"""

from typing import Annotated, Literal

from pydantic import Field

from gateway_agent.config.section import Section


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
    connections_max: int = Field(3, ge=1, le=16, description="connections by GATT at the same time")


SECTION = BleSection
