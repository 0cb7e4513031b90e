"""What several commands share: where the configuration is, and how an answer or a refusal is shown."""

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

CONFIG_VARIABLE = "KEYCAST_CONFIG"
_DEFAULT = Path("keycast.toml")

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", envvar=CONFIG_VARIABLE, help="The gateway's configuration file.")
]
StateOption = Annotated[
    Path | None,
    typer.Option("--state", help="State folder of a CPNS Server on its own, in place of a gateway's configuration."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DEFAULT_CONFIG = Path(os.environ.get(CONFIG_VARIABLE, str(_DEFAULT)))

# Without markup: names and sentences are shown as they are, "[broadcast]" included.
console = Console(highlight=False, soft_wrap=True, markup=False)
_errors = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


@contextmanager
def sentences() -> Iterator[None]:
    """Turn what stops a command into its one sentence on standard error, and exit code 1.

    A file or folder that cannot be used is named; every other OSError is a fault of ours and stays a traceback.
    """
    from cpns.errors import CpnsError
    from gateway_agent.errors import GatewayError
    from key_servers.errors import ServerError
    from message_plane.errors import PlaneError

    try:
        yield
    except (CpnsError, GatewayError, ServerError, PlaneError) as error:
        complain(str(error))
        raise typer.Exit(1) from None
    except sqlite3.Error as error:
        complain(f"the store cannot be used: {error}. Check the space on its disk, then start again.")
        raise typer.Exit(1) from None
    except OSError as error:
        if error.filename is None:
            raise
        complain(f"cannot use {os.fsdecode(error.filename)}: {error.strerror}. Check its owner, mode and disk.")
        raise typer.Exit(1) from None


def complain(sentence: str) -> None:
    """Say on standard error what is wrong."""
    _errors.print(Text.assemble(("keycast:", "red"), " ", sentence))


def ask(config: Path, state: Path | None, do: str, /, **arguments: Any) -> Any:
    """Ask the gateway of `config`, or the CPNS Server in `state`; its answer, or its refusal and exit code 1."""
    from gateway_agent.config.load import load
    from gateway_agent.control import ask as over_socket

    with sentences():
        if state is not None:
            return over_socket(state, do, "keycast server run", **arguments)
        return over_socket(load(config).gateway.state_dir, do, "keycast gateway run", **arguments)


def show_json(value: Any) -> None:
    """Print `value` as indented JSON."""
    typer.echo(json.dumps(value, indent=1))
