"""The commands `backup` and `restore` of a key server, which are the same for a KMS, a GMS and a CMS."""

import os
from pathlib import Path
from typing import Annotated

import typer

from keycast.terminal.options import answer, sentences, state_option


def add_copies(app: typer.Typer, kind: str, state_folder: Path, stored: str, kept: str, database_variable: str) -> None:
    """Add the two commands to `app`, the commands of `kind`: "kms", "gms" or "cms".

    `state_folder` is the default of `--state`, and `stored` its help text. `kept` ends the sentence on how to keep the
    file. `database_variable` is the environment variable with the URL of a PostgreSQL database.
    """
    name = kind.upper()

    @app.command(
        help=f"Write all of the {name}'s state into one file, while the {name} runs or not; keep the file {kept}.\n\n"
        f"Example: keycast {kind} backup {kind}.backup"
    )
    def backup(
        path: Annotated[Path, typer.Argument(metavar="FILE", readable=False, help="New file for the backup.")],
        state: Annotated[Path, state_option(stored)] = state_folder,
    ) -> None:
        from keycast.copies import server_copies

        with sentences():
            server_copies.back_up(server_copies.SERVERS[kind], state, path, os.environ.get(database_variable))
        answer({"file": str(path)}, f"{path} is written. To put it back: keycast {kind} restore {path} --state {state}")

    @app.command(
        help=f"Put a backup in place of the state of a {name} that is stopped. If it is interrupted, run it again.\n\n"
        f"Example: keycast {kind} restore {kind}.backup"
    )
    def restore(
        path: Annotated[Path, typer.Argument(metavar="FILE", readable=False, help="The backup to put back.")],
        state: Annotated[Path, state_option(stored)] = state_folder,
    ) -> None:
        from keycast.copies import server_copies

        server = server_copies.SERVERS[kind]
        with sentences():
            made = server_copies.put_back(server, state, path, os.environ.get(database_variable))
        answer({"folder": str(state), "made_at": made}, f"{state} is what it was at {made}. {server.next_step}")
