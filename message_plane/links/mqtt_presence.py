"""Where peers are: at which brokers their presence says that they are, and by which they were heard last.

A presence is a hint. A broker, and any client that its access list lets write, may have made it up.
"""

from __future__ import annotations

from collections.abc import Collection

from message_plane.links.mqtt_section import Broker


class Whereabouts:
    """What is known of one peer. `heard_by` is the broker of its last datagram, None if it has left it since."""

    __slots__ = ("_at", "_told", "heard_by")

    def __init__(self) -> None:
        self.heard_by: Broker | None = None
        self._at: frozenset[Broker] = frozenset()
        self._told = False

    def tell(self, broker: Broker, *, here: bool) -> None:
        """Note what a broker says about the presence of the peer."""
        self._told = True
        self._at = self._at | {broker} if here else self._at - {broker}
        if not here and self.heard_by == broker:
            self.heard_by = None

    def forget(self, broker: Broker) -> None:
        """Forget what a broker has said, because it will say it again."""
        self._at -= {broker}

    def is_present(self, connected: Collection[Broker]) -> bool | None:
        """Return whether the peer can be reached by one of the brokers that are `connected`; None if none has said."""
        if self.heard_by in connected or any(broker in connected for broker in self._at):
            return True
        return False if self._told and not self._at and connected else None

    def brokers(self, connected: Collection[Broker]) -> list[Broker]:
        """Return the brokers to publish at: where the peer was heard last, else where it says that it is, else all."""
        if self.heard_by is not None and self.heard_by in connected:
            return [self.heard_by]
        return [broker for broker in connected if broker in self._at] or list(connected)
