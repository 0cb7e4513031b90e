"""The offline key: the P-256 key whose owner signs updates (SEC-30), in a file that only a passphrase opens.

It is made once, has this one job (SEC-17), and is kept away from the gateway, which gets the public file beside it.
"""

import os
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from gateway_agent.updates.update_key import UpdateKey
from private_store import files, plain_file, sealed
from private_store.errors import Fault, StoreUnusable

WHAT = "update key"
PUBLIC_SUFFIX = ".pub"
_FILE_MAX = 4096
_SCALAR = 32
_CURVE = ec.SECP256R1()
_ES256 = ec.ECDSA(hashes.SHA256())


class OfflineKey:
    """The opened key. `repr` never shows it."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        """`key` is on P-256."""
        self._key = key
        self.public = UpdateKey(key.public_key())

    def sign(self, octets: bytes) -> bytes:
        """Return the ES256 signature of `octets`, r || s, 64 octets (RFC 9053 section 2.1)."""
        r, s = decode_dss_signature(self._key.sign(octets, _ES256))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def __repr__(self) -> str:
        return "OfflineKey(<private key>)"

    @classmethod
    def load(cls, path: Path, passphrase: bytes, fault: Fault = StoreUnusable) -> "OfflineKey":
        """Return the key in the private file `path`. Raises `fault`, also for a wrong passphrase."""
        exposed = "It is the public file: name the private one." if path.suffix == PUBLIC_SUFFIX else ""
        missing = "Make the key: keycast update key FILE"
        octets = files.read(path, fault, missing=missing, exposed=exposed, most=_FILE_MAX)
        if not sealed.is_sealed(octets, WHAT):
            raise fault(f"{path} is no {WHAT}.", "Name the private file that keycast update key has written.")
        _, scalar = sealed.open_sealed(octets, path, sealed.with_passphrase(passphrase, WHAT), fault, WHAT)
        return cls(ec.derive_private_key(int.from_bytes(scalar, "big"), _CURVE))


def public_file(path: Path) -> Path:
    """Return the file with the public part of the key in the file `path`."""
    return Path(f"{path}{PUBLIC_SUFFIX}")


def require_new(path: Path, fault: Fault = StoreUnusable) -> None:
    """Raise `fault` if one of the files of a new key is there already, or no folder for them that only the owner writes
    to, before a person types a passphrase."""
    for each in (path, public_file(path)):
        if os.path.lexists(each):
            raise fault(f"{each} exists already.", "A key is never overwritten: name another file.")
    plain_file.require_new(path, fault)
    files.check_folder(path.parent, fault)


def make(path: Path, passphrase: bytes, fault: Fault = StoreUnusable) -> OfflineKey:
    """Make a new key in the new file `path`, with the public file beside it. Raises `fault` if one is there already."""
    require_new(path, fault)
    key = ec.generate_private_key(_CURVE)
    made = OfflineKey(key)
    scalar = key.private_numbers().private_value.to_bytes(_SCALAR, "big")
    about = {"of": WHAT, "public_key": made.public.octets.hex()}
    octets = sealed.seal(about, scalar, sealed.lock_by_passphrase(passphrase), WHAT)
    files.write_new(path, octets, fault)
    try:
        plain_file.write_new(public_file(path), made.public.pem(), fault)
    except BaseException:
        files.erase(path, fault)
        raise
    return made
