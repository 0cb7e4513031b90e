"""The control socket of a gateway, or of a CPNS Server on its own.

It is a Unix socket in the state folder, of mode 0600. Each line is one JSON object: a request
`{"do": "group.show", "with": {...}}`, an answer `{"ok": value}` or `{"error": "sentence", "code": "unknown"}`. Every
process that can open the socket may control what runs there, so the mode of the folder is the access control. Answers
never hold keys. `control_client` is the other end.
"""

import asyncio
import inspect
import json
import logging
import os
import pwd
import socket
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cpns.errors import CpnsError
from gateway_agent.control_client import FAULT, PEER, check_path, who_answers
from gateway_agent.errors import ControlUnavailable, GatewayError, code_of
from message_plane.errors import PlaneError

_log = logging.getLogger(__name__)

REQUEST_MAX = 4 * 1024 * 1024  # an update in base64 (`update.offer`)
Command = Callable[..., Any]
asked_by: ContextVar[str] = ContextVar("asked_by", default="")
"""The user of this machine for whom a command is carried out: a name, or a number without one; "" if nobody asked."""


def attended(command: Command) -> Command:
    """Mark a coroutine function as a command that is cancelled when the connection of its request ends."""
    vars(command)["attended"] = True
    return command


UNKNOWN_COMMAND = "unknown-command"
"""The code of a refusal for which this program has no exception class, as `control_client.FAULT` is one."""


class ControlSocket:
    """Serves `commands` from `open` to `close`.

    `commands`: name -> function or coroutine function that accepts keyword arguments. It returns a JSON value, in which
    dataclasses are allowed.
    """

    def __init__(self, path: Path, commands: Mapping[str, Command]) -> None:
        self._path = path
        self._commands = commands
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Start to listen. Raises ControlUnavailable if another gateway answers there, or the path is too long."""
        check_path(self._path)
        if self._path.exists():
            if who_answers(self._path) is not None:
                raise ControlUnavailable(
                    f"Another gateway is running on {self._path.parent}.", "Stop it first, or use another state_dir."
                )
            self._path.unlink()  # left by a process that was killed
        mask = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, str(self._path), limit=REQUEST_MAX)
        finally:
            os.umask(mask)

    async def close(self) -> None:
        """Stop listening, cancel the running commands (a pairing may wait for minutes), and remove the socket."""
        if self._server is not None:
            self._server.close()
            for task in self._serving:
                task.cancel()
            await asyncio.gather(*self._serving)
            await self._server.wait_closed()
            self._path.unlink(missing_ok=True)
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # a coroutine runs in a task
        self._serving.add(task)
        asked_by.set(_user_of(writer.get_extra_info("socket")))
        try:
            while line := await reader.readline():
                answer = await self._while_attended(line, reader)
                if answer is None:
                    break
                writer.write(json.dumps(answer, default=asdict).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            _log.info("a control connection ended early")
        except asyncio.CancelledError:
            _log.info("the gateway ends: a control connection is closed")  # the command of the person ends then, too
        finally:
            self._serving.discard(task)
            writer.close()

    async def _while_attended(self, line: bytes, reader: asyncio.StreamReader) -> dict[str, Any] | None:
        """Return the answer to `line`, None if it was an attended command whose connection has ended.

        An attended command is cancelled when its connection ends, or when anything more comes on it.
        """
        if not self._is_attended(line):
            return await self.answer(line)
        command = asyncio.ensure_future(self.answer(line))
        gone = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait([command, gone], return_when=asyncio.FIRST_COMPLETED)
            return await command if command.done() else None
        finally:
            for task in (command, gone):
                task.cancel()
            await asyncio.gather(command, gone, return_exceptions=True)

    def _is_attended(self, line: bytes) -> bool:
        try:
            return getattr(self._commands[json.loads(line)["do"]], "attended", False)
        except (ValueError, KeyError, TypeError, RecursionError):
            return False

    async def answer(self, line: bytes) -> dict[str, Any]:
        """Execute the request in `line` and return its answer. Other lines, which may be any octets, get a refusal."""
        try:
            request = json.loads(line)
            command = self._commands[request["do"]]
            arguments = dict(request.get("with", {}))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return {"error": f"Unknown command. Known: {', '.join(sorted(self._commands))}.", "code": UNKNOWN_COMMAND}
        try:
            value = command(**arguments)
            return {"ok": await value if inspect.isawaitable(value) else value}
        except (CpnsError, GatewayError, PlaneError) as error:
            return {"error": str(error) or type(error).__name__, "code": code_of(error)}
        except Exception as error:  # noqa: BLE001 - the person gets the sentence, the log the traceback
            _log.exception("KC1411 control command %s", request["do"])
            return {"error": f"{request['do']}: {error}", "code": FAULT}


def _user_of(sock: socket.socket) -> str:
    uid: int = PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size))[1]
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
