"""The network devices of this machine as the kernel lists them, and which of them can connect boards.

The kernel is asked over rtnetlink (rtnetlink(7)), which answers for the network namespace of this process. The devices
under /sys may be those of another namespace.
"""

import errno
import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_INFO = struct.Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, change
_ATTRIBUTE = struct.Struct("=HH")  # rtattr: length with this head, type
_NEWLINK, _GETLINK, _ERROR, _DONE = 16, 18, 2, 3
_REQUEST_DUMP = 0x301
_TYPE_MASK = 0x3FFF
_NAME, _LOWER, _MASTER, _KIND_INFO, _ELSEWHERE = 3, 5, 10, 18, 37  # IFLA_... of linux/if_link.h
_KIND = 1  # IFLA_INFO_KIND
_INDEX = struct.Struct("=I")
_GROUPS = 0x1 | 0x10  # RTMGRP_LINK, RTMGRP_IPV4_IFADDR
_ANSWER_MAX = 1 << 18

UP, BROADCAST, LOOPBACK, POINT_TO_POINT, RUNNING, NO_ARP, CARRIER = 0x1, 0x2, 0x8, 0x10, 0x40, 0x80, 0x10000
"""Flags of a device, IFF_... in netdevice(7)."""
ETHERNET = 1
"""Type of a device, ARPHRD_ETHER. Wi-Fi devices have it, too."""

_CARDS = ("", "wlan", "dsa")  # dsa: the ports of a switch in this machine
_STACKED = ("bridge", "bond", "team", "vlan", "macvlan", "ipvlan", "batadv", "hsr")
_WORDS = {
    "tun": "a tunnel or VPN (tun)",
    "veth": "the virtual cable of a container (veth)",
    "wireguard": "a VPN (wireguard)",
    "wwan": "a mobile network (wwan)",
    "bluetooth": "Bluetooth",
    "gadget": "a USB cable to another computer (gadget)",
}


@dataclass(frozen=True)
class NetworkDevice:
    """One network device. `kind` is the kernel's word: "" for an Ethernet card, "wlan", "bridge", "veth", "tun" ...

    `below`: indexes of the devices that it sends through, such as the ports of a bridge or the card of a VLAN;
    `is_above_another_world`: that card is in another network namespace, as for a container.
    """

    index: int
    name: str
    kind: str
    type: int
    flags: int
    below: frozenset[int] = frozenset()
    is_above_another_world: bool = False

    @property
    def standstill(self) -> str:
        """Why the device cannot send now, "" if it can: it is up and has a cable or is associated with a Wi-Fi."""
        if not self.flags & UP:
            return "switched off"
        return "" if self.flags & (RUNNING | CARRIER) == RUNNING | CARRIER else "no carrier"


def why_no_boards(device: NetworkDevice, devices: Mapping[int, NetworkDevice]) -> str:
    """Return why no board can be behind `device`, "" if boards can be. `devices`: all devices by index.

    Boards can be behind network cards and behind devices that send through one, such as bridges.
    """
    if device.flags & LOOPBACK:
        return "loopback"
    if device.kind in _WORDS:
        return _WORDS[device.kind]
    if device.kind not in _CARDS + _STACKED:
        return f"a virtual device ({device.kind})"
    if device.type != ETHERNET or device.flags & (BROADCAST | POINT_TO_POINT | NO_ARP) != BROADCAST:
        return "neither Ethernet nor Wi-Fi"
    if device.kind in _CARDS:
        return ""
    others = {index: other for index, other in devices.items() if index != device.index}
    holds_card = any(not why_no_boards(others[index], others) for index in device.below if index in others)
    if holds_card or device.is_above_another_world:
        return ""
    return f"no network card is in it ({device.kind})"


def network_devices() -> dict[int, NetworkDevice]:
    """Return all network devices by index. Raises OSError if the kernel does not answer."""
    found: dict[int, NetworkDevice] = {}
    ports: dict[int, set[int]] = {}
    for device, master in _told():
        found[device.index] = device if device.kind else replace(device, kind=_sysfs_kind(device.name))
        ports.setdefault(master, set()).add(device.index)
    return {index: replace(device, below=device.below | ports.get(index, set())) for index, device in found.items()}


class DeviceNews:
    """What the kernel tells without being asked: that a device or an IPv4 address came, went or changed.

    Raises OSError if the kernel has no socket for that.
    """

    def __init__(self) -> None:
        self._kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            self._kernel.bind((0, _GROUPS))
        except OSError:
            self._kernel.close()
            raise

    def any_since(self) -> bool:
        """Return whether anything has changed since the last call, or since the beginning. What was told is dropped."""
        changed = False
        while True:
            try:
                self._kernel.recv(_ANSWER_MAX)
            except BlockingIOError:
                return changed
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # more has changed than the socket could keep
                    raise
            changed = True

    def close(self) -> None:
        """Close the socket."""
        self._kernel.close()


def _told() -> Iterator[tuple[NetworkDevice, int]]:
    """Yield each device with the index of the bridge or bond that it is a port of, 0 for none."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC) as kernel:
        kernel.bind((0, 0))
        request = _INFO.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        kernel.send(_HEADER.pack(_HEADER.size + len(request), _GETLINK, _REQUEST_DUMP, 1, 0) + request)
        while True:
            answer = memoryview(kernel.recv(_ANSWER_MAX))
            while len(answer) >= _HEADER.size:
                length, kind, *_ = _HEADER.unpack_from(answer)
                if kind == _ERROR:
                    number = -_INDEX.unpack_from(answer, _HEADER.size)[0] & 0xFFFFFFFF
                    raise OSError(number, "the kernel does not tell its network devices")
                if kind == _DONE:
                    return
                if kind == _NEWLINK:
                    yield _device(answer[_HEADER.size : length])
                answer = answer[max(length + 3 & ~3, _HEADER.size) :]


def _device(message: memoryview) -> tuple[NetworkDevice, int]:
    _, kind, index, flags, _ = _INFO.unpack_from(message)
    told = _attributes(message[_INFO.size :])
    lower = _INDEX.unpack(told[_LOWER])[0] if _LOWER in told else 0
    name = _text(told.get(_NAME, b""))
    is_elsewhere = _ELSEWHERE in told
    below = frozenset({lower} - {0, index} if not is_elsewhere else ())
    kind_told = _text(_attributes(memoryview(told.get(_KIND_INFO, b""))).get(_KIND, b""))
    master = _INDEX.unpack(told[_MASTER])[0] if _MASTER in told else 0
    return NetworkDevice(index, name, kind_told, kind, flags, below, is_elsewhere), master


def _attributes(octets: memoryview) -> dict[int, bytes]:
    found = {}
    while len(octets) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(octets)
        found[kind & _TYPE_MASK] = bytes(octets[_ATTRIBUTE.size : length])
        octets = octets[max(length + 3 & ~3, _ATTRIBUTE.size) :]
    return found


def _text(octets: bytes) -> str:
    return octets.partition(b"\0")[0].decode(errors="replace")


def _sysfs_kind(name: str) -> str:
    """Return the kind of a card for which rtnetlink has no word: "wlan", "wwan", "bluetooth", "gadget" or ""."""
    try:
        told = Path("/sys/class/net", name, "uevent").read_text(errors="replace")
    except OSError:
        return ""
    return next((line.partition("=")[2] for line in told.splitlines() if line.startswith("DEVTYPE=")), "")
