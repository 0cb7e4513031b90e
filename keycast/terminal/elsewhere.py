"""`--at`: give a command to a CPNS Server on another machine, over its REST interface, in place of the control socket.

`Elsewhere` adds the options to each command of a group that has `--state`, so that no command is forgotten.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

AT_VARIABLE, TOKEN_VARIABLE, CA_VARIABLE = "KEYCAST_SERVER_AT", "KEYCAST_SERVER_TOKEN_FILE", "KEYCAST_SERVER_CA"
_HERE_ONLY = ("run", "backup")  # of the Server's own machine

_given: dict[str, Any] = {}
_contexts: list[typer.Context] = []


@dataclass(frozen=True, slots=True)
class ServerElsewhere:
    """Where a CPNS Server is, the file with the operator's token there, and the file with the only CA to trust."""

    url: str
    token_file: Path
    ca_file: Path | None


class Elsewhere(TyperGroup):
    """A group of commands (`typer.Typer(cls=Elsewhere)`) that may be given to a Server elsewhere."""

    def __init__(self, **how: Any) -> None:
        super().__init__(**how)
        for name, command in self.commands.items():
            if name not in _HERE_ONLY and any(parameter.name == "state" for parameter in command.params):
                command.params += _options()


def server_elsewhere() -> ServerElsewhere | None:
    """Return the Server that was named, None for the one on this machine.

    Raises NotAllowed if the command line names a Server here as well, or the token's file is missing.
    """
    from cpns.errors import NotAllowed

    if not _given.get("at"):
        return None
    if _is_typed("state") or _is_typed("config"):
        if _is_typed("at"):
            raise NotAllowed("--at names a Server elsewhere: leave out --state and --config")
        return None  # what a person typed counts more than the environment
    if _given.get("token_file") is None:
        raise NotAllowed(f"a Server elsewhere wants a token: name its file with --token-file, or in {TOKEN_VARIABLE}")
    return ServerElsewhere(_given["at"], _given["token_file"], _given.get("ca"))


def require_here() -> None:
    """Raise NotAllowed if a Server elsewhere was named, for what is done to files on this machine."""
    from cpns.errors import NotAllowed

    if server_elsewhere() is not None:
        raise NotAllowed("this is done on the Server's own machine: log in there, and leave out --at")


def _is_typed(name: str) -> bool:
    source = _contexts[-1].get_parameter_source(name) if _contexts else None
    return source is not None and source.name == "COMMANDLINE"


def _note(context: typer.Context, parameter: typer.CallbackParam, value: Any) -> Any:
    """Note an option until the command ends."""
    if not _contexts:
        _contexts.append(context)
        context.call_on_close(_forget)
    _given[str(parameter.name)] = value
    return value


def _forget() -> None:
    _given.clear()
    _contexts.clear()


def _options() -> list[Any]:
    def options(
        at: Annotated[
            str | None,
            typer.Option(
                envvar=AT_VARIABLE, callback=_note, metavar="URL", help="CPNS Server elsewhere: https://host:port."
            ),
        ] = None,
        token_file: Annotated[
            Path | None,
            typer.Option(
                envvar=TOKEN_VARIABLE,
                callback=_note,
                readable=False,
                metavar="FILE",
                help="File of mode 0600 with the token for it.",
            ),
        ] = None,
        ca: Annotated[
            Path | None,
            typer.Option(
                envvar=CA_VARIABLE,
                callback=_note,
                readable=False,
                metavar="FILE",
                help="PEM file with the only CA trusted for it.",
            ),
        ] = None,
    ) -> None:
        """Do nothing: typer makes the options from the parameters of this function."""

    alone = typer.Typer(add_completion=False)
    alone.command()(options)
    command = typer.main.get_command(alone)
    assert isinstance(command, TyperCommand)
    for option in command.params:
        option.expose_value = False
    return command.params
