"""Finds out whether boards receive broadcasts at all.

An access point that isolates its clients, or a mesh, may drop broadcasts, and adverts may not reach as far as a
connection does. Without an alarm this would go unnoticed, as keys still arrive by unicast and pull, only later and one
by one.
"""

from collections.abc import Callable, Mapping

from gateway_agent.core.alarms import UNHEARD, Alarms

DELIVERIES_UNHEARD = 3
"""Deliveries in a row before the alarm, as a board may miss one or two broadcasts or be slow."""

NetworkOf = Callable[[str], str]
"""A function that returns, for a PNE ID, the interface or radio behind which it was heard last, "" if not known."""


class Hearing:
    """Counts, for each network, deliveries in a row of which no PNE confirmed a broadcast though some got the key."""

    def __init__(self, alarms: Alarms, network_of: NetworkOf) -> None:
        self._alarms = alarms
        self._network_of = network_of
        self._unheard: dict[str, int] = {}

    def heard(self, pne_id: str) -> None:
        """Note that the PNE has proved that it got a key by broadcast; end the alarm of its network."""
        if self._unheard and self._unheard.pop(network := self._network_of(pne_id), None) is not None:
            self._alarms.clear(UNHEARD, network)

    def judge(self, by_broadcast: Mapping[str, bool]) -> None:
        """Count a delivery that is over, and raise the alarm of a network that reaches the limit.

        `by_broadcast`: for each PNE that the key was broadcast to and that holds it, whether it came by broadcast.
        """
        heard = [pne_id for pne_id, way in by_broadcast.items() if way]
        for network in {self._network_of(pne_id) for pne_id, way in by_broadcast.items() if not way}:
            if not any(self._network_of(pne_id) == network for pne_id in heard):
                self._count(network)

    def _count(self, network: str) -> None:
        count = self._unheard[network] = self._unheard.get(network, 0) + 1
        if count >= DELIVERIES_UNHEARD:
            self._alarms.set(
                UNHEARD,
                f"No board has heard a broadcast on {network or 'any interface'} for {count} deliveries: keys arrive "
                "by unicast and pull only, later and one by one. Look at the access point (AP or client isolation, "
                "filters for multicast and broadcast, a guest network), at a mesh between gateway and boards, and "
                "whether UDP port 5687 is let through; for Bluetooth, at the distance, and at: keycast radios",
                network,
            )
