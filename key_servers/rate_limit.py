"""A limit on the number of events in the last hour. Time is monotonic and an argument."""

from collections import deque

_HOUR_S = 3600.0
_TIDY_EVERY_S = 60.0


class HourlyLimit:
    """At most `most` events an hour for each key. Keys without events are forgotten."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._events: dict[tuple[str, ...], deque[float]] = {}
        self._tidied_at = float("-inf")

    def take(self, key: tuple[str, ...], now: float) -> bool:
        """Count one event of `key` and return True; return False and count nothing if the hour is full."""
        if now - self._tidied_at >= _TIDY_EVERY_S:
            self._tidied_at = now
            self._events = {k: events for k, events in self._events.items() if events[-1] > now - _HOUR_S}
        events = self._events.setdefault(key, deque())
        while events and events[0] <= now - _HOUR_S:
            events.popleft()
        if len(events) >= self._most:
            return False
        events.append(now)
        return True

    def has_room(self, key: tuple[str, ...], now: float) -> bool:
        """Return True if `take` would, and count nothing: for an event that may still be undone."""
        return sum(at > now - _HOUR_S for at in self._events.get(key, ())) < self._most

    def forgive(self, key: tuple[str, ...]) -> None:
        """Forget all events of `key`."""
        self._events.pop(key, None)
