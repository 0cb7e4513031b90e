"""Decides what a broker must still be told: what has changed since, what is new, and what is gone.

It knows the topics at which something is kept, also what an earlier run has left there, and forgets none before the
broker has taken the empty message for it.
"""

from collections.abc import Collection, Iterable, Iterator

from gateway_agent.home_assistant import documents
from gateway_agent.home_assistant.documents import Message, Shown
from gateway_agent.home_assistant.naming import MqttNames
from gateway_agent.home_assistant.shown import ShownHome


class Publisher:
    """What one broker keeps of this gateway. `kept`: the topics at which there is something, or may be."""

    def __init__(self, names: MqttNames, release: str, allowed: Collection[str], kept: Iterable[str] = ()) -> None:
        """`release`: of keycast; `allowed`: the commands that MQTT may give; `kept`: what earlier runs have left."""
        self.kept = set(kept)
        self._names = names
        self._release = release
        self._allowed = allowed
        self._topics: set[str] = set()
        self._looks: dict[str, tuple[str, str]] = {}
        self._states: dict[str, Shown] = {}

    def look(self, home: ShownHome) -> bool:
        """Take in what there is now. Return True if there are topics that were not `kept` before."""
        parts = _parts(home)
        devices = {documents.device_of(self._names, each) for each in parts}
        for device in self._looks.keys() - devices:
            del self._looks[device]
        for device in self._states.keys() - devices:
            del self._states[device]
        self._topics = {topic for each in parts for topic in documents.topics_of(self._names, each)}
        is_new = not self._topics <= self.kept
        self.kept |= self._topics
        return is_new

    def gone(self) -> list[str]:
        """Return the topics at which the broker should keep nothing any more, those of discovery first."""
        return sorted(self.kept - self._topics, key=lambda topic: (not topic.endswith("/config"), topic))

    def forget(self, topics: Iterable[str]) -> None:
        """Note that the broker keeps nothing at these topics."""
        self.kept.difference_update(topics)

    def announcements(self, home: ShownHome) -> Iterator[Message]:
        """Yield the discovery of each device that is new or looks different; each counts as sent."""
        for shown in _parts(home):
            device, look = documents.device_of(self._names, shown), documents.look_of(shown)
            if self._looks.get(device) != look:
                self._looks[device] = look
                yield documents.discovery(self._names, shown, self._release, self._allowed)

    def changes(self, home: ShownHome) -> Iterator[Message]:
        """Yield the states that have changed; each counts as sent."""
        for shown in _parts(home):
            device = documents.device_of(self._names, shown)
            before = self._states.get(device)
            if before != shown:
                self._states[device] = shown
                said = () if before is None else tuple(documents.states(self._names, before))
                yield from (each for each in documents.states(self._names, shown) if each not in said)

    def announce_again(self) -> None:
        """Send the discovery of every device again."""
        self._looks.clear()

    def begin_again(self) -> None:
        """Send everything again: the broker may have lost it."""
        self._looks.clear()
        self._states.clear()


def _parts(home: ShownHome) -> tuple[Shown, ...]:
    return home.gateway, *home.groups, *home.boards
