"""The boards on this computer: what is known of each port without opening it, what runs there, and what to do next."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from keycast.board.asking import AskedBoard, ask
from keycast.board.faults import BoardFault
from keycast.board.ports import Port, locked, ports, users
from keycast.hardware.board import Board
from keycast.hardware.catalogue import VIRTUAL, usb_matches

_MICROPYTHON_USB = "303a:4001"  # TinyUSB, whose lines DTR and RTS reset nothing


BY_STATE = {
    "unprovisioned": "provision NAME",
    "half-provisioned": "provision NAME",
    "unpaired": "pair NAME",
    "pairing": "pair NAME",
    "damaged": "provision NAME",
    "no-wifi-name": "provision NAME --wifi WIFI",
    "no-bluetooth": "provision NAME --wifi WIFI",
    "wrong-password": "provision NAME --wifi WIFI",
    "safe-mode": "rescue",
    "": "monitor",
}
"""The command of `keycast board` that leads on, by the state that a board tells."""


class Seen(NamedTuple):
    """A port and what is known of its board.

    `names` are the hardware files that it may be. `state` is what the USB id says: "bridge"; "boot_rom", "micropython",
    or "native" for either of these; "virtual"; or "" for a device that is no board we know. `answer` is None if the
    board was not asked: another program has the port (`users`), there is a `fault`, or nobody wanted that.
    """

    port: Port
    names: tuple[str, ...]
    state: str
    users: tuple[tuple[int, str], ...]
    answer: AskedBoard | None
    fault: BoardFault | None

    @property
    def chip(self) -> str:
        """The chip, if the board told it."""
        return self.answer.chip if self.answer else ""


def survey(boards: Mapping[str, Board], ask_all: bool) -> list[Seen]:
    """Return what is seen on all ports.

    A port that another program has open is never opened. One with a USB-to-UART bridge, or with the USB of a boot ROM,
    is opened only with `ask_all`: to open it can reset the board.
    """
    there = ports()
    with ThreadPoolExecutor(max(1, len(there))) as pool:
        return list(pool.map(lambda port: _look(port, boards, ask_all), there))


def without_asking(port: Port, boards: Mapping[str, Board]) -> Seen:
    """Return what is known of a port that is not opened."""
    matches = usb_matches(port.usb_id or "", dict(boards))
    names = (VIRTUAL,) if port.is_virtual else tuple(match.file for match in matches)
    state = "virtual" if port.is_virtual else _state(match.states for match in matches)
    return Seen(port, names, state, tuple(users(port)), None, None)


def next_step(seen: Seen, boards: Mapping[str, Board]) -> str:
    """Return a command that leads on with this board, or another sentence, or "" if there is nothing to be done."""
    port = f"--port {seen.port.name}"
    if seen.users:
        return ""
    if seen.fault:
        return seen.fault.next_step
    if not seen.state:
        return ""
    if seen.answer is None:
        return "keycast board list --ask"
    runs, state = seen.answer.runs, seen.answer.state
    if runs == "micropython":
        return f"keycast board flash --files-only {port}"
    if runs in ("nothing", "boot loader", "other"):
        image = "" if seen.port.is_virtual else f"{_image(seen.names, boards)} "
        return f"keycast board flash {image}{port}"
    if runs == "silent":
        return f"press its reset button; then: keycast board monitor {port}"
    if state == "in-repl":
        return "press its reset button"
    return f"keycast board {BY_STATE[state]} {port}" if state in BY_STATE else ""


def _look(port: Port, boards: Mapping[str, Board], ask_all: bool) -> Seen:
    seen = without_asking(port, boards)
    is_safe = port.is_virtual or port.usb_id == _MICROPYTHON_USB
    if not seen.state or seen.users or not (ask_all or is_safe):
        return seen
    try:
        with locked(port, "keycast board list"):
            return seen._replace(answer=ask(port.device))
    except BoardFault as fault:
        return seen._replace(fault=fault)
    except OSError:
        return seen._replace(answer=AskedBoard("silent"))


def _state(states: Iterable[tuple[str, ...]]) -> str:
    """Return the word for what a USB id says: "" if none has it, "native" if boards show it in several states."""
    found = {state for each in states for state in each}
    if len(found) > 1:
        return "native"
    return {"always": "bridge"}.get(only := next(iter(found), ""), only)


def _image(names: tuple[str, ...], boards: Mapping[str, Board]) -> str:
    """Return the name of the firmware for a board that is one of `names`, with a star for its date and version."""
    published = {boards[name].firmware[0].name for name in names}
    return f"{published.pop()}-*.bin" if len(published) == 1 else "IMAGE"
