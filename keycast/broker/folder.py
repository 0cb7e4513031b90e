"""The folder of `keycast server broker-files`: for each machine of a broker network the folder that is copied onto it.

    brokers/<host>/         mosquitto.conf, acl, ca.crt, broker.crt, broker.key, revoked.crl
    server/, server-2/ ...  ca.crt, client.crt, client.key of each process of the CPNS Server
    gateways/<gateway>/     ca.crt, client.crt, client.key of a PN GW
    authority/              ca.crt, ca.key; stays where it is
    register.json           what was made

Without an authority of our own there are only `brokers` with the first two files, and the register. A folder that was
copied may be removed, but not `authority`. Every text follows from the register.
"""

import datetime
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from cpns import name_rule
from http_door.tls import alternative_names
from key_servers.errors import NotPossible, SecretFileUnusable, ServerError
from key_servers.known_names import nearest
from keycast.broker import mosquitto
from keycast.broker import register as registers
from keycast.broker.authority import CertificateAuthority, Issued
from keycast.broker.client_files import CLIENT_FILES
from keycast.broker.register import TRIAL, BrokerEntry, GatewayEntry, Register
from private_store import files, folders

SERVER, GATEWAYS, BROKERS, AUTHORITY = "server", "gateways", "brokers", "authority"
CA, CERTIFICATE, KEY = CLIENT_FILES.values()
CONFIGURATION, ACCESS_LIST = "mosquitto.conf", "acl"


class BrokerFilesChanged(ServerError):
    """A file that would be written anew was changed by hand."""


@dataclass(frozen=True)
class WantedFiles:
    """What a call adds. Each of `brokers` is the list of names of one broker: host names and IP addresses.

    `at`: absolute path of the folder on the broker's machine, None for where the files are written. `port`: 1..65535.
    """

    server_id: str | None = None
    brokers: Sequence[Sequence[str]] = ()
    port: int | None = None
    at: str | None = None
    processes: int = 1
    gateways: Sequence[str] = ()
    revoked: Sequence[str] = ()
    has_authority: bool = False


@dataclass
class Change:
    """The register after a call, and what the call has done.

    `made`: entity IDs of PN GWs, names of folders below. `changed`: names of files below that the brokers may have
    already, and that are others now.
    """

    register: Register
    made: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)


def bring_up(folder: Path, wanted: WantedFiles, now: datetime.datetime) -> Change:
    """Make `folder`, or add to it what is `wanted` and was not made yet. Nothing that is there is lost.

    Raises NotPossible, BrokerFilesChanged, SecretFileUnusable, TlsUnusable, and MalformedMessage for an entity ID that
    cannot be one. Then the register is as it was; the next call makes what is missing.
    """
    folders.make(folder, SecretFileUnusable)
    with files.exchanging(folder / registers.NAME, SecretFileUnusable) as write:
        stored = registers.read(folder)
        register = Register(server_id=wanted.server_id or "", has_authority=wanted.has_authority)
        change = Change(register if stored is None else stored.model_copy(deep=True))
        _Writing(folder, change, wanted, now).work()
        write((change.register.model_dump_json(indent=1) + "\n").encode())
    return change


def authority_of(folder: Path) -> CertificateAuthority:
    """Return the authority of a folder. Raises SecretFileUnusable if its files are not there or damaged."""
    within = folder / AUTHORITY
    missing = "It is needed for each new certificate: put back a copy of it."
    certificate, key = (files.read(within / name, SecretFileUnusable, missing=missing) for name in (CA, "ca.key"))
    return CertificateAuthority.load(certificate, key)


def write_client(folder: Path, authority: CertificateAuthority, issued: Issued) -> None:
    """Write the three files of a client into `folder`. Raises SecretFileUnusable."""
    folders.make(folder, SecretFileUnusable)
    _write(folder / CA, authority.certificate)
    _write(folder / CERTIFICATE, issued.certificate)
    _write(folder / KEY, issued.key)


class _Writing:
    """One call: it changes the register, and writes what follows from that."""

    def __init__(self, folder: Path, change: Change, wanted: WantedFiles, now: datetime.datetime) -> None:
        self._folder = folder
        self._change = change
        self._register = change.register
        self._wanted = wanted
        self._now = now

    def work(self) -> None:
        self._check()
        register, authority = self._register, self._authority()
        revoked = [self._revoke(gateway_id) for gateway_id in self._wanted.revoked]
        brokers = self._new_brokers()
        texts = self._texts()
        self._refuse_changed(texts)  # before anything is made
        for broker in brokers:
            if authority is not None:
                within = self._folder / BROKERS / broker.folder
                folders.make(within, SecretFileUnusable)
                issued = authority.broker(broker.names, self._now)
                _write(within / CA, authority.certificate)
                _write(within / "broker.crt", issued.certificate)
                _write(within / "broker.key", issued.key)
        for number in range(register.processes + 1, self._wanted.processes + 1):
            if authority is not None:
                issued = authority.client(register.server_user(number), self._now)
                write_client(self._folder / server_folder(number), authority, issued)
            self._change.made.append(server_folder(number))
        register.processes = max(register.processes, self._wanted.processes)
        for gateway_id in self._wanted.gateways:
            self._add_gateway(gateway_id, authority)
        # once more: a gateway with a new certificate is denied nothing any more
        self._write_texts(self._texts())
        if authority is not None:
            self._write_revocations(authority, anew=bool(revoked))

    def _check(self) -> None:
        register, wanted = self._register, self._wanted
        if wanted.server_id is not None and wanted.server_id != register.server_id:
            raise NotPossible(f"{self._folder} is for the CPNS Server {register.server_id}.", "Name another folder.")
        if wanted.has_authority and not register.has_authority:
            raise NotPossible(f"{self._folder} was made for an authority of your own.", "Name another folder for --ca.")
        for each in (register.server_id, *wanted.gateways):
            name_rule.checked(each, "entity ID")
        if register.server_id in wanted.gateways:
            raise NotPossible(
                f"{register.server_id} is the CPNS Server, and no PN GW.", "Name the gateway's entity ID."
            )
        for names in wanted.brokers:
            alternative_names(names)
        if wanted.at is not None and (not wanted.at.startswith("/") or not wanted.at.isprintable()):
            raise NotPossible(f"{wanted.at!a} is no absolute path.", "Write /etc/mosquitto/keycast, for example.")

    def _authority(self) -> CertificateAuthority | None:
        if not self._register.has_authority:
            return None
        within = self._folder / AUTHORITY
        if os.path.lexists(within / CA):  # it is the last of the two that is written
            return authority_of(self._folder)
        if self._register.written:
            return authority_of(self._folder)  # refuses: it was there
        authority = CertificateAuthority.make("keycast brokers", self._now)
        folders.make(within, SecretFileUnusable)
        _write(within / "ca.key", authority.key)
        _write(within / CA, authority.certificate)
        return authority

    def _new_brokers(self) -> list[BrokerEntry]:
        """Put the wanted brokers into the register; return those that are new."""
        known = {broker.folder: broker for broker in self._register.brokers}
        new = []
        for names in self._wanted.brokers:
            entry = BrokerEntry(names=list(names), port=self._wanted.port or 8883, at="")
            path = self._folder / BROKERS / entry.folder
            entry.at = self._wanted.at or str(PurePosixPath(path.absolute()))
            old = known.get(entry.folder)
            if old is None:
                new.append(entry)
                self._register.brokers.append(entry)
                known[entry.folder] = entry
                self._change.made.append(f"{BROKERS}/{entry.folder}")
            elif old.names != entry.names:
                raise NotPossible(
                    f"The certificate of {old.names[0]} is for {', '.join(old.names)}.", "Name another host first."
                )
            else:
                old.port, old.at = self._wanted.port or old.port, self._wanted.at or old.at
        return new

    def _revoke(self, gateway_id: str) -> GatewayEntry:
        entry = next((each for each in self._register.gateways if each.gateway_id == gateway_id), None)
        if entry is None:
            known = [each.gateway_id for each in self._register.gateways]
            step = nearest(gateway_id, known) or "Those that have are in register.json."
            raise NotPossible(f"{gateway_id} has no certificate from here.", step)
        if entry.revoked_at is None:
            entry.revoked_at = int(self._now.timestamp())
            if entry.serial:
                self._register.revoked[entry.serial] = entry.revoked_at
            self._change.made.append(gateway_id)
        return entry

    def _add_gateway(self, gateway_id: str, authority: CertificateAuthority | None) -> None:
        """Make the certificate of a new PN GW, or another one for a PN GW whose certificate was revoked."""
        entry = next((each for each in self._register.gateways if each.gateway_id == gateway_id), None)
        if entry is not None and entry.revoked_at is None:
            return
        if entry is None:
            entry = GatewayEntry(gateway_id=gateway_id)
            self._register.gateways.append(entry)
        if authority is not None:
            issued = authority.client(entry.tag, self._now)
            write_client(self._folder / GATEWAYS / entry.folder, authority, issued)
            entry.serial = f"{issued.serial:x}"
        entry.revoked_at = None
        self._change.made.append(gateway_id)

    def _texts(self) -> dict[str, str]:
        """Return the text files: path below the folder -> content."""
        register = self._register
        users = [
            register.server_user(number) for number in range(1, max(register.processes, self._wanted.processes) + 1)
        ]
        users.append(register.server_user(TRIAL))
        denied = [each.tag for each in register.gateways if each.revoked_at is not None]
        acl = mosquitto.access_list(register.server_tag, users, denied)
        found = {}
        for each in register.brokers:
            at = PurePosixPath(each.at)
            found[f"{BROKERS}/{each.folder}/{ACCESS_LIST}"] = acl
            found[f"{BROKERS}/{each.folder}/{CONFIGURATION}"] = mosquitto.configuration(
                at, each.port, register.has_authority
            )
        return found

    def _refuse_changed(self, texts: dict[str, str]) -> None:
        """Raise BrokerFilesChanged if a file that would be written is not as it was written."""
        for name, text in texts.items():
            path = self._folder / name
            if self._is_due(name, text) and os.path.lexists(path):
                octets = files.read(path, SecretFileUnusable, most=registers.OCTETS_MAX)
                if octets != text.encode() and _digest(octets) != self._register.written.get(name):
                    raise BrokerFilesChanged(
                        f"{path} was changed by hand, and is left as it is.",
                        "Move it away, type the command again, and put your lines back.",
                    )

    def _write_texts(self, texts: dict[str, str]) -> None:
        for name, text in texts.items():
            if self._is_due(name, text):
                path = self._folder / name
                folders.make(path.parent / mosquitto.DATA, SecretFileUnusable)
                if name in self._register.written:
                    self._change.changed.append(name)
                _write(path, text.encode())
                self._register.written[name] = _digest(text.encode())

    def _is_due(self, name: str, text: str) -> bool:
        """Return True if the text is another one than was written last, or if its file is not there."""
        return self._register.written.get(name) != _digest(text.encode()) or not os.path.lexists(self._folder / name)

    def _write_revocations(self, authority: CertificateAuthority, anew: bool) -> None:
        paths = [self._folder / BROKERS / broker.folder / "revoked.crl" for broker in self._register.brokers]
        due = paths if anew else [path for path in paths if not os.path.lexists(path)]
        if due:
            revoked = {int(serial, 16): at for serial, at in self._register.revoked.items()}
            octets = authority.revocations(revoked, self._now)
            for path in due:
                if os.path.lexists(path):
                    self._change.changed.append(str(path.relative_to(self._folder)))
                _write(path, octets)


def server_folder(process: int) -> str:
    """Return the name of the folder of a process of the CPNS Server: 1, 2, ..."""
    return SERVER if process == 1 else f"{SERVER}-{process}"


def _write(path: Path, octets: bytes) -> None:
    with files.exchanging(path, SecretFileUnusable) as write:
        write(octets)


def _digest(octets: bytes) -> str:
    return hashlib.sha256(octets).hexdigest()
