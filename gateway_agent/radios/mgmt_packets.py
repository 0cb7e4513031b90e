"""Packets of the kernel's Bluetooth management protocol, as pure functions (BlueZ doc/mgmt-api.txt, from Linux 5.11).

A packet is a header of three 16-bit numbers (code, index of the controller, length of what follows) and parameters. All
numbers are little endian. Only the commands and events that the gateway uses are here.
"""

import struct
from dataclasses import dataclass
from typing import Any

NO_CONTROLLER = 0xFFFF
"""The index of commands and events that concern no controller."""

READ_COMMANDS = 0x0002
READ_INDEX_LIST = 0x0003
READ_INFO = 0x0004
SET_POWERED = 0x0005
READ_ADVERTISING_FEATURES = 0x003D
REMOVE_ADVERTISING = 0x003F
ADD_ADVERTISING_PARAMETERS = 0x0054
ADD_ADVERTISING_DATA = 0x0055

COMMAND_COMPLETE = 0x0001
COMMAND_STATUS = 0x0002
INDEX_ADDED = 0x0004
INDEX_REMOVED = 0x0005
NEW_SETTINGS = 0x0006
ADVERTISING_ADDED = 0x0023
ADVERTISING_REMOVED = 0x0024

SUCCESS = 0x00
UNKNOWN_COMMAND = 0x01
INVALID_PARAMETERS = 0x0D
NOT_POWERED = 0x0F
INVALID_INDEX = 0x11
RFKILLED = 0x12
PERMISSION_DENIED = 0x14
STATUS_WORDS = {
    UNKNOWN_COMMAND: "unknown command",
    0x02: "not connected",
    0x03: "failed",
    0x07: "no resources",
    0x08: "timeout",
    0x0A: "busy",
    0x0B: "rejected",
    0x0C: "not supported",
    INVALID_PARAMETERS: "invalid parameters",
    NOT_POWERED: "not powered",
    INVALID_INDEX: "no such adapter",
    RFKILLED: "blocked by rfkill",
    PERMISSION_DENIED: "permission denied",
}

POWERED, BR_EDR, LOW_ENERGY, ADVERTISING = 1 << 0, 1 << 7, 1 << 9, 1 << 10
"""Bits of the settings of a controller. ADVERTISING: it advertises as a whole, which hides all instances."""

SECONDARY_1M = 1 << 7
"""Bit of the supported flags that tells a controller with extended advertising."""
_USE_TIMEOUT, _USE_INTERVALS = 1 << 13, 1 << 14

SLOT_MS = 0.625
"""Unit of advertising intervals."""
TIMEOUT_MAX_S = 65
"""Linux computes the timeout of an instance in milliseconds, in 16 bits."""
_NO_TX_POWER = 0x7F

_HEADER = struct.Struct("<HHH")
_REPLY = struct.Struct("<HB")
_INFO = struct.Struct("<6sBHII")
_FEATURES = struct.Struct("<IBBBB")
_PARAMETERS = struct.Struct("<BIHHIIb")
_DATA = struct.Struct("<BBB")


class MalformedPacket(ValueError):
    """A packet that is not as the protocol says."""


@dataclass(frozen=True, slots=True)
class KernelEvent:
    """One event of the kernel. `parameters` are those of the event, without the header."""

    code: int
    index: int
    parameters: bytes


@dataclass(frozen=True, slots=True)
class KernelReply:
    """The kernel's answer to a command; `returned` is empty unless the status is SUCCESS."""

    opcode: int
    status: int
    returned: bytes


@dataclass(frozen=True, slots=True)
class Controller:
    """What Read Controller Information tells. `version`: of HCI, 6 is Bluetooth 4.0 and 9 is 5.0."""

    address: str
    version: int
    supported: int
    settings: int


@dataclass(frozen=True, slots=True)
class AdvertisingFeatures:
    """What Read Advertising Features tells. `used` are the instances that exist, of all programs, from 1."""

    is_extended: bool
    instances: int
    used: tuple[int, ...]


def command(opcode: int, index: int = NO_CONTROLLER, parameters: bytes = b"") -> bytes:
    """Return the packet of a command."""
    return _HEADER.pack(opcode, index, len(parameters)) + parameters


def event(packet: bytes) -> KernelEvent:
    """Return the event that a packet holds. Raises MalformedPacket."""
    if len(packet) < _HEADER.size:
        raise MalformedPacket(f"a packet of {len(packet)} octets")
    code, index, length = _HEADER.unpack_from(packet)
    if len(packet) != _HEADER.size + length:
        raise MalformedPacket(f"{len(packet) - _HEADER.size} octets of parameters instead of {length}")
    return KernelEvent(code, index, packet[_HEADER.size :])


def reply(received: KernelEvent) -> KernelReply | None:
    """Return the answer that an event holds, None if the event is not an answer. Raises MalformedPacket."""
    if received.code not in (COMMAND_COMPLETE, COMMAND_STATUS):
        return None
    opcode, status = _unpacked(_REPLY, received.parameters)
    has_result = received.code == COMMAND_COMPLETE and status == SUCCESS
    return KernelReply(opcode, status, received.parameters[_REPLY.size :] if has_result else b"")


def set_powered(is_on: bool) -> bytes:
    """Return the parameters of Set Powered."""
    return bytes([is_on])


def advertising_parameters(instance: int, interval_ms: float, timeout_s: int) -> bytes:
    """Return the parameters of Add Extended Advertising Parameters, for an instance that nothing can connect to.

    The kernel removes the instance by itself `timeout_s` (1 to TIMEOUT_MAX_S) seconds after this command. The interval
    is at least 20 ms. No flag asks for more AD structures, and the Flags structure is left to the kernel.
    """
    slots = round(interval_ms / SLOT_MS)
    return _PARAMETERS.pack(instance, _USE_TIMEOUT | _USE_INTERVALS, 0, timeout_s, slots, slots, _NO_TX_POWER)


def advertising_data(instance: int, data: bytes) -> bytes:
    """Return the parameters of Add Extended Advertising Data, without a scan response.

    Their length is exact: kernels differ in what they make of octets that follow.
    """
    return _DATA.pack(instance, len(data), 0) + data


def remove_advertising(instance: int) -> bytes:
    """Return the parameters of Remove Advertising.

    Raises ValueError for 0, which would remove the instances of all programs.
    """
    if instance == 0:
        raise ValueError("an instance is numbered from 1")
    return bytes([instance])


def index_list(returned: bytes) -> tuple[int, ...]:
    """Return the indices of all controllers, from the result of Read Controller Index List. Raises MalformedPacket."""
    return _numbers(returned)


def commands(returned: bytes) -> tuple[int, ...]:
    """Return the codes of all commands from a result of Read Management Supported Commands; raise MalformedPacket."""
    (count,) = _unpacked(struct.Struct("<H"), returned)
    return _numbers(returned[:2] + returned[4:])[:count]


def controller(returned: bytes) -> Controller:
    """Return what the result of Read Controller Information tells. Raises MalformedPacket."""
    address, version, _, supported, settings = _unpacked(_INFO, returned)
    return Controller(address[::-1].hex(":").upper(), version, supported, settings)


def features(returned: bytes) -> AdvertisingFeatures:
    """Return what the result of Read Advertising Features tells. Raises MalformedPacket."""
    flags, _, _, instances, count = _unpacked(_FEATURES, returned)
    used = returned[_FEATURES.size :]
    if len(used) < count:
        raise MalformedPacket(f"{len(used)} instances instead of {count}")
    return AdvertisingFeatures(bool(flags & SECONDARY_1M), instances, tuple(used[:count]))


def settings(parameters: bytes) -> int:
    """Return the settings that a New Settings event, or the result of Set Powered, tells. Raises MalformedPacket."""
    (bits,) = _unpacked(struct.Struct("<I"), parameters)
    return int(bits)


def instance(parameters: bytes) -> int:
    """Return the instance that an Advertising Added or Removed event, or the result of a command, begins with.

    Raises MalformedPacket.
    """
    (number,) = _unpacked(struct.Struct("<B"), parameters)
    return int(number)


def words(status: int) -> str:
    """Return a status in words for people."""
    return STATUS_WORDS.get(status, f"status {status:#04x}")


def _numbers(returned: bytes) -> tuple[int, ...]:
    """Return 16-bit numbers that follow their count."""
    (count,) = _unpacked(struct.Struct("<H"), returned)
    if len(returned) < 2 + 2 * count:
        raise MalformedPacket(f"{len(returned)} octets for {count} numbers")
    return struct.unpack_from(f"<{count}H", returned, 2)


def _unpacked(layout: struct.Struct, octets: bytes) -> tuple[Any, ...]:
    if len(octets) < layout.size:
        raise MalformedPacket(f"{len(octets)} octets instead of {layout.size}")
    return layout.unpack_from(octets)
