"""The states of many deliveries, and which of them are due: no step looks at all of them."""

import heapq
from collections.abc import Callable
from typing import Generic, TypeVar

from key_servers.cpns_server.delivery_queue import Action, DeliveryQueue, Event, Position, Rewound, Wanted, step

Key = TypeVar("Key", bound=tuple[str, ...])


class DeliveryStates(Generic[Key]):
    """One `DeliveryQueue` for each key, the names of receiver and Service Group."""

    def __init__(self) -> None:
        self._states: dict[Key, DeliveryQueue] = {}
        self._due: list[tuple[float, Key]] = []  # a heap; an entry that differs from its delivery's `wake_at` is void

    def of(self, key: Key) -> DeliveryQueue | None:
        """Return the state of a delivery, None if there is none."""
        return self._states.get(key)

    def all(self) -> tuple[Key, ...]:
        """Return the names of all deliveries."""
        return tuple(self._states)

    def feed(
        self, key: Key, positions: tuple[Position, Position], event: Event, now: float
    ) -> tuple[DeliveryQueue, list[Action]]:
        """Bring a delivery to `positions`, (wanted, accepted) by the store, and feed it the event, as `step` does.

        Return the state and the actions of both. Raises ValueError if `step` does.
        """
        wanted, accepted = positions
        state = self._states.get(key) or DeliveryQueue(accepted=accepted)
        lost: list[Event] = [Rewound(accepted)] if accepted != state.accepted else []
        taken: list[Action] = []
        for each in (*lost, Wanted(wanted), event):
            state, actions = step(state, each, now)
            taken += actions
        self.keep(key, state)
        return state, taken

    def keep(self, key: Key, state: DeliveryQueue) -> None:
        """Store a state."""
        before, self._states[key] = self._states.get(key), state
        if state.wake_at is not None and (before is None or before.wake_at != state.wake_at):
            heapq.heappush(self._due, (state.wake_at, key))

    def drop(self, key: Key) -> None:
        """Forget a delivery, if there is one."""
        self._states.pop(key, None)

    def look_at_due(self, now: float, look: Callable[[Key], None]) -> None:
        """Call `look` with each delivery that is due, once for each time that it is due.

        Raises what `look` raises. The delivery stays due then, so that the next call looks at it.
        """
        while (at := self.wake_at()) is not None and at <= now:
            entry = heapq.heappop(self._due)
            try:
                look(entry[1])
            except BaseException:
                heapq.heappush(self._due, entry)
                raise

    def wake_at(self) -> float | None:
        """Return the monotonic seconds at which the next delivery is due, None if none is."""
        while self._due:
            at, key = self._due[0]
            state = self._states.get(key)
            if state is not None and state.wake_at == at:
                return at
            heapq.heappop(self._due)
        return None
