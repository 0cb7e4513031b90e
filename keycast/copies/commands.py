"""The commands `backup` and `restore` of a key server, which are the same for a KMS, a GMS and a CMS."""

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from keycast.terminal.backup_options import (
    Into,
    KeepDaily,
    KeepWeekly,
    KeyFile,
    NewFile,
    Older,
    RecipientFile,
    WithIdentity,
    lock_of,
    made_json,
    made_lines,
    unlock_of,
    where_to,
)
from keycast.terminal.options import answer, sentences, state_option
from keycast.terminal.passphrases import PassphraseFile


def add_copies(app: typer.Typer, kind: str, state_folder: Path, stored: str, held: str, database_variable: str) -> None:
    """Add the two commands to `app`, the commands of `kind`: "kms", "gms" or "cms".

    `state_folder` is the default of `--state`, and `stored` its help text. `held` is what a backup holds, in words.
    `database_variable` is the environment variable with the URL of a PostgreSQL database.
    """
    name = kind.upper()

    @app.command(
        help=f"Write the {name}'s state into one encrypted file, while the {name} runs or not: {held}. It is opened "
        f"once, to see that it is whole.\n\nExample: keycast {kind} backup {kind}.backup --with-identity"
    )
    def backup(
        path: NewFile = None,
        state: Annotated[Path, state_option(stored)] = state_folder,
        with_identity: WithIdentity = False,
        passphrase_file: PassphraseFile = None,
        recipient: RecipientFile = None,
        into: Into = None,
        keep_daily: KeepDaily = 7,
        keep_weekly: KeepWeekly = 4,
    ) -> None:
        from key_servers.errors import FAULTS
        from keycast.copies import making, server_copies
        from private_store import folders

        def write(new: Path) -> None:
            server_copies.back_up(server, state, new, os.environ.get(database_variable), lock, identity=with_identity)

        server = server_copies.SERVERS[kind]
        with sentences():
            folders.check(state, FAULTS.unusable)
            where = where_to(path, into, keep_daily, keep_weekly)
            lock = lock_of(passphrase_file, recipient)
            made = making.make(kind, where, lock, write)
        answer(made_json(made), *made_lines(made, f"keycast {kind} restore --state {shlex.quote(str(state))}"))

    @app.command(
        help=f"Put a backup in place of the state of a {name} that is stopped. If it is interrupted, run it again.\n\n"
        f"Example: keycast {kind} restore {kind}.backup"
    )
    def restore(
        path: Annotated[Path, typer.Argument(metavar="FILE", readable=False, help="The backup to put back.")],
        state: Annotated[Path, state_option(stored)] = state_folder,
        older: Older = False,
        passphrase_file: PassphraseFile = None,
        key: KeyFile = None,
    ) -> None:
        from keycast.copies import server_copies

        server = server_copies.SERVERS[kind]
        with sentences():
            unlock = unlock_of(path, passphrase_file, key)
            database = os.environ.get(database_variable)
            made, changed = server_copies.put_back(server, state, path, database, unlock, older=older)
        answer(
            {"folder": str(state), "made_at": made, "removed_since": changed.removed},
            *changed.sentences(),
            f"{state} is what it was at {made}. {server.next_step}",
        )
