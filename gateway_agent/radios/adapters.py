"""The Bluetooth adapters of this machine, what each can do and what keeps it from advertising.

All of it is read from the kernel, without bluetoothd, and nothing is changed. What a process may read only with
CAP_NET_ADMIN is None for others.
"""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway_agent.radios import mgmt_packets as packets
from gateway_agent.radios.mgmt_socket import OpenSocket, ask_now, open_socket

RFKILL = Path("/sys/class/rfkill")
_VERSIONS = {6: "4.0", 7: "4.1", 8: "4.2", 9: "5.0", 10: "5.1", 11: "5.2", 12: "5.3", 13: "5.4", 14: "6.0"}


@dataclass(frozen=True, slots=True)
class Adapter:
    """One adapter at one moment.

    `version`: of Bluetooth, such as "5.0"; `is_dual`: BR/EDR is switched on, too; `is_extended`: the controller has
    extended advertising, so its instances are on the air at the same time; `instances`: how many there can be, `used`:
    the numbers of those that exist, of all programs; `blocked`: what rfkill says, "" if it blocks nothing;
    `advertises_as_a_whole`: another program uses Set Advertising, which hides all instances.
    """

    name: str
    address: str
    version: str
    is_powered: bool
    has_low_energy: bool
    low_energy_is_on: bool
    is_dual: bool
    advertises_as_a_whole: bool
    blocked: str
    is_extended: bool | None = None
    instances: int | None = None
    used: tuple[int, ...] | None = None

    @property
    def problem(self) -> str:
        """Why the adapter cannot advertise, in words and with the next step; "" if it can."""
        if not self.has_low_energy:
            return f"{self.name} has no Bluetooth Low Energy. Next: another adapter"
        if self.blocked:
            return blocked_words(self.name, self.blocked)
        if not self.is_powered:
            return f"{self.name} is switched off. Next: bluetoothctl power on"
        if not self.low_energy_is_on:
            return f"Low Energy is switched off on {self.name}. Next: btmgmt --index {self.name} le on"
        if self.advertises_as_a_whole:
            return (
                f"Another program lets {self.name} advertise as a whole, which hides all other adverts. "
                f"Next: btmgmt --index {self.name} advertising off"
            )
        if self.instances == 0:
            return f"{self.name} cannot advertise. Next: another adapter"
        return ""


def look(open_it: OpenSocket = open_socket, rfkill: Path = RFKILL) -> list[Adapter]:
    """Return all adapters of this machine, in the order of their numbers.

    Raises OSError if the kernel has no Bluetooth, NoSender if it does not answer.
    """
    with open_it() as sock:
        indices = packets.index_list(ask_now(sock, packets.READ_INDEX_LIST).returned)
        found = [_adapter(sock, index, rfkill) for index in sorted(indices)]
    return [adapter for adapter in found if adapter is not None]


def name_of(index: int) -> str:
    """Return the name of the adapter with an index of the management protocol."""
    return f"hci{index}"


def adapter(
    index: int, controller: packets.Controller, features: packets.AdvertisingFeatures | None, rfkill: Path = RFKILL
) -> Adapter:
    """Return the adapter that the results of two commands describe; `features` is None if they may not be read."""
    name, settings = name_of(index), controller.settings
    return Adapter(
        name=name,
        address=controller.address,
        version=_VERSIONS.get(controller.version, "before 4.0" if controller.version < 6 else "after 6.0"),
        is_powered=bool(settings & packets.POWERED),
        has_low_energy=bool(controller.supported & packets.LOW_ENERGY),
        low_energy_is_on=bool(settings & packets.LOW_ENERGY),
        is_dual=bool(settings & packets.BR_EDR),
        advertises_as_a_whole=bool(settings & packets.ADVERTISING),
        blocked=blocked(name, rfkill),
        is_extended=None if features is None else features.is_extended,
        instances=None if features is None else features.instances,
        used=None if features is None else features.used,
    )


def blocked(name: str, rfkill: Path = RFKILL) -> str:
    """Return "by a switch" or "by software" if rfkill blocks an adapter, else ""."""
    for switch in sorted(rfkill.glob("rfkill*")):
        if _first_line(switch / "name") == name and _first_line(switch / "type") == "bluetooth":
            if _first_line(switch / "hard") == "1":
                return "by a switch"
            if _first_line(switch / "soft") == "1":
                return "by software"
    return ""


def blocked_words(name: str, how: str) -> str:
    """Return the sentence for an adapter that rfkill blocks, with the next step."""
    step = "move the switch of the machine" if how == "by a switch" else "rfkill unblock bluetooth"
    return f"{name} is blocked {how or 'by rfkill'} (airplane mode). Next: {step}"


def free_instances(features: packets.AdvertisingFeatures, at_most: int) -> Sequence[int]:
    """Return the instances that nothing uses, the highest numbers first.

    bluetoothd does not look at what others have added: it numbers its own from 1, so number 1 is left to it if there
    are others. Linux (seen: 6.1) leaves instances out of `used` whose number is above the count of instances.
    """
    free = [number for number in range(features.instances, 0, -1) if number not in features.used]
    return (free if free[-1:] != [1] or len(free) == 1 else free[:-1])[:at_most]


def _adapter(sock: socket.socket, index: int, rfkill: Path) -> Adapter | None:
    """Return one adapter, None if it is gone or not usable by the management protocol."""
    info = ask_now(sock, packets.READ_INFO, index)
    if info.status:
        return None
    features = ask_now(sock, packets.READ_ADVERTISING_FEATURES, index)
    described = None if features.status else packets.features(features.returned)
    return adapter(index, packets.controller(info.returned), described, rfkill)


def _first_line(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
