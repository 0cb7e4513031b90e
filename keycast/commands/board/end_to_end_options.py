"""The options for end-to-end groups: the CPNS Server that a board pins, and an Entity User Key that is drawn here."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

ServerCredentialOption = Annotated[
    str | None,
    typer.Option(
        "--server-credential",
        metavar="HEX|FILE",
        help="Credential of the CPNS Server, for end-to-end groups, as `keycast server credential` prints it; default: "
        "that which the board has, else that of the gateway's Server, if it is elsewhere; with --entity-user-key none.",
        show_default=False,
    ),
]
EntityUserKeyOption = Annotated[
    Path | None,
    typer.Option(
        "--entity-user-key",
        metavar="FILE",
        readable=False,
        help="For a board that makes no session with the CPNS Server: draw its Entity User Key. The board gets it by "
        "its cable, and the Server by this new file, which is secret.",
        show_default=False,
    ),
]


def server_of(credential: str | None, key_file: Path | None) -> bytes | None:
    """Return the CCS octets of the Server that a board pins by these options: b"" for none, None to leave it open.

    Raises NotAllowed.
    """
    from keycast.provisioning import end_to_end

    if credential is not None:
        return end_to_end.server_credential(credential).ccs
    return None if key_file is None else b""


@contextmanager
def drawn(path: Path | None) -> Iterator[bytes]:
    """Draw an Entity User Key into the new file `path` and yield it, or b"" without `path`.

    The file is removed if the block fails: the same command goes on, with another key. Raises StoreUnusable.
    """
    from keycast.provisioning import end_to_end

    if path is None:
        yield b""
        return
    key = end_to_end.draw_key(path)
    try:
        yield key
    except BaseException:
        path.unlink()
        raise


def told_of(ccs: bytes, server: bytes) -> dict[str, str]:
    """Return what stands in JSON of the board's own credential and of the CPNS Server that it pins, "" for none."""
    from cpns.fingerprint import fingerprint

    return {"credential": ccs.hex(), "server_fingerprint": fingerprint(server) if server else ""}


def next_lines(pne_id: str, pn_id: str, ccs: bytes, server: bytes, key_file: Path | None) -> list[str]:
    """Return the lines that tell a person what the board with the credential `ccs` needs for end-to-end groups.

    `server` is the credential of the CPNS Server that it pins. There are none for a board without Server and key.
    """
    from cpns.fingerprint import fingerprint

    trusted = f"{pne_id} trusts the CPNS Server {fingerprint(server)} for end-to-end groups: compare that with what "
    lines = [f"{trusted}`keycast server credential` prints at the Server."] if server else []
    return [*lines, admission_line(pne_id, pn_id, ccs, key_file)] if server or key_file is not None else []


def kept_lines(pne_id: str, server: bytes, of_gateway: bytes) -> list[str]:
    """Return what a person should know if a board keeps its CPNS Server `server` and the gateway has another one."""
    from cpns.fingerprint import fingerprint

    if not server or not of_gateway or server == of_gateway:
        return []
    return [
        f"{pne_id} keeps the CPNS Server that it had; that of the gateway is {fingerprint(of_gateway)}. For that one: "
        "--server-credential"
    ]


def admission_line(pne_id: str, pn_id: str, ccs: bytes, key_file: Path | None = None) -> str:
    """Return the line that tells a person how the CPNS Server admits the board with the credential `ccs`."""
    from keycast.provisioning import end_to_end

    return f"Then type at the Server: {end_to_end.admission(pne_id, pn_id, ccs, key_file)}"
