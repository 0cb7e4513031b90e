"""An entity's own keys. Each is made once, has one purpose, and is in a file that only its owner can read (SEC-17)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from cpns import name_rule, tuning
from cpns.errors import CpnsError
from message_plane import credentials
from message_plane.errors import IdentityError
from private_store import contents, files

IDENTITY_FORMAT = "keycast identity 1"
SIGNING_FORMAT = "keycast signing key 1"
FILE_MAX = 4096  # octets: a key file has about 200
SIGNATURE_LEN = 64
PUBLIC_LEN = 64

_CURVE = ec.SECP256R1()
_ES256 = ec.ECDSA(hashes.SHA256())


class HasPublicX(Protocol):
    """An object with a P-256 public key, whose x coordinate is `x`, 32 octets."""

    @property
    def x(self) -> bytes: ...


class OwnIdentity:
    """The identity of this entity in EDHOC: entity ID, role and static P-256 key. `repr` never shows the key."""

    def __init__(self, entity_id: str, role: str, key: ec.EllipticCurvePrivateKey) -> None:
        """`key` is on P-256. Raises IdentityError for an invalid entity ID or role."""
        self._key = key
        try:
            self.credential = credentials.of(entity_id, role, _x_of(key))
        except CpnsError as error:
            raise IdentityError(error.reason) from None

    @property
    def entity_id(self) -> str:
        return self.credential.entity_id

    @property
    def role(self) -> str:
        return self.credential.role

    @property
    def x(self) -> bytes:
        return self.credential.x

    def private_octets(self) -> bytes:
        """Return the private scalar, 32 octets, for the EDHOC library.

        The caller must not keep, print or store it.
        """
        return _scalar_of(self._key)

    def octets(self) -> bytes:
        """Return what a key file holds, private key included, for a store that is as private as such a file."""
        fields = {"format": IDENTITY_FORMAT, "entity_id": self.entity_id, "role": self.role}
        return _octets_of(fields | {"private_key": self.private_octets().hex()})

    def __repr__(self) -> str:
        return f"OwnIdentity({self.entity_id!r}, {self.role!r}, <private key>)"

    @classmethod
    def create(cls, path: str | Path, entity_id: str, role: str) -> OwnIdentity:
        """Make a new key for `entity_id` in a new file of mode 0600.

        Raises IdentityError if the file exists, or for an invalid entity ID (`cpns.name_rule`).
        """
        identity = cls.new(entity_id, role)
        files.write_new(Path(path), identity.octets(), IdentityError)
        return identity

    @classmethod
    def new(cls, entity_id: str, role: str) -> OwnIdentity:
        """Make a new key for `entity_id`, which is stored nowhere. Raises IdentityError for an invalid entity ID."""
        wrong = name_rule.fault(entity_id, tuning.CREDENTIAL_ID_MAX)
        if wrong is not None:
            raise IdentityError(f"the entity ID {entity_id!a} {wrong}: choose another one")
        return cls(entity_id, role, ec.generate_private_key(_CURVE))

    @classmethod
    def kept(cls, path: Path, entity_id: str, role: str, remedy: str) -> OwnIdentity:
        """Return the identity in `path`; make it if it never existed.

        Raises IdentityError; `remedy` is the next step in its text if the file existed and is gone.
        """
        with contents.keeping(path, remedy, IdentityError):
            return cls.load(path) if os.path.lexists(path) else cls.create(path, entity_id, role)

    @classmethod
    def load(cls, path: str | Path) -> OwnIdentity:
        """Return the identity in `path`. Raises IdentityError if it is missing, readable by other users, or damaged."""
        return cls.from_octets(_octets_in(Path(path)), str(path))

    @classmethod
    def from_octets(cls, octets: bytes, place: str) -> OwnIdentity:
        """Return the identity that `octets` returned. Raises IdentityError, which names `place`, if it is damaged."""
        fields = _read(octets, IDENTITY_FORMAT, place)
        entity_id, role = fields.get("entity_id"), fields.get("role")
        if not isinstance(entity_id, str) or not isinstance(role, str):
            raise _damaged(place)
        return cls(entity_id, role, _key_from(fields, place))


class BroadcastSigningKey:
    """The PN GW's broadcast signing key (ES256). `repr` never shows the private key.

    `epoch` begins with 1 and grows with each roll-over.
    """

    def __init__(self, key: ec.EllipticCurvePrivateKey, epoch: int = 1) -> None:
        """`key` is on P-256."""
        self._key = key
        self.epoch = epoch

    @property
    def x(self) -> bytes:
        return _x_of(self._key)

    @property
    def public_key(self) -> bytes:
        """The public key, x ‖ y, 64 octets, as boards get it at provisioning or pairing."""
        numbers = self._key.public_key().public_numbers()
        return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")

    def sign(self, message: bytes) -> bytes:
        """Return the ES256 signature of `message`, r ‖ s, 64 octets (RFC 9053, 2.1)."""
        r, s = decode_dss_signature(self._key.sign(message, _ES256))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def __repr__(self) -> str:
        return f"BroadcastSigningKey(epoch {self.epoch}, <private key>)"

    @classmethod
    def create(cls, path: str | Path, *others: HasPublicX, epoch: int = 1) -> BroadcastSigningKey:
        """Make a new signing key, different from the keys of `others`, in a new file of mode 0600.

        Raises IdentityError.
        """
        signing = cls(ec.generate_private_key(_CURVE), epoch)
        require_distinct(signing, *others)
        fields = {"format": SIGNING_FORMAT, "epoch": epoch, "private_key": _scalar_of(signing._key).hex()}
        files.write_new(Path(path), _octets_of(fields), IdentityError)
        return signing

    @classmethod
    def kept(cls, path: Path, remedy: str, *others: HasPublicX) -> BroadcastSigningKey:
        """Return the signing key in `path`; make it if it never existed. Raises IdentityError as `OwnIdentity.kept`."""
        with contents.keeping(path, remedy, IdentityError):
            return cls.load(path, *others) if os.path.lexists(path) else cls.create(path, *others)

    @classmethod
    def load(cls, path: str | Path, *others: HasPublicX) -> BroadcastSigningKey:
        """Return the signing key in `path`. Raises IdentityError, also if it equals a key of `others` (SEC-17)."""
        signing = cls.from_octets(_octets_in(Path(path)), str(path))
        require_distinct(signing, *others)
        return signing

    @classmethod
    def from_octets(cls, octets: bytes, place: str) -> BroadcastSigningKey:
        """Return the signing key in the octets of its file. Raises IdentityError, which names `place`, if damaged."""
        fields = _read(octets, SIGNING_FORMAT, place)
        epoch = fields.get("epoch")
        if not isinstance(epoch, int) or isinstance(epoch, bool) or epoch < 1:
            raise _damaged(place)
        return cls(_key_from(fields, place), epoch)


def require_distinct(*keys: HasPublicX) -> None:
    """Raise IdentityError if any two of `keys` are the same key (SEC-17).

    They are compared by x, in which a key and its negative agree, because EDHOC does not distinguish these.
    """
    if len({key.x for key in keys}) != len(keys):
        raise IdentityError("one key is used for two jobs: remove one of the key files and create that key anew")


def _x_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_numbers().x.to_bytes(32, "big")


def _scalar_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_numbers().private_value.to_bytes(32, "big")


def _key_from(fields: dict[str, Any], place: str) -> ec.EllipticCurvePrivateKey:
    text = fields.get("private_key")
    try:
        octets = bytes.fromhex(text) if isinstance(text, str) else b""
        if len(octets) != 32:
            raise ValueError
        return ec.derive_private_key(int.from_bytes(octets, "big"), _CURVE)
    except ValueError:
        raise _damaged(place) from None


def _damaged(place: str) -> IdentityError:
    return IdentityError(
        f"{place} is not a usable key file: restore it from your copy, or create a new one and pair again"
    )


def _octets_of(fields: dict[str, Any]) -> bytes:
    return (json.dumps(fields, indent=1) + "\n").encode()


def _octets_in(path: Path) -> bytes:
    return files.read(path, IdentityError, missing="Create the key first.", most=FILE_MAX)


def _read(octets: bytes, wanted: str, place: str) -> dict[str, Any]:
    try:
        fields = json.loads(octets)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict) or fields.get("format") != wanted:
        raise _damaged(place)
    return fields
