"""The commands that arrive over MQTT: which of them are carried out, and which are ignored and counted.

Whoever has the broker's password can send them, so only those that the configuration allows are looked at. A message
that the broker has kept (retained) is no command: it would come again at each start.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from message_plane.rate import Bucket

COMMANDS = {
    "update": ("group.update", False),
    "permit": ("group.permit", True),
    "expel": ("group.expel", True),
    "delete": ("group.delete", False),
}
"""Word -> command of the control socket, and whether it names a board, too: "update", "expel lamp.porch"."""
PER_SECOND, AT_ONCE = 1.0, 5
_PAYLOAD_MAX = 512


@dataclass(frozen=True, slots=True)
class GivenOrder:
    """A command of the control socket with its arguments."""

    command: str
    arguments: Mapping[str, str]


class OrderDesk:
    """Reads commands. `counters` counts what is ignored, by reason, as `home_assistant_...`."""

    def __init__(self, allowed: Collection[str], counters: Counter[str]) -> None:
        self._allowed = allowed
        self._counters = counters
        self._rate = Bucket(PER_SECOND, AT_ONCE)

    def read(self, sg_id: str | None, payload: bytes, *, is_retained: bool, now: float) -> GivenOrder | None:
        """Return the command in a message to the group `sg_id`, None for no group here; None if it is to be ignored.

        `now`: seconds of a clock that does not go back.
        """
        if is_retained:
            return self._ignored("retained")
        if len(payload) > _PAYLOAD_MAX:
            return self._ignored("too_long")
        word, _, board = payload.decode("utf-8", "replace").strip().partition(" ")
        if sg_id is None or word not in COMMANDS or COMMANDS[word][1] != bool(board.strip()):
            return self._ignored("unknown")
        if word not in self._allowed:
            return self._ignored("not_allowed")
        if not self._rate.take(now):
            return self._ignored("too_many")
        command, _ = COMMANDS[word]
        return GivenOrder(command, {"sg_id": sg_id} | ({"pne_id": board.strip()} if board else {}))

    def _ignored(self, why: str) -> GivenOrder | None:
        self._counters[f"home_assistant_{why}"] += 1
        return None
