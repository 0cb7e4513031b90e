"""The commands that an operator can give to a CPNS Server, embedded or on its own, over the control socket."""

from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

from cpns.errors import NotAllowed
from gateway_agent.control import Command, asked_by
from gateway_agent.errors import Refused, code_of
from key_servers.cpns_server.app import CpnsServer
from key_servers.cpns_server.operators.commands import COMMANDS, OperatorCommand
from key_servers.cpns_server.operators.desk import OperatorDesk
from key_servers.cpns_server.operators.operator import Names, Operator
from key_servers.errors import ServerError

DOOR = "socket"
"""The door by which these commands come, for the audit log."""


def group_commands(server: CpnsServer, boards: Names) -> dict[str, Command]:
    """Return the commands of a CPNS Server that is embedded. `boards` returns those that the gateway lets in."""
    desk = OperatorDesk(server, Operator(server, boards))
    return {command.name: _given(desk, command) for command in COMMANDS if command.embedded}


def commands_elsewhere() -> dict[str, Command]:
    """Return the same commands for a gateway without embedded Server: each raises NotAllowed and says where to ask."""
    return {command.name: _elsewhere for command in COMMANDS if command.embedded}


def server_commands(server: CpnsServer, back_up: Callable[..., Awaitable[str]]) -> dict[str, Command]:
    """Return the commands of a CPNS Server on its own. `back_up(path, lock, identity)` writes a backup."""
    desk = OperatorDesk(server, Operator(server, back_up=back_up))
    return {command.name: _given(desk, command) for command in COMMANDS}


def _elsewhere(**_: Any) -> NoReturn:
    raise NotAllowed(
        "the CPNS Server of this gateway is elsewhere: give this command there, with --state and its folder"
    )


def _given(desk: OperatorDesk, command: OperatorCommand) -> Command:
    """Return `command` as the control socket calls it. An error of the Server's store or disk becomes a Refused."""

    async def give(**arguments: Any) -> Any:
        try:
            return await desk.perform(command, arguments, asked_by.get(), DOOR)
        except ServerError as error:
            raise Refused(str(error), code_of(error)) from None

    return give
