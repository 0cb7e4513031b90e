"""`keycast update key`: the offline key, which signs updates."""

from pathlib import Path
from typing import Annotated

import typer

from keycast.terminal import passphrases
from keycast.terminal.options import answer, sentences
from keycast.terminal.passphrases import PassphraseFile


def command(
    path: Annotated[
        Path, typer.Argument(metavar="FILE", readable=False, help="New private file, to be kept off the network.")
    ],
    passphrase_file: PassphraseFile = None,
) -> None:
    """Make the key that signs updates: a private file that only a passphrase opens, and FILE.pub for the gateway.

    Whoever has both file and passphrase decides what every board runs. Keep the private file away from the gateway,
    and a copy of it in another place: boards take no other key but by cable.

    Example: keycast update key update.key
    """
    from keycast.updates import offline_key

    with sentences():
        offline_key.require_new(path)
        made = offline_key.make(path, passphrases.new("Passphrase of the update key", passphrase_file))
    public = offline_key.public_file(path)
    answer(
        {"file": str(path), "public": str(public), "key_id": made.public.key_id.hex()},
        f"{path} signs updates. Keep it off the network, with a copy in another place.",
        f"{public} is for the gateway: copy it beside its configuration, and add there:",
        "",
        "  [update]",
        f'  key = "{public.name}"',
    )
