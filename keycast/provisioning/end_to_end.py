"""What a board and a CPNS Server are told of each other, past the PN GW, for end-to-end groups (SEC-25).

The board pins the Server's credential. The Server gets the board's credential and, for a board that is to make no
session with it, an Entity User Key (16 octets) that is drawn here: a file of mode 0600 with 32 hexadecimal digits.
"""

import secrets
import shlex
from pathlib import Path

from cpns.errors import MalformedMessage, NotAllowed
from device_agent.end_to_end.entity_user_keys import EUK_LEN
from message_plane import credentials
from message_plane.credentials import ROLE_SERVER, Credential
from private_store import files

_TEXT_MAX = 4096


def server_credential(text: str) -> Credential:
    """Return the credential that a person typed in hexadecimal, or that stands in the file of this name.

    Raises NotAllowed for other text.
    """
    octets = _from_hex(text)
    try:
        if octets is None:
            with Path(text).open("rb") as file:
                octets = bytes.fromhex(file.read(_TEXT_MAX).decode())
        return credentials.parse(octets, ROLE_SERVER)
    except (OSError, ValueError, MalformedMessage):
        raise NotAllowed(
            f"{text!r} is neither the whole credential of a CPNS Server nor a file with one: take what `keycast server "
            "credential` prints at that Server"
        ) from None


def draw_key(path: Path) -> bytes:
    """Draw an Entity User Key, and write it to the new file `path`. Raises StoreUnusable if that exists already."""
    key = secrets.token_bytes(EUK_LEN)
    files.write_new(path, key.hex().encode() + b"\n")
    return key


def read_key(path: Path) -> bytes:
    """Return the Entity User Key in a file of `draw_key`. Raises StoreUnusable, and NotAllowed if the file has none."""
    key = _from_hex(files.read(path, most=_TEXT_MAX).decode(errors="replace"))
    if key is None or len(key) != EUK_LEN:
        raise NotAllowed(f"{path} holds no Entity User Key: `keycast board provision --entity-user-key` writes it")
    return key


def admission(pne_id: str, pn_id: str, ccs: bytes, key_file: Path | None = None) -> str:
    """Return the command that tells the CPNS Server of a board with the credential `ccs`.

    It is to be typed at the Server, in the folder with its state.
    """
    words = ["keycast", "server", "admit-board", pne_id, pn_id, "--credential", ccs.hex()]
    words += ["--entity-user-key", str(key_file)] if key_file else []
    return shlex.join([*words, "--state", "keycast-server-state"])


def _from_hex(text: str) -> bytes | None:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return None
