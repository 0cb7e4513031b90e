"""Give a board on a serial port its identity at a gateway: the key is made on the board, and never leaves it.

The board stores the new identity beside its present one, restarts, and confirms what is in its flash. Then the gateway
registers it, and one write of the board puts it in force. Until then both ends have their old state, and a failure
leaves it to them; a name that is taken stays with the board that has it until the new one is heard. What was cut short
is gone on with by the same command.
"""

import base64
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, TypeAdapter

from cpns import cborlite
from cpns.errors import CpnsError
from device_agent.end_to_end import entity_user_keys
from gateway_agent import pairing_secret
from gateway_agent.errors import GatewayError
from keycast.board import answers, board_record
from keycast.board.faults import BoardFault, ProvisioningFault
from keycast.board.repl import BoardAnswered
from keycast.hardware.board import Board
from keycast.provisioning.board import Trust
from message_plane import credentials

_PROGRAM = Path(__file__).with_name("on_board") / "provision.py"
WIFI, _WIFI_FORMAT = "wifi", 1  # micropython/wifi.py
BLE, _BLE_FORMAT = "ble", 1  # micropython/ble.py
_DONE = TypeAdapter(bool)
_OCTETS = TypeAdapter(answers.Octets)
_DIGEST_AND_SECRET = TypeAdapter(tuple[answers.Octets, answers.Octets | None])
_NAME_MAX, _PASSWORD_MIN, _PASSWORD_MAX = 32, 8, 64


class BoardInRepl(Protocol):
    """A board in its REPL: `keycast.board.repl.Repl`."""

    def run(self, program: str) -> str:
        """Run a program and return what it printed. Raises BoardAnswered, BoardFault."""

    def restart(self) -> None:
        """Reset the board and bring it to its REPL again. Raises BoardFault."""


class GatewayDoor(Protocol):
    """The running gateway, with its commands for boards. Credentials are CCS octets. Each raises GatewayError."""

    def check(self, pne_id: str, group: str | None, replace: bool) -> None:
        """Refuse what `register` would refuse for a board that has no key yet."""

    def standing(self, ccs: bytes) -> str:
        """Return "registered", "successor" (in the place of another board, once it is heard) or ""."""

    def register(self, ccs: bytes, group: str | None, replace: bool) -> None:
        """Register a board; if its name is taken, in the place of that other board once it is heard."""

    def withdraw(self, ccs: bytes) -> None:
        """Take back what `register` did, without any effect on another board of this name."""


@dataclass(frozen=True)
class Wifi:
    """The name of an access point and its password, "" for none. Raises ProvisioningFault if they can be none."""

    name: str
    password: str = field(repr=False)

    def __post_init__(self) -> None:
        try:
            (self.name + self.password).encode()
        except UnicodeEncodeError:
            step = "Write it again, and the file of the password too."
            raise ProvisioningFault("The name or password of the Wi-Fi is no text in UTF-8.", step) from None
        if not 1 <= len(self.name.encode()) <= _NAME_MAX:
            raise ProvisioningFault(
                f"{self.name!r} can be no name of a Wi-Fi network: one has 1 to {_NAME_MAX} octets.", "Check --wifi."
            )
        if self.password and not _PASSWORD_MIN <= len(self.password.encode()) <= _PASSWORD_MAX:
            raise ProvisioningFault(
                f"A Wi-Fi password has {_PASSWORD_MIN} to {_PASSWORD_MAX} characters.",
                "Type it again; for a network without a password leave it empty.",
            )

    def record(self) -> bytes:
        """Return the record for the key store of a board."""
        return bytes(cborlite.encode([_WIFI_FORMAT, self.name, self.password]))


def ble_record(company_id: int) -> bytes:
    """Return the record for the key store of a board that uses Bluetooth LE, with the company id of the adverts."""
    return bytes(cborlite.encode([_BLE_FORMAT, company_id]))


@dataclass(frozen=True)
class WantedBoard:
    """What a board is to become. `wifi` and `board`, its record of that name: None to keep what it has.

    `labelled`: it gets a pairing secret for a label, for the day on which it is paired with another gateway.
    `without_wifi`, `without_ble`: it is not to use that radio. `hardware` are all boards, by name. `server_ccs`: the
    CPNS Server that it pins, b"" for none; None for the one that it has, else that of `trust`. `entity_user_key`: b""
    to keep what it has.
    """

    pne_id: str
    trust: Trust
    wifi: Wifi | None = None
    group: str | None = None
    replace: bool = False
    board: bytes | None = None
    labelled: bool = False
    without_wifi: bool = False
    without_ble: bool = False
    hardware: Mapping[str, Board] = field(default_factory=dict)
    server_ccs: bytes | None = None
    entity_user_key: bytes = field(default=b"", repr=False)

    def server_of(self, kept: "Identity | None") -> bytes:
        """Return the CPNS Server that a board pins (CCS octets); `kept` is the identity that it keeps, if it does.

        It keeps its Server with its identity unless a person names another: the gateway cannot change it.
        """
        if self.server_ccs is not None:
            return self.server_ccs
        return kept.server if kept is not None and kept.server else self.trust.server_ccs

    def packed(self, radios: Mapping[str, bytes], kept: "Identity | None") -> bytes:
        """Return what the board adds to its identity, with `radios` of `radio_records`: see `pending.complete`."""
        trust, records, server = self.trust, {**self.trust.further_records(), **radios}, self.server_of(kept)
        if self.board is not None:
            records[board_record.RECORD] = self.board
        if self.entity_user_key:
            records[entity_user_keys.RECORD] = entity_user_keys.pack(self.entity_user_key)
        gateway = [trust.gateway.entity_id, trust.gateway.ccs, trust.signing_key, trust.signing_epoch, trust.pn_id]
        # Files of a board from before end-to-end groups know of no Server
        return bytes(cborlite.encode([*gateway, trust.address, *([server] if server else []), records]))

    def radio_records(self, found: "Found") -> dict[str, bytes]:
        """Return the records `wifi` and `ble` that change on a board with `found` in its flash; empty ones are erased.

        Raises ProvisioningFault if the board would have no radio.
        """
        name = board_record.name_of(self.board) if self.board is not None else found.board
        hardware = self.hardware.get(name)
        has_ble = found.has_bluetooth and (hardware is None or "ble" in hardware.radios)
        alike = [hardware] if hardware else [each for each in self.hardware.values() if each.chip.name == found.chip]
        one_radio = any(each.one_radio for each in alike) and not self.without_wifi
        records = {}
        if not self.without_ble and not one_radio and has_ble and self.trust.company_id is not None:
            records[BLE] = ble_record(self.trust.company_id)
        elif found.ble:
            records[BLE] = b""
        if self.wifi is not None:
            records[WIFI] = self.wifi.record()
        elif self.without_wifi:
            if not records.get(BLE):
                raise ProvisioningFault.without_radio(has_ble, self.trust.company_id is not None)
            records[WIFI] = b""
        elif found.wifi is None:
            raise ProvisioningFault.without_wifi()
        return records


@dataclass(frozen=True)
class Identity:
    """An identity in the flash of a board, without its private key.

    `gateway` and `server`, the CPNS Server, are CCS octets, each empty if it knows none.
    """

    pne_id: str
    ccs: bytes
    gateway: bytes
    server: bytes = b""


@dataclass(frozen=True)
class Found:
    """What is in the flash of a board. `damaged`: names of records of which no copy is whole.

    `ble`: it is to use Bluetooth, `has_bluetooth`: its firmware can. `board` is its name in `hw_configs/`, `chip` that
    of its chip there; each is "" if the board does not tell.
    """

    present: Identity | None
    pending: Identity | None
    wifi: str | None
    damaged: tuple[str, ...]
    repaired: int
    ble: bool
    board: str
    chip: str
    has_bluetooth: bool


@dataclass(frozen=True)
class Done:
    """What was done: the identity is a `new` one or has stayed; `former` is one that was of use and has ended.

    `identity` is the one that it has now. `secret`: the 16 characters for the label, "" without one.
    """

    new: bool
    former: Identity | None
    found: Found
    identity: Identity
    secret: str = field(default="", repr=False)


class _Told(BaseModel):
    present: tuple[answers.Text, answers.Octets, answers.Octets, answers.Octets] | None
    pending: tuple[answers.Text, answers.Octets, answers.Octets, answers.Octets] | None
    wifi: answers.Text | None
    damaged: tuple[answers.Text, ...]
    repaired: answers.Count
    ble: bool
    board: answers.Text | None
    machine: answers.Text
    has_bluetooth: bool


_LOOK = TypeAdapter(_Told)


def provision(board: BoardInRepl, gateway: GatewayDoor, order: WantedBoard, tell: Callable[[str], None]) -> Done:
    """Give a board the identity of `order`; `tell` is called with what is done now, in words for a person.

    A board that has this name at this gateway already keeps its identity, and gets the rest anew, unless `replace`.
    Raises ProvisioningFault and other BoardFault, and GatewayError; the texts say what the person can do.
    """
    if order.server_ccs and credentials.parse(order.server_ccs, credentials.ROLE_SERVER).x == order.trust.gateway.x:
        raise ProvisioningFault.of_gateway()
    try:
        found = look(board)
    except ProvisioningFault:  # files that were written just now are found after a restart
        board.restart()
        found = look(board)
    former = _living(found.present, gateway, order)
    same = former is not None and _is_ordered(former, order)
    radios = order.radio_records(found)
    if former is not None and not same and not order.replace:
        raise ProvisioningFault.is_other(former.pne_id)
    keep = same and not order.replace
    begun = found.pending if found.pending and found.pending.pne_id == order.pne_id and not order.replace else None
    known = begun is not None and bool(gateway.standing(begun.ccs))  # the last time ended after the registration
    if not keep and not known:
        gateway.check(order.pne_id, order.group, order.replace)
    known_ccs = begun.ccs if begun is not None and known and not keep else b""  # to be taken back if this fails
    try:
        if keep:
            tell("keeps its identity")
            ccs = _ask(board, "begin_again()", _OCTETS)
        else:
            tell("makes its key")
            ccs = _ask(board, f"begin({order.pne_id!a}, {begun is None})", _OCTETS)
        _require_named(ccs, order.pne_id)
        if former is not None and keep != (ccs == former.ccs):
            raise ProvisioningFault.refused("it shows another key than it should")
        octets = order.packed(radios, former if keep else None)
        call = f"complete({octets.hex()!r}, {sha256(octets).hexdigest()!r}, {order.labelled})"
        digest, secret = _ask(board, call, _DIGEST_AND_SECRET)
        if len(secret or b"") != (pairing_secret.OCTETS if order.labelled else 0):
            raise ProvisioningFault.refused("the secret for its label is none")
        tell("restarts")
        board.restart()
        _define(board)
        if _ask(board, "confirm()", _OCTETS) != digest:
            raise ProvisioningFault.refused("its flash holds something else after the restart")
        tell("is let in at the gateway")
        if not keep:
            known_ccs = ccs
        gateway.register(ccs, order.group, order.replace)
    except BaseException:
        _take_back(board, gateway, known_ccs)
        raise
    tell("takes its identity on")
    _put_in_force(board, gateway, ccs, known_ccs)
    identity = Identity(order.pne_id, ccs, order.trust.gateway.ccs, order.server_of(former if keep else None))
    return Done(not keep, None if keep else former, found, identity, base64.b32encode(secret or b"").decode())


def look(board: BoardInRepl) -> Found:
    """Return what is in the flash of a board. Raises BoardFault."""
    _define(board)
    told = _ask(board, "look()", _LOOK)
    present, pending = (each and Identity(*each) for each in (told.present, told.pending))
    for each in (present, pending):
        if each is not None:
            _require_named(each.ccs, each.pne_id)
    chip = told.machine.rpartition(" with ")[2].lower()
    of_radios = told.ble, told.board or "", chip, told.has_bluetooth
    return Found(present, pending, told.wifi, told.damaged, told.repaired, *of_radios)


def _require_named(ccs: bytes, pne_id: str) -> None:
    """Raise ProvisioningFault unless `ccs` is a credential of a board called `pne_id`."""
    try:
        named = credentials.parse(ccs, credentials.ROLE_PNE).entity_id
    except CpnsError:
        raise ProvisioningFault.refused("its key is none") from None
    if named != pne_id:
        raise ProvisioningFault.refused("it has another name")


def _living(present: Identity | None, gateway: GatewayDoor, order: WantedBoard) -> Identity | None:
    """Return the present identity if it is of use: at another gateway, or at this one, which knows it."""
    if present is None or not present.gateway:
        return None
    if present.gateway == order.trust.gateway.ccs and not gateway.standing(present.ccs):
        return None
    return present


def _is_ordered(identity: Identity, order: WantedBoard) -> bool:
    return identity.pne_id == order.pne_id and identity.gateway == order.trust.gateway.ccs


def _put_in_force(board: BoardInRepl, gateway: GatewayDoor, ccs: bytes, known_ccs: bytes) -> None:
    """Put the registered identity `ccs` in force. If the board says that it is not, take `known_ccs` back."""
    try:
        _ask(board, "put_in_force()")
    except BoardFault:
        # A board that does not answer may have it in force: then it is heard, or the same command goes on
        if not _ask(board, f"in_force({ccs.hex()!r})"):
            _take_back(board, gateway, known_ccs)
        raise


def _take_back(board: BoardInRepl, gateway: GatewayDoor, ccs: bytes) -> None:
    """Erase the registration of `ccs`, if it is not empty, and then the pending identity.

    If the gateway does not answer it may have registered that, so the board keeps it: the same command goes on with it.
    """
    with contextlib.suppress(GatewayError, OSError):
        if ccs:
            gateway.withdraw(ccs)
        _ask(board, "drop()")


def _define(board: BoardInRepl) -> None:
    """Define on the board what `_ask` calls, once after each start: to compile it takes much of the heap."""
    _run(board, _PROGRAM.read_text())


def _ask(board: BoardInRepl, call: str, form: TypeAdapter[Any] = _DONE) -> Any:
    printed = _run(board, f"{call}\n")
    try:
        return answers.read(printed, form)
    except ValueError:
        raise ProvisioningFault.refused("its answer cannot be read") from None


def _run(board: BoardInRepl, program: str) -> str:
    try:
        return board.run(program)
    except BoardAnswered as answered:
        raise ProvisioningFault.answered(answered.kind, answered.number, str(answered)) from None
