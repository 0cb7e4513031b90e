"""What waits to be published to one broker, while it has not acknowledged enough of what came before."""

from __future__ import annotations

from collections import deque

from message_plane import tuning


class Outbox:
    """The datagrams that wait, by topic, each of which has one receiver. There is no I/O in here.

    At most `open_max` of them are taken and not acknowledged yet. If there is no room the oldest datagram to the same
    receiver is dropped, because the sender of a newer one has given up on it, or, if there are too many receivers, the
    oldest of all. `dropped` is their number.
    """

    def __init__(self, open_max: int = tuning.MQTT_OPEN_MAX) -> None:
        self._open_max = open_max
        self._open = 0
        self._by_topic: dict[str, deque[bytes]] = {}
        self._turns: deque[str] = deque()  # a topic for each datagram, in the order in which they came
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._turns)

    def put(self, topic: str, datagram: bytes) -> None:
        """Add a datagram. `take` returns it, now or later, unless it is dropped."""
        waiting = self._by_topic.setdefault(topic, deque())
        if len(waiting) >= tuning.MQTT_WAITING_PER_TOPIC:
            waiting.popleft()  # its turn stays, for what comes after it
            waiting.append(datagram)
            self.dropped += 1
            return
        if len(self._turns) >= tuning.MQTT_WAITING_MAX:
            self._next()
            self.dropped += 1
        self._by_topic.setdefault(topic, waiting).append(datagram)
        self._turns.append(topic)

    def take(self) -> tuple[str, bytes] | None:
        """Return the next (topic, datagram) that may be published, None if there is none."""
        if self._open >= self._open_max or not self._turns:
            return None
        self._open += 1
        return self._next()

    def acknowledged(self) -> None:
        """Note that the broker has acknowledged one of those that were taken, or has refused it."""
        self._open -= 1

    def _next(self) -> tuple[str, bytes]:
        topic = self._turns.popleft()
        waiting = self._by_topic[topic]
        datagram = waiting.popleft()
        if not waiting:
            del self._by_topic[topic]
        return topic, datagram
