"""The password of the page: a private file in the state folder with what scrypt (RFC 7914) makes of it."""

import hashlib
import hmac
import json
import secrets
import unicodedata
from pathlib import Path

from gateway_agent.errors import GatewayError
from gateway_agent.web import tuning
from private_store import files, folders

FILE = "web.password"
_SALT_OCTETS = 16
_HASH_OCTETS = 32
_HOW_TO_SET = "Set it anew: keycast web password"


class PasswordUnusable(GatewayError):
    """A password is too short or too long, or its file cannot be used."""


def require_usable(text: str) -> None:
    """Raise PasswordUnusable if a password has less than 8 characters or more than 1024 octets."""
    if len(text.strip()) < tuning.PASSWORD_MIN:
        raise PasswordUnusable(f"The password has less than {tuning.PASSWORD_MIN} characters.", "Choose a longer one.")
    if len(_octets(text)) > tuning.PASSWORD_MAX:
        raise PasswordUnusable(f"The password has more than {tuning.PASSWORD_MAX} octets.", "Choose a shorter one.")


def set_password(state_dir: Path, text: str) -> None:
    """Store what is needed to recognise the password `text`; whoever is logged in is logged out.

    Raises PasswordUnusable as `require_usable` does, and if it cannot be stored.
    """
    require_usable(text)
    octets = _octets(text)
    salt = secrets.token_bytes(_SALT_OCTETS)
    made = _scrypt(octets, salt, tuning.SCRYPT_N, tuning.SCRYPT_R, tuning.SCRYPT_P)
    stored = {"scheme": "scrypt", "n": tuning.SCRYPT_N, "r": tuning.SCRYPT_R, "p": tuning.SCRYPT_P}
    stored |= {"salt": salt.hex(), "hash": made.hex()}
    folders.make(state_dir, PasswordUnusable)
    with files.exchanging(state_dir / FILE, PasswordUnusable) as write:
        write(json.dumps(stored).encode() + b"\n")


def mark(state_dir: Path) -> int:
    """Return a number that changes with the password, 0 if none is set."""
    try:
        status = (state_dir / FILE).stat()
    except OSError:
        return 0
    return status.st_mtime_ns ^ status.st_ino


def fits(state_dir: Path, text: str) -> bool:
    """Return True if `text` is the password; False also if none is set. It takes about 0.1 s, and 32 MiB meanwhile.

    Raises PasswordUnusable if the file is damaged, or open to others.
    """
    path = state_dir / FILE
    octets = _octets(text)
    if not path.exists() or len(octets) > tuning.PASSWORD_MAX:
        return False
    try:
        stored = json.loads(files.read(path, PasswordUnusable, missing=_HOW_TO_SET))
        salt, expected = bytes.fromhex(stored["salt"]), bytes.fromhex(stored["hash"])
        n, r, p = int(stored["n"]), int(stored["r"]), int(stored["p"])
        if stored["scheme"] != "scrypt" or n > tuning.SCRYPT_N or r > tuning.SCRYPT_R or p > tuning.SCRYPT_P:
            raise ValueError
        made = _scrypt(octets, salt, n, r, p)
    except (ValueError, KeyError, TypeError):
        raise PasswordUnusable(f"{path} is damaged, or of a newer keycast.", _HOW_TO_SET) from None
    return hmac.compare_digest(made, expected)


def _octets(text: str) -> bytes:
    """Return the octets of a password: keyboards of two kinds may type the same letters in different ways."""
    return unicodedata.normalize("NFC", text).encode(errors="replace")


def _scrypt(octets: bytes, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(octets, salt=salt, n=n, r=r, p=p, maxmem=256 * n * r, dklen=_HASH_OCTETS)
