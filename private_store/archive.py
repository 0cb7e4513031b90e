"""A backup: one private ZIP file that holds several files and says whose they are. Any tool can list it.

The caller has taken out of the files what a backup must not hold. A backup that is read is checked completely before
any part of it is used.
"""

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from private_store import files
from private_store.errors import Fault, StoreUnusable

OCTETS_MAX = 1 << 30
_ABOUT = "keycast-backup.json"
_FORMAT = "keycast backup 1"
_ANOTHER = "Take another one."


def write(path: Path, about: Mapping[str, str], members: Mapping[str, bytes], fault: Fault = StoreUnusable) -> None:
    """Write the new private file `path` with `members` (name -> octets). `about` holds only text. Raises `fault`."""
    octets = io.BytesIO()
    with zipfile.ZipFile(octets, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_member(_ABOUT), json.dumps({"format": _FORMAT, **about}, indent=1, ensure_ascii=False))
        for name, content in members.items():
            archive.writestr(_member(name), content)
    files.write_new(path, octets.getvalue(), fault)


def read(path: Path, fault: Fault = StoreUnusable) -> tuple[dict[str, str], dict[str, bytes]]:
    """Return (about, members) of a backup. Raises `fault` if anything of it is damaged.

    A backup may hold members of any name: the caller uses those it knows.
    """
    own = f"Run: install -m 600 {path} ~/{path.name}, and name that copy: a USB stick may have no modes."
    octets = files.read(path, fault, missing="Name the backup.", exposed=own, most=OCTETS_MAX)
    try:
        with zipfile.ZipFile(io.BytesIO(octets)) as archive:
            if sum(member.file_size for member in archive.infolist()) > OCTETS_MAX:
                raise ValueError
            members = {member.filename: archive.read(member) for member in archive.infolist()}
        about = json.loads(members.pop(_ABOUT))
        written = about.pop("format")
        if not all(isinstance(text, str) for text in about.values()):
            raise ValueError
    except (zipfile.BadZipFile, zlib.error, KeyError, ValueError, TypeError, AttributeError, RuntimeError, OSError):
        raise fault(f"{path} is no backup of keycast, or it is damaged.", _ANOTHER) from None
    if written != _FORMAT:
        raise fault(f"{path} was written by a newer keycast.", "Install that version.")
    return about, members


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)  # dated 1980: the same state makes the same backup
    member.compress_type = zipfile.ZIP_DEFLATED
    member.external_attr = files.MODE << 16
    return member
