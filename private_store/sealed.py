"""A sealed file: a head that everybody can read, and octets that only a passphrase or a private key opens.

A line says the format and how long the head is; the head is JSON: `about`, a flat object of text; `lock`, how the key
of this file is found; `salt`. The octets follow in chunks of 64 KiB, each encrypted by AES-256-GCM. Its nonce is the
number of the chunk and a mark of the last one, and the key depends on the head: a file that was cut, put together from
parts, or given another head does not open (the construction STREAM of Hoang, Reyhanitabar, Rogaway and Vizár, 2015).
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from private_store.errors import Fault, StoreUnusable

BACKUP = "backup"
"""What most sealed files are. `what` of the functions below names others; it is the second word of such a file."""
FORMAT = b"2"
HEAD_MAX = 64 * 1024
CHUNK = 64 * 1024
KEY_LEN = 32
_TAG = 16
_SALT_LEN = 16

SCRYPT_LOG2_N = 16
"""The cost of a passphrase, for those who write: 64 MiB and about half a second, twice."""
SCRYPT_P = 2
_SCRYPT_R = 8
# What a reader does for a file of unknown origin: 256 MiB at most.
_LOG2_N_READ = range(10, 19)
_P_READ = range(1, 5)

PASSPHRASE, RECIPIENT = "passphrase", "recipient"
_ANOTHER = "Take another copy of it."


@dataclass(frozen=True)
class Lock:
    """The lock of one new file: its key, 32 octets, and `told`, what the head says of how that key is found."""

    told: Mapping[str, str | int]
    key: bytes = field(repr=False)

    def text(self) -> str:
        """Return this lock, key included, for the process that writes the file: it need not know what opens it."""
        return json.dumps({"told": dict(self.told), "key": self.key.hex()})

    @classmethod
    def of(cls, text: str) -> "Lock":
        """Return the lock that `text` returned. Raises ValueError."""
        try:
            fields = json.loads(text)
            lock = cls(dict(fields["told"]), bytes.fromhex(fields["key"]))
        except (KeyError, TypeError, AttributeError, RecursionError):
            raise ValueError("this is no lock") from None
        if len(lock.key) != KEY_LEN:
            raise ValueError("this is no lock")
        return lock


Unlock = Callable[[Mapping[str, Any]], bytes]
"""Returns the key of a file for the `told` of its lock. Raises Locked, and ValueError, KeyError or TypeError if `told`
makes no sense."""


class Locked(Exception):
    """The passphrase or the private key is not that of the file. The text is a sentence for a person."""


@dataclass(frozen=True)
class Head:
    """What can be read of a sealed file without its key, and is only known to be true once the file was opened."""

    about: dict[str, str]
    lock: dict[str, Any]
    prefix: bytes = field(repr=False)


def lock_by_passphrase(passphrase: bytes) -> Lock:
    """Return a lock that the same passphrase opens. It works for about a second on a small computer."""
    salt = os.urandom(_SALT_LEN)
    told: dict[str, str | int] = {
        "kind": PASSPHRASE,
        "salt": salt.hex(),
        "log2_n": SCRYPT_LOG2_N,
        "r": _SCRYPT_R,
        "p": SCRYPT_P,
    }
    return _locked(told, _by_passphrase(passphrase, told))


def lock_for(recipient: bytes) -> Lock:
    """Return a lock that only the private key of `recipient`, 32 octets (X25519, RFC 7748), opens."""
    once = X25519PrivateKey.generate()
    public = once.public_key().public_bytes_raw()
    told: dict[str, str | int] = {"kind": RECIPIENT, "recipient": recipient.hex(), "once": public.hex()}
    return _locked(told, _between(once.exchange(X25519PublicKey.from_public_bytes(recipient)), public, recipient))


def with_passphrase(passphrase: bytes, what: str = BACKUP) -> Unlock:
    """Return what opens a lock by a passphrase."""

    def unlock(told: Mapping[str, Any]) -> bytes:
        if told["kind"] != PASSPHRASE:
            raise Locked("It was made for a recipient: name the private key with --key.")
        return _unwrapped(told, _by_passphrase(passphrase, told), f"The passphrase is not that of this {what}.")

    return unlock


def with_private_key(private: bytes) -> Unlock:
    """Return what opens a lock for a recipient. `private` is its X25519 key, 32 octets."""
    key = X25519PrivateKey.from_private_bytes(private)
    public = key.public_key().public_bytes_raw()

    def unlock(told: Mapping[str, Any]) -> bytes:
        if told["kind"] != RECIPIENT:
            raise Locked("It was made with a passphrase, and not for a recipient.")
        if bytes.fromhex(told["recipient"]) != public:
            raise Locked("It was made for another recipient, and not for this private key.")
        once = bytes.fromhex(told["once"])
        shared = key.exchange(X25519PublicKey.from_public_bytes(once))
        return _unwrapped(told, _between(shared, once, public), "The private key does not open it.")

    return unlock


def with_key_of(lock: Lock) -> Unlock:
    """Return what opens the files that were sealed with `lock`."""
    return lambda _: lock.key


def seal(about: Mapping[str, str], content: bytes, lock: Lock, what: str = BACKUP) -> bytes:
    """Return a sealed file. `about` is readable by everybody, and nobody can change it unnoticed."""
    fields = {"about": dict(about), "lock": dict(lock.told), "salt": os.urandom(_SALT_LEN).hex()}
    head = json.dumps(fields, indent=1, ensure_ascii=False).encode() + b"\n"
    prefix = _magic(what) + FORMAT + b" %d\n" % len(head) + head
    cipher = _cipher(lock.key, prefix)
    last = max(0, (len(content) - 1) // CHUNK)
    parts = [
        cipher.encrypt(_nonce(number, number == last), content[number * CHUNK : (number + 1) * CHUNK], None)
        for number in range(last + 1)
    ]
    return b"".join([prefix, *parts])


def is_sealed(octets: bytes, what: str = BACKUP) -> bool:
    """Return True if `octets` are the beginning of a sealed file, of this format or of a later one."""
    return octets.startswith(_magic(what))


def head_of(octets: bytes, path: Path, fault: Fault = StoreUnusable, what: str = BACKUP) -> Head:
    """Return the head of a sealed file from its first octets. Raises `fault`, which names `path`."""
    line, _, rest = octets[: HEAD_MAX + 64].partition(b"\n")
    if not is_sealed(octets, what):
        raise fault(f"{path} is no {what} of keycast.", _ANOTHER)
    form, _, length = line[len(_magic(what)) :].partition(b" ")
    if form != FORMAT:
        raise fault(f"{path} was written by a newer keycast.", "Install that version.")
    try:
        if not length.isdigit() or not 0 < int(length) <= HEAD_MAX or len(rest) < int(length):
            raise ValueError
        head = rest[: int(length)]
        fields = json.loads(head)
        about, lock = fields["about"], fields["lock"]
        if not all(isinstance(text, str) for text in (*about, *about.values(), fields["salt"], lock["kind"])):
            raise ValueError
        if not all(text.isprintable() for text in (*about, *about.values())):  # a terminal may act on it
            raise ValueError
        return Head(dict(about), dict(lock), line + b"\n" + head)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise _damaged(path, fault) from None


def open_sealed(
    octets: bytes, path: Path, unlock: Unlock, fault: Fault = StoreUnusable, what: str = BACKUP
) -> tuple[Head, bytes]:
    """Return head and content of a sealed file. Raises `fault` if the key is wrong or one bit is not what it was."""
    head = head_of(octets, path, fault, what)
    try:
        cipher = _cipher(unlock(head.lock), head.prefix)
    except Locked as wrong:
        raise fault(f"{path} does not open.", str(wrong)) from None
    except (ValueError, KeyError, TypeError, OverflowError):
        raise _damaged(path, fault) from None
    except MemoryError:
        raise fault(f"{path} needs more memory than there is.", "Open it on a larger computer.") from None
    sealed, content = memoryview(octets)[len(head.prefix) :], bytearray()
    size = CHUNK + _TAG
    last = max(0, (len(sealed) - 1) // size)
    try:
        for number in range(last + 1):
            part = sealed[number * size : (number + 1) * size]
            content += cipher.decrypt(_nonce(number, number == last), part, None)
    except (InvalidTag, ValueError):
        raise _damaged(path, fault) from None
    return head, bytes(content)


def _magic(what: str) -> bytes:
    return f"keycast {what} ".encode()


def _damaged(path: Path, fault: Fault) -> Exception:
    return fault(f"{path} is damaged: it was cut short or changed.", _ANOTHER)


def _locked(told: dict[str, str | int], key: bytes) -> Lock:
    file_key = os.urandom(KEY_LEN)
    # The key that wraps is used once, as its salt or its X25519 key is new.
    return Lock(told | {"wrapped": AESGCM(key).encrypt(bytes(12), file_key, None).hex()}, file_key)


def _unwrapped(told: Mapping[str, Any], key: bytes, wrong: str) -> bytes:
    wrapped = bytes.fromhex(told["wrapped"])
    if len(wrapped) != KEY_LEN + _TAG:
        raise ValueError
    try:
        return AESGCM(key).decrypt(bytes(12), wrapped, None)
    except InvalidTag:
        raise Locked(wrong) from None


def _by_passphrase(passphrase: bytes, told: Mapping[str, Any]) -> bytes:
    log2_n, r, p = told["log2_n"], told["r"], told["p"]
    if type(log2_n) is not int or log2_n not in _LOG2_N_READ or r != _SCRYPT_R or type(p) is not int:
        raise ValueError
    salt = bytes.fromhex(told["salt"])
    if p not in _P_READ or len(salt) != _SALT_LEN:
        raise ValueError
    return Scrypt(salt=salt, length=KEY_LEN, n=1 << log2_n, r=r, p=p).derive(passphrase)


def _between(shared: bytes, once: bytes, recipient: bytes) -> bytes:
    return _derived(shared, once + recipient, b"keycast backup recipient")


def _cipher(key: bytes, prefix: bytes) -> AESGCM:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(prefix)
    return AESGCM(_derived(key, digest.finalize(), b"keycast backup content"))


def _derived(key: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(hashes.SHA256(), KEY_LEN, salt, info).derive(key)


def _nonce(number: int, is_last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([is_last])
