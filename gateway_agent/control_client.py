"""The end of a control socket that asks (`control` is the one that answers).

It blocks and needs no event loop: most commands are one question, and loading one takes longer than the answer.
"""

import json
import os
import socket
import struct
from pathlib import Path
from typing import Any

from gateway_agent.errors import ControlUnavailable, Refused

SOCKET_FILE = "control.sock"  # its name in the state folder
ANSWER_MAX = 64 * 1024 * 1024  # a group with 100,000 members and deliveries
PATH_MAX = 107  # octets in the address of a Unix socket (unix(7))
PEER = struct.Struct("=iII")  # process, user, group: SO_PEERCRED of unix(7)
FAULT = "fault"
"""The code of a refusal by a fault of the program that answers."""


def check_path(path: Path) -> None:
    """Raise ControlUnavailable if the path is too long for a control socket."""
    if len(os.fsencode(path)) > PATH_MAX:
        raise ControlUnavailable(
            f"The path of the control socket has more than {PATH_MAX} octets: {path}.",
            "Use a state folder with a shorter path.",
        )


def who_answers(path: Path) -> int | None:
    """Return the ID of the process behind the control socket `path`, 0 if it is too busy, None if there is none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        try:
            sock.connect(str(path))
        except BlockingIOError:
            return 0
        except OSError:
            return None
        pid: int = PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size))[0]
        return pid


def ask(
    state_dir: Path,
    do: str,
    start_with: str = "keycast gateway run",
    within_s: float | None = None,
    /,
    **arguments: Any,
) -> Any:
    """Send the request `do` to the process that runs on `state_dir` and return the value of its answer; this blocks.

    `start_with`: the command that starts such a process, for the error text. Raises ControlUnavailable if no process
    answers, Refused with the process's own sentence if it refuses, TimeoutError after `within_s` seconds.
    """
    path = state_dir / SOCKET_FILE
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(within_s)
        try:
            sock.connect(str(path))
        except PermissionError:
            raise ControlUnavailable(
                f"{path} belongs to another user.", "Run this command as the user who started what answers there."
            ) from None
        except OSError as error:
            raise ControlUnavailable(
                f"Nothing answers on {path} ({error.strerror or error}).", f"Start it: {start_with}"
            ) from None
        try:
            sock.sendall(json.dumps({"do": do, "with": arguments}).encode() + b"\n")
            with sock.makefile("rb") as stream:
                line = stream.readline(ANSWER_MAX)
        except ConnectionError:
            line = b""
    answer = json.loads(line or b'{"error": "The gateway stopped while answering.", "code": "stopped"}')
    if "error" in answer:
        raise Refused(str(answer["error"]), str(answer.get("code", FAULT)))
    return answer["ok"]
