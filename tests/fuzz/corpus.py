"""Inputs worth changing further: each took a way through our code that none before it had taken."""

import random
import sys
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from tests.fuzz.mutation import mutated, spliced
from tests.fuzz.target import Target, run

PROJECT = f"{Path(__file__).parents[2]}/"
_OURS = tuple(
    f"{PROJECT}{room}/"
    for room in (
        "cpns",
        "mikey_sakke",
        "suit",
        "device_agent",
        "private_store",
        "message_plane",
        "gateway_agent",
        "key_servers",
        "keycast",
        "tools",
    )
)
_INPUTS_MAX = 4096

Step = tuple[CodeType, int, int]  # from one line to another


class Corpus:
    """The inputs of one target. It begins with the target's seeds."""

    def __init__(self, target: Target, dice: random.Random) -> None:
        self.inputs: list[bytes] = []
        self._target = target
        self._dice = dice
        self._steps: set[Step] = set()

    def next(self) -> bytes:
        """Something like one of the inputs, or like the beginning of one and the end of another."""
        data = self._dice.choice(self.inputs)
        if not self._dice.randrange(8):
            data = spliced(data, self._dice.choice(self.inputs), self._dice)
        return mutated(data, self._dice)

    def learn(self, data: bytes) -> bool:
        """Run the target on `data`, watched, which takes several times as long; True if it went a new way and is kept.

        Raises what the target does not expect to be raised.
        """
        steps = _steps(self._target, data)
        if steps <= self._steps or len(self.inputs) == _INPUTS_MAX:
            return False
        self._steps |= steps
        self.inputs.append(data)
        return True


def _steps(target: Target, data: bytes) -> set[Step]:
    """The steps in our code when `data` is given to `target`."""
    steps: set[Step] = set()
    last = 0

    def inside(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal last
        if event == "line":
            steps.add((frame.f_code, last, frame.f_lineno))
            last = frame.f_lineno
        return inside

    def enter(frame: FrameType, event: str, argument: Any) -> Any:
        return inside if frame.f_code.co_filename.startswith(_OURS) else None

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        run(target, data)
    finally:
        sys.settrace(before)
    return steps
