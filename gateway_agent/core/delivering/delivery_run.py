"""A delivery that goes on in this process: its state, and what is queued, on the air or waited for because of it."""

import asyncio
from collections import Counter, deque

from gateway_agent.core import events
from gateway_agent.core.delivering import delivery as engine
from gateway_agent.core.delivering.batch import Batch
from gateway_agent.core.delivering.key_airings import KeyAiring
from gateway_agent.core.events import Tell


class DeliveryRun:
    """One delivery that is under way, with its tasks and timers."""

    def __init__(self, delivery: engine.Delivery, tell: Tell) -> None:
        self.delivery = delivery
        self.tell = tell
        self.timer: asyncio.TimerHandle | None = None
        self.unicasts: dict[str, asyncio.Task[None]] = {}
        self.events: deque[engine.Event] = deque()
        self.stepping = False
        self.airing: KeyAiring | None = None
        self.aired: set[str] = set()  # PNEs that a broadcast went out to, in this process
        self.confirmed_by_advert: set[str] = set()
        self.pulls: Counter[str] = Counter()  # of PNEs that have joined since the delivery began
        self.judged = False
        self.begun_at = 0.0
        self.told = delivery.phase is engine.Phase.FINISHED
        self.batch: Batch

    def state_of(self, pne_id: str) -> engine.PneState | None:
        """Return the state of this PNE, None if it is no recipient of the delivery."""
        recipient = self.delivery.recipients.get(pne_id)
        return None if recipient is None else recipient.state

    def stop_airing(self) -> None:
        """End the airing, if there is one: none of its datagrams is sent after this call."""
        airing, self.airing = self.airing, None
        if airing is not None:
            airing.stop()
            if airing.has_gone_out:
                self.aired |= airing.missing
                self.tell(events.BroadcastSent(self.delivery.sg_id, self.delivery.version, airing.networks))

    def stop(self) -> None:
        """Cancel everything that is queued or on the air."""
        self.stop_airing()
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        for task in self.unicasts.values():
            task.cancel()
        self.unicasts.clear()
