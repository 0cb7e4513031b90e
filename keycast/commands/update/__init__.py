"""`keycast update`: updates of boards over the air, from the key that signs them on. Each command is a module here."""

import typer

from keycast.commands.update import key, offer, show, sign, status, withdraw
from keycast.terminal.json_option import Answering

app = typer.Typer(cls=Answering, no_args_is_help=True)
# word -> module with the function `command`, in the order of an update's life
_WORDS = {
    "key": key,
    "sign": sign,
    "show": show,
    "offer": offer,
    "status": status,
    "withdraw": withdraw,
}
for _word, _module in _WORDS.items():
    app.command(_word)(_module.command)
