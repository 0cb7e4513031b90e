"""Wait until a board that was started says on its serial line what has become of it (docs/board_start.md)."""

import time
from collections.abc import Iterator
from typing import NamedTuple

TOLD_S = 60.0  # the board connects within 15 s and makes its session within 10 s
STAYS_S = 10.0  # a hindrance that lasts so long is no first try that failed
RUNNING = "running"

_PREFIX = "keycast: "
_PASSING = ("connecting", "not-cleared", "")  # what the board says on its way
# code of micropython/status_lines.py -> what the person does next
_NEXT = {
    "wrong-password": "Type the command again with the right password.",
    "no-access-point": "Compare its name, capital letters too; and switch 2.4 GHz on at the access point, as these "
    "boards hear no 5 GHz. Then type the command again.",
    "no-connection": "Look whether the access point lets further devices in, and gives them addresses.",
    "no-gateway": "The board and the gateway must be in one network: keycast gateway check. If the network keeps its "
    "devices apart (a guest Wi-Fi does), take another one.",
    "refused": "Type the command again with --replace.",
    "low-memory": "Put an image onto the board whose code runs from flash: keycast board flash",
    "safe-mode": "Type: keycast board rescue",
    "damaged": "Type the command again with --replace.",
}


class BoardState(NamedTuple):
    """The last state that a board told: its code, "" for none, and its sentence; `next_step` for a person, or ""."""

    code: str
    sentence: str

    @property
    def next_step(self) -> str:
        """What the person does next."""
        return _NEXT.get(self.code, "See what it prints: keycast board monitor")


def settled(lines: Iterator[str]) -> BoardState:
    """Return the state in which a board settles, of the `lines` that it prints from its start on.

    That is `RUNNING` at once, another one if it lasts, or the last one when the lines end.
    """
    state, since = BoardState("", ""), time.monotonic()
    for line in lines:
        if line.startswith(_PREFIX):
            code, _, sentence = line.removeprefix(_PREFIX).partition(" ")
            if code in ("start:", "who", "ended", "waiting", "update"):
                continue
            state, since = BoardState(code, sentence), time.monotonic()
        if state.code == RUNNING or (state.code not in _PASSING and time.monotonic() - since > STAYS_S):
            break
    return state
