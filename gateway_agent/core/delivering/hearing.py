"""Do boards hear broadcasts? An access point that isolates its clients, or a mesh, may keep them back, and nobody would
notice: keys arrive by unicast and pull all the same, only later, and one by one.
"""

from collections.abc import Callable, Mapping

from gateway_agent.core.alarms import UNHEARD, Alarms

DELIVERIES_UNHEARD = 3
"""In a row, before it is an alarm: a board may miss one, two, or be slow."""

NetworkOf = Callable[[str], str]
"""PNE ID -> name of the interface behind which it was heard last, "" where that is not known."""


class Hearing:
    """Counts, for each network, the deliveries of which no broadcast was confirmed while keys came on other ways."""

    def __init__(self, alarms: Alarms, network_of: NetworkOf) -> None:
        self._alarms = alarms
        self._network_of = network_of
        self._unheard: dict[str, int] = {}

    def heard(self, pne_id: str) -> None:
        """The PNE has proved that a broadcast brought it a key."""
        if self._unheard and self._unheard.pop(network := self._network_of(pne_id), None) is not None:
            self._alarms.clear(UNHEARD, network)

    def judge(self, by_broadcast: Mapping[str, bool]) -> None:
        """A delivery is over: for each PNE that it was broadcast to and that holds the key, whether it came so."""
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
                "whether UDP port 5687 is let through.",
                network,
            )
