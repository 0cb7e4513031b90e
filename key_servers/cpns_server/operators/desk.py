"""Carries out the commands of operators for every door, and writes down in the audit log what changes something.

An operator who repeats a command with the same request key, as its answer was lost, gets the answer of the first time.
"""

import inspect
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from cpns.errors import CpnsError, MalformedMessage, NotAllowed
from key_servers.cpns_server.app import CpnsServer
from key_servers.cpns_server.operators.audit_log import DONE, UNKNOWN, EarlierRequest, as_text
from key_servers.cpns_server.operators.commands import OperatorCommand
from key_servers.cpns_server.operators.operator import Operator
from key_servers.errors import ServerError, code_of
from message_plane.errors import PlaneError

LEFT_OUT = "(left out)"
"""Stands for a secret in the audit log."""
FAULT = "fault"
"""Result of a command that met a fault of this program."""

_MEANT_FOR_PEOPLE = (CpnsError, ServerError, PlaneError)


class UnfinishedRequest(ServerError):
    """Nobody knows whether the command of this request key was carried out."""


class OperatorDesk:
    """The commands of one Server. `operator` is what carries them out."""

    def __init__(self, server: CpnsServer, operator: Operator) -> None:
        self._server = server
        self._operator = operator

    async def perform(
        self, command: OperatorCommand, arguments: Mapping[str, Any], who: str, door: str, request_key: str = ""
    ) -> Any:
        """Carry out `command` for the operator `who` and return its answer: plain values and frozen dataclasses.

        A command with a secret in it is carried out each time. Raises what the command raises; UnfinishedRequest and
        NotAllowed for a `request_key` that was used before and has no answer, or was for something else; StoreFailed,
        and carries out nothing, if it cannot be written down.
        """
        _check_texts(arguments)
        if not command.changes:
            return await self._call(command, arguments)
        shown = {name: LEFT_OUT if name in command.secrets and value else value for name, value in arguments.items()}
        if LEFT_OUT in shown.values():
            request_key = ""  # the log cannot tell another secret from the same, and the command changes nothing twice
        entry = self._server.audit.begin(who, door, command.name, shown, request_key, self._server.now().unix)
        if isinstance(entry, EarlierRequest):
            return _answer_of(entry, command, shown)
        result, answer = FAULT, ""
        try:
            value = await self._call(command, arguments)
            result, answer = DONE, json.dumps(value, default=asdict) if request_key else ""
        except _MEANT_FOR_PEOPLE as error:
            result = code_of(error)
            raise
        finally:
            self._server.audit.end(entry, result, answer, self._server.now().unix)
        return value

    def refused(self, command: OperatorCommand, arguments: Mapping[str, Any], who: str, door: str, result: str) -> None:
        """Write down a command that was not carried out, as `who` may not give it. Raises StoreFailed."""
        now = self._server.now().unix
        entry = self._server.audit.begin(who, door, command.name, arguments, "", now)
        assert isinstance(entry, int)  # without a request key it is always a new one
        self._server.audit.end(entry, result, "", now)

    async def _call(self, command: OperatorCommand, arguments: Mapping[str, Any]) -> Any:
        value = getattr(self._operator, command.method)(**arguments)
        return await value if inspect.isawaitable(value) else value


def _answer_of(earlier: EarlierRequest, command: OperatorCommand, arguments: Mapping[str, Any]) -> Any:
    """Return the answer of an earlier request under the same key. Raise NotAllowed, UnfinishedRequest."""
    if (earlier.command, earlier.arguments) != (command.name, as_text(arguments)):
        raise NotAllowed("this request key was used for another request")
    if earlier.result == UNKNOWN:
        raise UnfinishedRequest("This request came before, and its end is not known.", "Look at what it did.")
    return json.loads(earlier.answer)


def _check_texts(value: Any) -> None:
    """Raise MalformedMessage for text that not every database stores."""
    if isinstance(value, str) and ("\0" in value or any("\ud800" <= each <= "\udfff" for each in value)):
        raise MalformedMessage("a text has a character in it that is none")
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for each in value:
            _check_texts(each)
