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
        self._say(logging.WARNING, "a request was refused: %s", why)

    def ended(self, why: str) -> None:
        """Note that a connection was ended, or not let in."""
        self.connections[why] += 1
        self._say(logging.WARNING, "a connection was ended: %s", why)

    def failed(self, sentence: str) -> None:
        """Note that the server failed; `sentence` is its own and holds nothing of a request."""
        self.requests[f"{self._counted_as}.failed"] += 1
        self._say(logging.ERROR, "%s", sentence)

    def broke(self, error: BaseException) -> None:
        """Note a fault of the program: the log names its place in the code, not its text."""
        place, trace = "nowhere", error.__traceback__
        while trace is not None:
            place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
            trace = trace.tb_next
        self.failed(f"a request met a fault of this program: {type(error).__name__} at {place}")

    def _say(self, level: int, form: str, value: str) -> None:
        now = time.monotonic()
        if now - self._said_at.get(form, float("-inf")) < tuning.LOGGED_EVERY_S:
            self._unsaid[form] += 1
            return
        self._said_at[form] = now
        _log.log(level, f"{form} (%d more since the last line)", value, self._unsaid.pop(form, 0))
