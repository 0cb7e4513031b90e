"""Where peers are: at which brokers their presence says that they are, and by which they were heard last.

A presence is a hint. A broker, and any client that its access list lets write, may have made it up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from message_plane import tuning
from message_plane.clock import monotonic
from message_plane.links.mqtt_section import Broker


class Whereabouts:
    """What is known of one peer.

    `heard_by` is the broker of its last datagram, `proved_by` that of the last one that has proved to be of the peer;
    None if the peer has left it since. Only the latter says where to send. `times_left` counts how often the peer was
    said to leave a broker.
    """

    __slots__ = ("_at", "_gone", "_hinted_at", "_later", "_left", "heard_by", "proved_by", "times_left")

    def __init__(self) -> None:
        self.heard_by: Broker | None = None
        self.proved_by: Broker | None = None
        self.times_left = 0
        self._at: frozenset[Broker] = frozenset()
        self._gone: frozenset[Broker] = frozenset()
        self._hinted_at = -tuning.MQTT_HINT_S
        self._left = False  # since the last hint that it is back
        self._later: asyncio.TimerHandle | None = None

    def tell(self, broker: Broker, *, here: bool) -> None:
        """Note what a broker says about the presence of the peer."""
        self._at = self._at | {broker} if here else self._at - {broker}
        self._gone = self._gone - {broker} if here else self._gone | {broker}
        if not here:
            self._left = True
            self.times_left += 1
            self.heard_by = None if self.heard_by == broker else self.heard_by
            self.proved_by = None if self.proved_by == broker else self.proved_by

    def forget(self, broker: Broker) -> None:
        """Forget what a broker has said, because it will say it again."""
        self._at -= {broker}
        self.missed()

    def missed(self) -> None:
        """Note that the peer may have left and come back unseen, as this end was away from a broker."""
        self._left = True

    def prove(self, broker: Broker, times_left: int) -> None:
        """Note that a datagram that has come by a broker is of the peer, by a handshake or a message of its session.

        `times_left`: the count when it came. If the peer has left a broker since, it says nothing about now.
        """
        if times_left == self.times_left:
            self.proved_by = broker
            self._gone -= {broker}

    def is_present(self, connected: Collection[Broker]) -> bool | None:
        """Return whether the peer can be reached by one of the brokers that are `connected`; None if none has said."""
        if self.heard_by in connected or any(broker in connected for broker in self._at):
            return True
        return False if self._gone and not self._at and connected else None

    def brokers(self, connected: Collection[Broker], via: Broker | None = None) -> list[Broker]:
        """Return the brokers to publish at: `via`, by which came what is answered, unless the peer has left it since;
        else where the peer proved itself last, else where it says that it is, else all."""
        for broker in (via, self.proved_by):
            if broker is not None and broker in connected and broker not in self._gone:
                return [broker]
        return [broker for broker in connected if broker in self._at] or list(connected)

    def back(self, hint: Callable[[], None]) -> None:
        """Call `hint`, because the peer seems to be back; at most once in MQTT_HINT_S.

        If it has left and come back within that time, `hint` is called at the end of it.
        """
        wait_s = self._hinted_at + tuning.MQTT_HINT_S - monotonic()
        if wait_s <= 0:
            self._call(hint)
        elif self._left and self._later is None:
            self._later = asyncio.get_running_loop().call_later(wait_s, self._call, hint)

    def _call(self, hint: Callable[[], None]) -> None:
        self._hinted_at, self._left, self._later = monotonic(), False, None
        hint()
