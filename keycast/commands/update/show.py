"""`keycast update show`: what an update is, without a key; with the public key, whether it has signed it."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from keycast.commands.update.sign import numbered
from keycast.terminal.options import answer, console, refuse, sentences
from keycast.terminal.tables import show_table

TAKE_ANOTHER = "Take a whole copy of it, or sign it again: keycast update sign"
"""What to do with a file that is no update that boards take."""


def command(
    path: Annotated[Path, typer.Argument(metavar="FILE", readable=False, help="The update.")],
    key: Annotated[
        Path | None,
        typer.Option(
            "--key",
            metavar="FILE",
            readable=False,
            show_default=False,
            help="Public file of a key: verify that this key has signed the update.",
        ),
    ] = None,
) -> None:
    """Show what an update is: for which boards, its number, what is in it. Everything can be read without a key.

    A file that boards would refuse for its form is refused here, with the reason. Without --key nobody vouches for
    what it says.

    Example: keycast update show agent.suit --key update.key.pub
    """
    from cpns.errors import MalformedMessage, NotAuthentic
    from gateway_agent.updates.update_key import UpdateKey
    from keycast.updates import file
    from suit.show import named

    with sentences():
        try:
            found = file.read(path)
        except MalformedMessage as error:
            refuse(f"boards refuse {path}: {named(error.reason)}. {TAKE_ANOTHER}", "malformed-message")
        public = None if key is None else UpdateKey.load(key)
        valid = None
        if public is not None:
            try:
                public.verify(found.envelope)
                valid = True
            except NotAuthentic:
                refuse(f"{path} is not signed by {key}: no board that has this key takes it", "not-authentic")
    told: dict[str, Any] = {
        "file": str(path),
        "update_id": found.shown.update_id,
        "kind": found.shown.kind,
        "number": found.shown.number,
        "for_boards": found.shown.for_boards,
        "class_id": found.shown.class_id,
        "image_octets": found.shown.image_octets,
        "sha256": found.shown.digest,
        "envelope_octets": found.shown.travels_octets,
        "frames_count": found.shown.frames_count,
        "pages_count": found.shown.pages_count,
        "files": found.files,
        "signature": found.envelope.signature.hex(),
        "signature_valid": valid,
    }
    rows = [(str(each["name"]), str(each["octets"])) for each in found.files or ()]
    answer(
        told,
        *_lines(told, found.shown.is_ours, key),
        *([partial(show_table, console, ("file", "octets"), rows)] if rows else []),
    )


def _lines(told: dict[str, Any], is_ours: bool, key: Path | None) -> list[str]:
    boards = told["for_boards"] or ("boards that this release does not know" if is_ours else "boards of another maker")
    lines = [
        f"update: {told['update_id']}",
        f"what: {told['kind']}",
        f"number: {numbered(told['number'])}",
        f"for: {boards} (class {told['class_id']})",
        f"image: {told['image_octets']} octets, SHA-256 {told['sha256']}",
        f"on the air: {told['envelope_octets']} octets of manifest, {told['pages_count']} pages of hashes, at most "
        f"{told['frames_count']} frames",
    ]
    if key is None:
        return [*lines, f"signature: {told['signature']}", "It was not verified. To do that: --key update.key.pub"]
    return [*lines, f"signature: good, by {key}"]
