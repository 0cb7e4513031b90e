"""The log of a door: counters of everything, and at most one line of a kind in a while. No line quotes a peer.

Peers without a token must not fill the log, and no line holds a header, a body, a path or the text of an exception that
was raised while such were read.
"""

import logging
import time
from collections import Counter
from pathlib import Path

from http_door import tuning

_log = logging.getLogger(__name__)


class DoorLog:
    """Counts refusals in `requests` under `counted_as` and the reason, as in "refused.full", and ends of connections
    by name in `connections`.
    """

    def __init__(self, requests: Counter[str], counted_as: str = "refused") -> None:
        self.requests = requests
        self._counted_as = counted_as
        self.connections: Counter[str] = Counter()
        self._said_at: dict[str, float] = {}
        self._unsaid: Counter[str] = Counter()

    def refused(self, why: str) -> None:
        """Note that a request was refused."""
        self.requests[f"{self._counted_as}.{why}"] += 1
        if (unsaid := self._unsaid_if_due("refused")) is not None:
            _log.warning("KC1502 a request was refused: %s (%d more since the last line)", why, unsaid)

    def ended(self, why: str) -> None:
        """Note that a connection was ended, or not let in."""
        self.connections[why] += 1
        if (unsaid := self._unsaid_if_due("ended")) is not None:
            _log.warning("KC1503 a connection was ended: %s (%d more since the last line)", why, unsaid)

    def failed(self, sentence: str) -> None:
        """Note that the server failed; `sentence` is its own and holds nothing of a request."""
        self.requests[f"{self._counted_as}.failed"] += 1
        if (unsaid := self._unsaid_if_due("failed")) is not None:
            _log.error("KC1504 requests fail: %s (%d more since the last line)", sentence, unsaid)

    def broke(self, error: BaseException) -> None:
        """Note a fault of the program: the log names its place in the code, not its text."""
        place, trace = "nowhere", error.__traceback__
        while trace is not None:
            place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
            trace = trace.tb_next
        self.failed(f"a request met a fault of this program: {type(error).__name__} at {place}")

    def _unsaid_if_due(self, line: str) -> int | None:
        """Return how many lines of this kind were left out since the last one; None if this one is, too."""
        now = time.monotonic()
        if now - self._said_at.get(line, float("-inf")) < tuning.LOGGED_EVERY_S:
            self._unsaid[line] += 1
            return None
        self._said_at[line] = now
        return self._unsaid.pop(line, 0)
