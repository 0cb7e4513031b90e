"""`keycast update sign`: an update, signed by the offline key."""

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keycast.terminal import extras, passphrases
from keycast.terminal.dates import local
from keycast.terminal.options import answer, folder, refuse, remark, sentences
from keycast.terminal.passphrases import PassphraseFile
from suit import numbers as n

if TYPE_CHECKING:
    from keycast.updates.images import UpdateImage


_EARLIEST = 1_700_000_000
"""Before the first release of keycast, in seconds since 1970: a clock that says less was never set."""
_AHEAD_S = 86_400
"""A number may be so far ahead of the clock of this computer without a word, as that of another one may differ."""


def numbered(number: int) -> str:
    """Return a number with the time that it stands for, if it is one, as a clock that runs ahead spoils later ones."""
    return f"{number} ({local(number)})" if _EARLIEST <= number <= n.NUMBER_MAX else str(number)


def ahead(number: int) -> list[str]:
    """Return what to think of before signing a number that boards can reach by time only much later."""
    if number == n.NUMBER_MAX:
        return [f"number {number} is the highest that there is: boards that confirm it take no further update by air."]
    if number <= time.time() + _AHEAD_S:
        return []
    return [
        f"number {numbered(number)} is ahead of the clock: boards that confirm it refuse all updates that are signed "
        "without --number before that time."
    ]


def command(
    files: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FOLDER]",
            parser=folder,
            show_default=False,
            help="Files of an agent, from `keycast board files`; default: the agent of this release.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", readable=False, help="New file for the update."),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", readable=False, help="Private file of `keycast update key`."),
    ] = None,
    number: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=n.NUMBER_MAX,
            show_default=False,
            help="Sequence number; boards take only a higher one than they had. Default: the seconds since 1970.",
        ),
    ] = None,
    firmware: Annotated[
        Path | None,
        typer.Option(
            metavar="IMAGE",
            readable=False,
            show_default=False,
            help="Sign this firmware (.bin or .app-bin) in place of an agent, for boards with two slots for it.",
        ),
    ] = None,
    board: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            show_default=False,
            help="With --firmware: the build of MicroPython for these boards, such as ESP32_GENERIC-OTA.",
        ),
    ] = None,
    val_client: Annotated[
        bool, typer.Option("--val-client", help="The agent of this release for VAL clients.")
    ] = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Sign an update: the agent of this release, the files of a folder, or a firmware.

    Nothing is sent. The file is not secret; it goes to the gateway with `keycast update offer`.

    Example: keycast update sign -o agent.suit --key update.key
    """
    if out is None or key is None:
        refuse("name the file to write with -o, and the private file of the key with --key", "usage", 2)
    if (firmware is None) != (board is None) or (firmware is not None and files is not None):
        refuse("a firmware is signed with --firmware and --board, and without a folder of files", "usage", 2)
    if val_client and (files is not None or firmware is not None):
        refuse("--val-client is for the agent of this release: leave out folder and firmware", "usage", 2)
    if number is None and not _EARLIEST <= time.time() <= n.NUMBER_MAX:
        refuse(f"the clock of this computer says {local(time.time())}: set it, or choose a --number", "not-allowed")
    if firmware is None:
        extras.require("boards")
    from keycast.updates import offline_key
    from private_store import plain_file
    from suit.build import build

    with sentences():
        plain_file.require_new(out)
        image = _image(files, val_client, firmware, board)
        doubts = [*image.doubts, *ahead(number or 0)]
        for each in doubts:
            remark(f"Look twice: {each}")
        opened = offline_key.OfflineKey.load(key, passphrases.known(f"Passphrase of {key}", passphrase_file))
        chosen = int(time.time()) if number is None else number
        octets = build(image.kind, image.class_text, chosen, image.octets, opened.sign)
        plain_file.write_new(out, octets)
    typed = shlex.quote(str(out))
    answer(
        {"file": str(out), "kind": image.kind, "number": chosen, "for_boards": image.class_text, "doubts": doubts},
        f"{out} is signed: {image.kind}, number {numbered(chosen)}, {len(image.octets)} octets, "
        f"for {image.class_text}.",
        f"To look at it: keycast update show {typed}. To bring it to boards: keycast update offer {typed}",
    )


def _image(files: Path | None, val_client: bool, firmware: Path | None, build: str | None) -> "UpdateImage":
    from keycast.hardware.catalogue import all_boards
    from keycast.updates import images

    if firmware is not None and build is not None:
        return images.firmware(firmware, build, all_boards())
    return images.agent(files, val_client)
