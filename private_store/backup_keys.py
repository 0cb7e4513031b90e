"""The key pair of a recipient of backups: a public file for the machine that makes them, a private one for restores.

The machine that makes the backups has the public file only, so a thief of it, or of the place where backups are kept,
cannot read them. The private file is kept elsewhere, and needed for a restore.
"""

import json
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from private_store import files, plain_file
from private_store.errors import Fault, StoreUnusable

_PRIVATE = "keycast backup key 1"
_PUBLIC = "keycast backup recipient 1"
_FILE_MAX = 4096
_KEY_LEN = 32


def make(private: Path, public: Path, fault: Fault = StoreUnusable) -> None:
    """Write a new key pair into two new files, the public one for all to read: a service makes backups with it.

    Raises `fault` if one of them is there already.
    """
    key = X25519PrivateKey.generate()
    files.write_new(private, _octets(_PRIVATE, "private_key", key.private_bytes_raw()), fault)
    try:
        files.write_new(public, _octets(_PUBLIC, "public_key", key.public_key().public_bytes_raw()), fault)
        public.chmod(0o644)
    except BaseException:
        files.erase(private, fault)
        raise


def recipient(path: Path, fault: Fault = StoreUnusable) -> bytes:
    """Return the public key in the file `path`, 32 octets. Raises `fault`."""
    return _key(plain_file.read(path, _FILE_MAX, fault), path, _PUBLIC, "public_key", fault)


def private_key(path: Path, fault: Fault = StoreUnusable) -> bytes:
    """Return the private key in the file `path`, which nobody else may read, 32 octets. Raises `fault`."""
    key = _key(plain_file.read(path, _FILE_MAX, fault), path, _PRIVATE, "private_key", fault)
    files.check(path, fault)  # what is no private key is called that first
    return key


def _octets(form: str, name: str, key: bytes) -> bytes:
    return (json.dumps({"format": form, name: key.hex()}, indent=1) + "\n").encode()


def _key(octets: bytes, path: Path, form: str, name: str, fault: Fault) -> bytes:
    try:
        fields = json.loads(octets)
        key = bytes.fromhex(fields[name]) if fields["format"] == form else b""
    except (ValueError, KeyError, TypeError, RecursionError):
        key = b""
    if len(key) != _KEY_LEN:
        what = "public" if form == _PUBLIC else "private"
        raise fault(f"{path} is not the {what} file of a recipient.", "Make both: keycast backup new-key FILE")
    return key
