"""Options that several commands share, and the functions by which commands print an answer or a refusal.

A person gets lines; with `--json` a program gets one JSON value on standard output, refusals included:
`{"code": "unknown", "error": "there is no Service Group lights"}`. Exit codes are the same either way: 0 done,
1 refused or failed, 2 not understood; for `keycast status` and `keycast server alarms` 2 means that something is wrong.
A command that keeps running ends with 78 if its configuration is wrong, so that no service manager starts it again.
"""

import errno
import json
import os
import shlex
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from keycast.terminal.dates import dated

CONFIG_VARIABLE = "KEYCAST_CONFIG"
_DEFAULT = Path("keycast.toml")

REFUSED = "refused"
"""The code of refusals that have no code of their own."""

_OTHER_RELEASE = "unknown-command"
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG, errno.ENOENT)
_json_wanted = False


def want_json(context: typer.Context, wanted: bool) -> bool:
    """Note, as the callback of `--json`, whether JSON is wanted, until the command ends; return `wanted`."""
    global _json_wanted
    _json_wanted = wanted
    context.call_on_close(_forget_json)
    return wanted


def wants_json() -> bool:
    """Return True if the command was given `--json`: for commands that show more than one answer."""
    return _json_wanted


def _forget_json() -> None:
    global _json_wanted
    _json_wanted = False


def folder(text: str | Path) -> Path:
    """Return the folder that a person typed. Raise typer.BadParameter for blanks, which would mean the present one."""
    if not str(text).strip():
        raise typer.BadParameter("a folder has a name; . is the one you are in")
    return Path(text)


def state_option(what: str) -> Any:
    """Return the option `--state` of a server, the folder of its state, with the help text `what`."""
    return typer.Option("--state", parser=folder, metavar="FOLDER", help=what)


ConfigOption = Annotated[
    Path,
    typer.Option("--config", "-c", envvar=CONFIG_VARIABLE, readable=False, help="The gateway's configuration file."),
]
StateOption = Annotated[
    Path | None, state_option("State folder of a CPNS Server on its own, in place of a gateway's configuration.")
]
JsonOption = Annotated[bool, typer.Option("--json", callback=want_json, help="Print JSON.")]
"""The option that `keycast.terminal.json_option` adds to every command."""
SERVER_STATE = Path("keycast-server-state")
DEFAULT_CONFIG = Path(os.environ.get(CONFIG_VARIABLE, str(_DEFAULT)))

# Without markup: names and sentences are shown as they are, "[broadcast]" included.
console = Console(highlight=False, soft_wrap=True, markup=False)
_errors = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


@contextmanager
def sentences(exit_code: int = 1) -> Iterator[None]:
    """Turn an error of the product in the `with` block into its one sentence and the exit code.

    An OSError about a file, a folder or a full disk becomes a sentence too; any other OSError is a fault of the program
    and stays a traceback.
    """
    from cpns.errors import CpnsError
    from gateway_agent.errors import GatewayError, code_of
    from http_door.errors import DoorError
    from key_servers.errors import ServerError
    from message_plane.errors import PlaneError
    from private_store.errors import PrivateStoreError

    try:
        yield
    except (CpnsError, DoorError, GatewayError, ServerError, PlaneError, PrivateStoreError) as error:
        refuse(str(error), code_of(error), exit_code)
    except sqlite3.Error as error:
        refuse(f"the store cannot be used: {error}. Check the space on its disk, then start again.", "store")
    except OSError as error:
        if error.filename is None and error.errno in _OF_THE_DISK:
            refuse(
                f"cannot write: {error.strerror}. Make room on the disk, or name another folder (TMPDIR for a demo's).",
                "file",
            )
        if error.filename is None:
            raise
        refuse(f"cannot use {os.fsdecode(error.filename)}: {error.strerror}. Check its owner, mode and disk.", "file")


def answer(value: Any, *shown: str | Text | Callable[[], object]) -> None:
    """Print the answer of a command: `value` with `--json`, else `shown`, whose functions are called to print.

    `value` is a JSON value with dates as seconds since 1970 (`keycast.terminal.dates`).
    """
    if _json_wanted:
        show_json(value)
        return
    for each in shown:
        if isinstance(each, str | Text):
            console.print(each)
        else:
            try:
                each()
            except (
                KeyError
            ) as missing:  # a gateway or Server that was not restarted since keycast was brought up to date
                refuse(
                    f"the answer has no {missing}: what runs there is of another release. Restart it.", _OTHER_RELEASE
                )


def remark(sentence: str) -> None:
    """Print what a person may want to know beside the answer; print nothing with `--json`."""
    if not _json_wanted:
        console.print(sentence)


def beside(sentence: str) -> None:
    """Print on standard error what a person may want to know beside an answer that scripts read as it is.

    Prints nothing with `--json`.
    """
    if not _json_wanted:
        _errors.print(sentence)


def renamed(former: str, new: str) -> None:
    """Print on standard error that the command `former` has the name `new` now; print nothing with `--json`."""
    if not _json_wanted:
        _errors.print(f"keycast: `keycast {former}` is `keycast {new}` now; the next release knows the new name only.")


def refuse(sentence: str, code: str = REFUSED, exit_code: int = 1) -> NoReturn:
    """Print why the command is refused, and end it. `code` is for programs and never changes."""
    complain(sentence, code)
    raise typer.Exit(exit_code) from None


def complain(sentence: str, code: str = REFUSED) -> None:
    """Print what is wrong: on standard error, or with `--json` as the JSON object in place of the answer."""
    if _json_wanted:
        show_json(refusal(sentence, code))
    else:
        _errors.print(Text.assemble(("keycast:", "red"), " ", sentence))


def refusal(sentence: str, code: str) -> dict[str, str]:
    """Return the JSON object of a refusal."""
    return {"code": code, "error": sentence}


def ask(config: Path, state: Path | None, do: str, /, **arguments: Any) -> Any:
    """Ask the running gateway of `config`, or the CPNS Server of the folder `state`, to do `do`; return its answer.

    A Server that `--at` names is asked in their place. A refusal is printed and ends the command with exit code 1.
    """
    with sentences():
        return asked(config, state, do, **arguments)


def asked(config: Path, state: Path | None, do: str, /, **arguments: Any) -> Any:
    """Do as `ask` does, but raise the GatewayError of a refusal."""
    from gateway_agent.config.load import load
    from gateway_agent.control_client import ask as over_socket
    from gateway_agent.errors import GatewayError
    from keycast.terminal.elsewhere import server_elsewhere

    server = server_elsewhere()
    if server is not None:
        from keycast.services.rest_client import ask as over_rest

        return over_rest(server, do, arguments)
    if state is not None:
        return over_socket(state, do, f"keycast server run --state {shlex.quote(str(state))}", **arguments)
    if not config.exists() and SERVER_STATE.is_dir():
        raise GatewayError(f"There is no file {config}, but a CPNS Server's folder.", f"Add: --state {SERVER_STATE}")
    return over_socket(load(config).gateway.state_dir, do, "keycast gateway run", **arguments)


def show_json(value: Any) -> None:
    """Print `value` as indented JSON, its dates as ISO 8601."""
    typer.echo(json.dumps(dated(value), indent=1))
