"""The requests to PN GWs that may be under way: a state machine without I/O or clock; `now` is monotonic, in seconds.

There are `tuning.PLACES` places, each for one request, and some more for PN GWs that speak while they wait. A PN GW has
one place at most: its session sends one request at a time (NSTART, RFC 7252, 4.7). What is for all its PNEs goes before
what is for one of them, as there may be a thousand of these. Of the PN GWs that wait, those heard
last come first. A PN GW that let a request go unanswered is silent until it is heard again. All silent ones together
have a quarter of the places, so that the living need not wait for them, however many they are. A request without an
answer for `tuning.QUIET_S` counts as one to a silent PN GW before its time is over: if a living PN GW needs its place
it is recalled. Its PN GW then waits behind the other living ones, as the Server may have been slow and not the PN GW;
after a second recall it waits with the silent ones.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import count

from key_servers.cpns_server import tuning

Request = tuple[str, ...]
"""(PN ID, SG ID), or (PN ID, SG ID, PNE ID): what the request is about. The PN stands for its PN GW."""


_FOR_ALL = 2  # parts of such a request


@dataclass(slots=True)
class _Line:
    """One PN GW: its requests that wait, oldest first, and the one under way since `since`."""

    for_all: dict[Request, None] = field(default_factory=dict)
    for_one: dict[Request, None] = field(default_factory=dict)
    under_way: Request | None = None
    since: float = 0.0
    heard_at: float = float("-inf")
    silent: bool = False
    spoke: bool = False  # while its requests waited
    recalled: bool = False  # once, since it was heard last
    repeated: bool = False  # the request under way was sent twice
    ticket: int = 0  # of its entry among the living; older entries are void

    def waits(self) -> bool:
        return bool(self.for_all or self.for_one)

    def add(self, request: Request) -> None:
        self._among(request)[request] = None

    def add_first(self, request: Request) -> None:
        among = self._among(request)
        others = dict(among)
        among.clear()
        among[request] = None
        among.update(others)

    def take_next(self) -> Request:
        among = self.for_all or self.for_one
        request = next(iter(among))
        del among[request]
        return request

    def _among(self, request: Request) -> dict[Request, None]:
        return self.for_all if len(request) == _FOR_ALL else self.for_one


class Places:
    """Hands out the places. The caller reports each event, then asks `repeat`, `recall` and `admit` what to do."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}
        # PN GWs that wait: the living as a heap of (- heard at, ticket, PN ID), the silent in order of arrival.
        self._living: list[tuple[float, int, str]] = []
        self._living_waiting = 0
        self._silent: OrderedDict[str, None] = OrderedDict()
        # Requests under way, oldest first.
        self._fresh: OrderedDict[str, None] = OrderedDict()
        self._quiet: OrderedDict[str, None] = OrderedDict()
        self._doubtful: dict[str, None] = {}  # of those, the PN GWs that spoke and have not answered
        self._tickets = count(1)

    @property
    def taken(self) -> int:
        """The number of requests under way."""
        return len(self._fresh) + len(self._quiet)

    @property
    def taken_by_silent(self) -> int:
        """The number of them to PN GWs that seem to be silent, as of the last call with a time."""
        return len(self._quiet)

    def wait(self, request: Request) -> None:
        """Let `request` wait for a place; a request that waits already waits once."""
        pn_id = request[0]
        line = self._lines.setdefault(pn_id, _Line())
        if request != line.under_way:
            line.add(request)
            if not line.ticket:
                self._queue(pn_id, line)

    def heard(self, pn_id: str, now: float) -> Request | None:
        """Note that the PN GW spoke. Return its request under way if that is to be sent again at once, else None.

        It is sent again at once if it seems lost: it went to a silent PN GW, or a while ago. A younger one is returned
        by `repeat` unless it is answered soon.
        """
        line = self._lines.setdefault(pn_id, _Line())
        was_silent = line.silent or line.recalled
        line.heard_at = now
        line.recalled = False
        self._set_silent(pn_id, line, silent=False)
        if line.under_way is None:
            line.spoke = line.waits()
            self._queue(pn_id, line)
            return None
        if not line.repeated and not was_silent and line.since > now - tuning.QUIET_S:
            self._doubtful[pn_id] = None
            return None
        if pn_id in self._quiet:
            del self._quiet[pn_id]
            line.since = now  # it has its time to answer anew
            self._fresh[pn_id] = None
        return None if line.repeated else self._repeated(pn_id, line, now)

    def forget(self, pn_id: str) -> Request | None:
        """Forget what waits for the PN GW. Return its request under way, which is to be given up, None if none is."""
        line = self._lines.pop(pn_id, None)
        if line is None:
            return None
        self._void(line)
        for table in (self._silent, self._fresh, self._quiet, self._doubtful):
            table.pop(pn_id, None)
        return line.under_way

    def repeat(self, now: float) -> list[Request]:
        """Return the requests that PN GWs have not answered although they spoke since. Each is to be sent once more."""
        lost = [pn_id for pn_id in self._doubtful if self._lines[pn_id].since <= now - tuning.QUIET_S]
        return [self._repeated(pn_id, self._lines[pn_id], now) for pn_id in lost]

    def ended(self, request: Request, now: float, *, answered: bool) -> None:
        """Note that the request under way ended: it was answered, or its time is over."""
        pn_id, line = self._leave(request)
        if answered:
            line.heard_at = now
            line.recalled = False
        self._set_silent(pn_id, line, silent=not answered)
        self._queue(pn_id, line)

    def unsent(self, request: Request) -> None:
        """Note that the request under way has not gone out, so nothing is known about the PN GW."""
        self._queue(*self._leave(request))

    def recall(self, now: float) -> list[Request]:
        """Take places back of which silent PN GWs have too many while living ones wait; return their requests.

        These requests are to be given up. They wait again, at the head of their PN GW's requests.
        """
        self._grow_quiet(now)
        recalled: list[Request] = []
        wanted = min(self._living_waiting - (tuning.PLACES - self.taken), len(self._quiet) - tuning.PLACES_OF_SILENT)
        for _ in range(wanted):
            pn_id = next(iter(self._quiet))
            request = self._lines[pn_id].under_way
            assert request is not None
            _, line = self._leave(request)
            line.add_first(request)
            self._set_silent(pn_id, line, silent=line.silent or line.recalled)
            line.recalled = True
            self._queue(pn_id, line)
            recalled.append(request)
        return recalled

    def admit(self, now: float, most: int) -> list[Request]:
        """Give places to at most `most` of the requests that wait, and return those: they are under way from now on."""
        self._grow_quiet(now)
        admitted: list[Request] = []
        while len(admitted) < most:
            pn_id = self._next()
            if pn_id is None:
                break
            line = self._lines[pn_id]
            line.under_way = line.take_next()
            line.since = now
            line.repeated = line.spoke = False
            (self._quiet if line.silent else self._fresh)[pn_id] = None
            admitted.append(line.under_way)
        return admitted

    def wake_at(self) -> float | None:
        """Return the monotonic seconds at which `repeat` or `recall` may return something new, None if never."""
        waits = list(self._doubtful)
        if self._living_waiting and self._fresh and self.taken >= tuning.PLACES:
            waits.append(next(iter(self._fresh)))
        return min((self._lines[pn_id].since + tuning.QUIET_S for pn_id in waits), default=None)

    def _repeated(self, pn_id: str, line: _Line, now: float) -> Request:
        # Once only: a PN GW that answers slowly would otherwise never get to its answer.
        assert line.under_way is not None
        line.repeated = True
        line.since = now
        self._doubtful.pop(pn_id, None)
        self._quiet.pop(pn_id, None)
        self._fresh[pn_id] = None
        self._fresh.move_to_end(pn_id)
        return line.under_way

    def _grow_quiet(self, now: float) -> None:
        while self._fresh:
            pn_id = next(iter(self._fresh))
            if self._lines[pn_id].since > now - tuning.QUIET_S:
                return
            del self._fresh[pn_id]
            self._quiet[pn_id] = None

    def _leave(self, request: Request) -> tuple[str, _Line]:
        pn_id = request[0]
        line = self._lines[pn_id]
        if line.under_way != request:
            raise ValueError("a request ended that was not under way")
        line.under_way = None
        self._fresh.pop(pn_id, None)
        self._quiet.pop(pn_id, None)
        self._doubtful.pop(pn_id, None)
        return pn_id, line

    def _set_silent(self, pn_id: str, line: _Line, *, silent: bool) -> None:
        if silent == line.silent:
            return
        line.silent = silent
        if silent:
            self._void(line)
        else:
            self._silent.pop(pn_id, None)

    def _queue(self, pn_id: str, line: _Line) -> None:
        """Put the PN GW into the line that it belongs to, if it has something to send and nothing under way."""
        if line.under_way is not None or not line.waits():
            return
        if line.silent:
            self._silent.setdefault(pn_id)
            return
        if not line.ticket:
            self._living_waiting += 1
        line.ticket = next(self._tickets)
        order = float("inf") if line.recalled else -line.heard_at
        heappush(self._living, (order, line.ticket, pn_id))
        if len(self._living) > 4 * self._living_waiting + 64:  # void entries of PN GWs that speak often while they wait
            self._living = [entry for entry in self._living if not self._is_void(entry)]
            heapify(self._living)

    def _is_void(self, entry: tuple[float, int, str]) -> bool:
        _, ticket, pn_id = entry
        return pn_id not in self._lines or self._lines[pn_id].ticket != ticket

    def _void(self, line: _Line) -> None:
        if line.ticket:
            line.ticket = 0
            self._living_waiting -= 1

    def _next(self) -> str | None:
        """Remove the PN GW whose turn it is from those that wait, if there is a place for it, and return it."""
        while self._living and self._is_void(self._living[0]):
            heappop(self._living)
        if self._living:
            pn_id = self._living[0][2]
            line = self._lines[pn_id]
            if self.taken >= tuning.PLACES + (tuning.PLACES_OF_SILENT if line.spoke else 0):
                return None
            heappop(self._living)
            self._void(line)
            return pn_id
        if self._silent and self.taken < tuning.PLACES and len(self._quiet) < tuning.PLACES_OF_SILENT:
            pn_id, _ = self._silent.popitem(last=False)
            return pn_id
        return None
