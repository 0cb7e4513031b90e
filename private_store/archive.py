"""A backup: one sealed file that holds several files and says whose they are (`sealed`).

The caller has taken out of the files what a backup must not hold. A backup that is read is checked completely before
any part of it is used. Backups of the former release, plain ZIP files, are read for one more release.
"""

import io
import json
import stat
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from private_store import files, plain_file, sealed
from private_store.errors import Fault, StoreUnusable

OCTETS_MAX = 1 << 30
_ABOUT = "keycast-backup.json"
_FORMER = "keycast backup 1"
_FORMER_MAGIC = b"PK"
_ANOTHER = "Take another one."


@dataclass(frozen=True)
class Opened:
    """A backup that was read: what it says of itself, its files by name, and whether it is one of the former release,
    which is not encrypted."""

    about: dict[str, str]
    members: dict[str, bytes] = field(repr=False)
    is_plain: bool = False


def write(
    path: Path, about: Mapping[str, str], members: Mapping[str, bytes], lock: sealed.Lock, fault: Fault = StoreUnusable
) -> None:
    """Write the new file `path` with `members` (name -> octets). `about` holds only text and no secret. Raises
    `fault`."""
    files.write_new(path, sealed.seal(about, packed(members), lock), fault)


def packed(members: Mapping[str, bytes]) -> bytes:
    """Return `members` as one ZIP, the content of a backup: the same members make the same octets."""
    octets = io.BytesIO()
    with zipfile.ZipFile(octets, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(_member(name), content)
    return octets.getvalue()


def read(path: Path, unlock: sealed.Unlock, fault: Fault = StoreUnusable) -> Opened:
    """Return what is in a backup. Raises `fault` if anything of it is damaged, or `unlock` does not open it.

    A backup may hold members of any name: the caller uses those it knows.
    """
    octets = plain_file.read(path, OCTETS_MAX, fault, missing="Name the backup.")
    if sealed.is_sealed(octets):
        head, content = sealed.open_sealed(octets, path, unlock, fault)
        return Opened(head.about, _members(content, path, fault))
    about, members = _former(path, octets, fault)
    return Opened(about, members, is_plain=True)


def kind_of_lock(path: Path, fault: Fault = StoreUnusable) -> str:
    """Return what opens the backup: `sealed.PASSPHRASE`, `sealed.RECIPIENT`, or "" for one that is not encrypted.

    Raises `fault` for a file that is no backup.
    """
    octets = plain_file.read(path, OCTETS_MAX, fault, missing="Name the backup.")
    if octets.startswith(_FORMER_MAGIC):
        return ""
    if not sealed.is_sealed(octets):
        raise _no_backup(path, fault)
    return str(sealed.head_of(octets, path, fault).lock["kind"])


def manifest(path: Path, fault: Fault = StoreUnusable) -> dict[str, str]:
    """Return what a backup says of itself, without its key: anybody may have written that. Raises `fault`."""
    octets = plain_file.read(path, OCTETS_MAX, fault, missing="Name the backup.")
    if sealed.is_sealed(octets):
        return sealed.head_of(octets, path, fault).about
    return _former(path, octets, fault)[0]


def _former(path: Path, octets: bytes, fault: Fault) -> tuple[dict[str, str], dict[str, bytes]]:
    if octets.startswith(_FORMER_MAGIC):  # it holds keys
        own = f"Run: install -m 600 {path} ~/{path.name}, and name that copy: a USB stick may have no modes."
        octets = files.read(path, fault, missing="Name the backup.", exposed=own, most=OCTETS_MAX)
    members = _members(octets, path, fault)
    try:
        about = json.loads(members.pop(_ABOUT))
        written = about.pop("format")
        if not all(isinstance(text, str) and text.isprintable() for text in about.values()):
            raise ValueError
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        raise _no_backup(path, fault) from None
    if written != _FORMER:
        raise fault(f"{path} was written by a newer keycast.", "Install that version.")
    return about, members


def _members(octets: bytes, path: Path, fault: Fault) -> dict[str, bytes]:
    """Return the ordinary files in a ZIP. Raises `fault` for anything else in it, and for more than `OCTETS_MAX`."""
    try:
        with zipfile.ZipFile(io.BytesIO(octets)) as archive:
            found = archive.infolist()
            if sum(member.file_size for member in found) > OCTETS_MAX:
                raise ValueError
            if len({member.filename for member in found}) < len(found):
                raise ValueError
            if any(member.is_dir() or _kind(member) not in (0, stat.S_IFREG) for member in found):
                raise ValueError
            return {member.filename: archive.read(member) for member in found}
    except (zipfile.BadZipFile, zlib.error, ValueError, RuntimeError, NotImplementedError, EOFError, OSError):
        raise _no_backup(path, fault) from None


def _kind(member: zipfile.ZipInfo) -> int:
    return stat.S_IFMT(member.external_attr >> 16)


def _no_backup(path: Path, fault: Fault) -> Exception:
    return fault(f"{path} is no backup of keycast, or it is damaged.", _ANOTHER)


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)  # dated 1980: the same state makes the same content
    member.compress_type = zipfile.ZIP_DEFLATED
    member.external_attr = files.MODE << 16
    return member
