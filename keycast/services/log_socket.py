"""The control socket of a KMS, GMS or CMS: by it `keycast log` reads what the process logs, and sets levels."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gateway_agent.control import ControlSocket
from gateway_agent.control_client import SOCKET_FILE
from gateway_agent.errors import ControlUnavailable
from gateway_agent.observe.log_lines import LogLines
from keycast.services.log_commands import log_commands

_log = logging.getLogger(__name__)


@asynccontextmanager
async def log_socket(state: Path, lines: LogLines) -> AsyncIterator[None]:
    """Serve the commands of `keycast log` in the folder `state` while the `async with` block runs.

    Without it a server does its work all the same: of several processes on one database the first one has the socket.
    """
    control = ControlSocket(state / SOCKET_FILE, log_commands(lines))
    try:
        await control.open()
    except ControlUnavailable as problem:
        _log.info("`keycast log` does not reach this process: %s", problem)
        yield
        return
    try:
        yield
    finally:
        await control.close()
