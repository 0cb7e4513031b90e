"""`keycast board`: the boards on this computer, and those that a gateway lets in. Each command is a module here."""

import typer

from keycast.commands.board import files, flash, list_boards, monitor, pair, provision, release, rescue, retire, run

app = typer.Typer(no_args_is_help=True)
# word -> module with the function `command`, in the order of a board's life
_WORDS = {
    "list": list_boards,
    "run": run,
    "flash": flash,
    "files": files,
    "provision": provision,
    "monitor": monitor,
    "rescue": rescue,
    "pair": pair,
    "retire": retire,
    "release": release,
}
for _word, _module in _WORDS.items():
    app.command(_word)(_module.command)
