"""Ask what runs on a board, through its open port, without ending it.

A running agent answers a line with what it is. A board without agent shows the prompt of its REPL or what its boot ROM
prints. An agent that waits because it is not provisioned, or has failed, leaves its wait at the first octet: it is
started again afterwards, and tells its state then.
"""

import json
import re
import time
from typing import Any, Literal, NamedTuple, get_args

from keycast.board.serial_port import opened
from keycast.hardware.table import Radio

Runs = Literal["agent", "waiting agent", "micropython", "nothing", "boot loader", "other", "silent"]

_QUESTION = b"keycast: who"
# Each repetition is bounded: what a board sends must not cost more time than it takes to send.
_ANSWER = re.compile(rb"keycast: who (\{[^\n]{0,1000}\})\r?\n")
_WAITS = b"keycast: waiting for a tool"
_BEGINS = b"keycast: start: "
_RESET = b"rst:0x"
_WAITING = ("unprovisioned", "half-provisioned", "damaged", "safe-mode")  # micropython/start.py: an octet ends the wait
_STATE = re.compile(rb"keycast: (?!start:|waiting |who |pairing-secret |update )([a-z-]{1,32}) [^\n]{0,500}\n")
_BANNER = re.compile(
    rb"MicroPython v?(\d{1,3}\.\d{1,3}(?:\.\d{1,3})?)[^;\n]{0,99}; [^\n]{0,99}?(?: with (ESP32\w{0,9}))?\r?\n"
)
_LOOK = b"import os; print('main.py' in os.listdir('/'), 'files')\r"
_FILES = re.compile(rb"(True|False) files\r?\n")
_CLEAR_LINE, _FRIENDLY, _SOFT_RESET = b"\x03", b"\x02", b"\x04"
_SIGNS: tuple[tuple[bytes, Runs], ...] = (
    (b"waiting for download", "boot loader"),
    (b"invalid header: 0x", "nothing"),
    (b"flash read err", "nothing"),
    (b"No bootable app", "nothing"),
)
_POLL_S = 0.05
_ANSWER_S = 2.0  # a busy agent needs a second; a boot ROM that finds nothing tries again within one
_START_S = 6.0  # the window for tools, and what a board without gateway makes at its first start
_QUIET_S = 0.3
_HEARD_MAX = 65536
_TEXT_MAX = 200  # characters
_RADIOS = get_args(Radio)


class AskedBoard(NamedTuple):
    """What runs on a board. Texts are "" where they are unknown, the others None.

    `agent` is the version of the agent, and `state` the code of its state (docs/board_start.md), or "in-repl" if it
    waits there. `group_count` are the groups that it is in, `radios` those that are on, `radio_lowest` the octets that
    its radio had at the worst moment. `cleared` is True if what is erased leaves its flash. `server_fingerprint` is
    that of the CPNS Server that it trusts, by which people compare, and `own_fingerprint` that of its own credential.
    `slot` is where its agent lies, 0 for one flashed by cable, and `update` the number of the update that it came with.
    `cut` are the datagrams since its start that found no room in its heap, `dropped` those that its network did not
    take, `empty` those without an octet, after each of which it opened a socket anew.
    """

    runs: Runs
    micropython: str = ""
    chip: str = ""
    agent: str = ""
    state: str = ""
    pne_id: str = ""
    gateway_id: str = ""
    group_count: int | None = None
    radio_lowest: int | None = None
    cleared: bool | None = None
    radios: tuple[str, ...] | None = None
    server_fingerprint: str = ""
    own_fingerprint: str = ""
    update: int | None = None
    slot: int | None = None
    cut: int | None = None
    dropped: int | None = None
    empty: int | None = None


def ask(device: str) -> AskedBoard:
    """Return what runs on the board at the port `device`. Raises OSError."""
    with opened(device, _POLL_S) as line:
        heard = _question(line)
        if _RESET in heard and not _is_clear(heard):  # it was reset when its port was opened
            heard += _listen(line, _START_S, _is_clear)
        if found := _ANSWER.search(heard):
            return of_agent(found[1])
        if _WAITS in heard or _BEGINS in heard:
            return _start_again(line)
        if _QUESTION in heard:  # it was echoed
            return _at_prompt(line)
    return AskedBoard(_sign(heard) or ("other" if heard.strip(b"\0\r\n") else "silent"))


def of_agent(octets: bytes) -> AskedBoard:
    """Return what the JSON in an agent's answer says. What is missing in it, or is of another kind, is unknown."""
    try:
        told = json.loads(octets)
    except (ValueError, RecursionError):
        told = {}
    if not isinstance(told, dict):
        told = {}

    def text(key: str) -> str:
        found = told.get(key)
        return found if isinstance(found, str) and found.isprintable() and len(found) <= _TEXT_MAX else ""

    def number(key: str) -> int | None:
        return told[key] if type(told.get(key)) is int and 0 <= told[key] < 1 << 32 else None

    return AskedBoard(
        "agent",
        text("micropython"),
        "",
        text("agent"),
        text("state"),
        text("pne_id"),
        text("gateway_id"),
        number("groups"),
        number("radio_lowest"),
        told["cleared"] if isinstance(told.get("cleared"), bool) else None,
        tuple(name for name in _RADIOS if name in radios) if isinstance(radios := told.get("radios"), list) else None,
        text("server"),
        text("credential"),
        number("update"),
        number("slot"),
        number("cut"),
        number("dropped"),
        number("empty"),
    )


def _question(line: Any) -> bytes:
    line.write(_QUESTION + b"\n")
    return _listen(line, _ANSWER_S, lambda heard: bool(_ANSWER.search(heard)) or _WAITS in heard)


def _is_clear(heard: bytes) -> bool:
    return bool(_ANSWER.search(heard) or _sign(heard)) or _WAITS in heard or _BEGINS in heard


def _sign(heard: bytes) -> Runs | None:
    return next((runs for sign, runs in _SIGNS if sign in heard), None)


def _start_again(line: Any) -> AskedBoard:
    """Restart the agent on a board at its prompt, where the rest of the question stands, and return what it says."""
    for octet in (_CLEAR_LINE, _SOFT_RESET):
        _settle(line)  # a board that prints, or is interrupted, may lose what comes then
        line.write(octet)
    told = _STATE.search(_listen(line, _START_S, lambda heard: bool(_STATE.search(heard))))
    state = told[1].decode() if told else ""
    is_running = state and state not in _WAITING
    if is_running and (found := _ANSWER.search(_question(line))):
        return of_agent(found[1])
    return AskedBoard("waiting agent", state=state)


def _at_prompt(line: Any) -> AskedBoard:
    line.write(_CLEAR_LINE + _FRIENDLY)
    banner = _BANNER.search(_listen(line, _ANSWER_S, lambda heard: bool(_BANNER.search(heard))))
    if banner is None:
        return AskedBoard("other")
    line.write(_LOOK)
    files = _FILES.search(_listen(line, _ANSWER_S, lambda heard: bool(_FILES.search(heard))))
    known = banner[1].decode(), (banner[2] or b"").decode().lower()
    if files and files[1] == b"True":
        return AskedBoard("waiting agent", *known, state="in-repl")
    return AskedBoard("micropython", *known)


def _settle(line: Any) -> None:
    """Wait until nothing has come from the board for _QUIET_S seconds, or for _ANSWER_S at most."""
    end = time.monotonic() + _ANSWER_S
    while _listen(line, _QUIET_S, bool) and time.monotonic() < end:
        pass


def _listen(line: Any, most_s: float, enough: Any) -> bytes:
    """Return what the board sends within `most_s` seconds, or until that is `enough`."""
    heard, end = b"", time.monotonic() + most_s
    while time.monotonic() < end and not enough(heard):
        heard = (heard + line.read(1) + line.read(line.in_waiting))[-_HEARD_MAX:]
    return heard
