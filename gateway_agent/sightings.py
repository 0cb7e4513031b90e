"""When and where each board was heard last, for people to see.

Only messages that have verified under a session count. Sightings are kept in memory. One transaction stores the new
ones of all boards every quarter of an hour and at the end, so that a restart forgets little.
"""

import logging
import time
from dataclasses import dataclass

from cpns import delivery_report
from gateway_agent.repeating import Repeating
from gateway_agent.store.errors import StoreFailed
from gateway_agent.store.personal_network import Pne
from gateway_agent.store.store import GatewayStore
from message_plane.endpoint import Endpoint
from message_plane.links.gatt import GattLink
from message_plane.links.udp import UdpLink

_log = logging.getLogger(__name__)

SAVE_EVERY_S = 900.0
_LINKS = {UdpLink.scheme: delivery_report.WIFI, GattLink.scheme: delivery_report.BLE}
_SAME_S = 2  # two computations of the same moment may differ by so much


@dataclass(frozen=True, slots=True)
class Sighting:
    """What is known about one board. `session`: there is a session with it.

    `heard_at`: Unix seconds when it was heard last, 0 for never; `age_s`: seconds since then, None for never;
    `address`: where it was heard, as IP address and port or as a place of another link; `heard_link`: on which link, as
    "wifi" for an IP network and "ble" for Bluetooth; `software`: the version of its agent as it reports it. The last
    three are "" while they are not known.
    """

    session: bool
    heard_at: int
    age_s: float | None
    address: str
    heard_link: str
    software: str


class Sightings:
    """The sightings of all boards, from the sessions of `endpoint` and from the `store`.

    From `start` to `close` new ones are stored from time to time.
    """

    def __init__(self, endpoint: Endpoint, store: GatewayStore) -> None:
        self._endpoint = endpoint
        self._store = store
        self._turns = Repeating("sightings", SAVE_EVERY_S, self._try_to_save)
        self.start = self._turns.start

    async def close(self) -> None:
        """Store the new sightings and stop, if it was started. The store stays open."""
        if self._turns.started:
            await self._turns.close()
            self._try_to_save()

    def of(self, pne_id: str) -> Sighting:
        """Return what is known about one board, whose name may be unknown here."""
        return self.of_board(pne_id, self._store.pn.pne(pne_id))

    def of_board(self, pne_id: str, pne: Pne | None) -> Sighting:
        """Return what is known about one board, whose row in the store is `pne`, None for none."""
        software = "" if pne is None else pne.software
        session = self._endpoint.in_contact(pne_id)
        heard = self._endpoint.last_heard(pne_id)
        now = int(time.time())
        if heard is not None:
            place = heard.place
            return Sighting(session, now - int(heard.age_s), heard.age_s, _for_people(place), _link(place), software)
        if pne is None or not pne.heard_at:
            return Sighting(session, 0, None, "", "", software)
        age_s = max(0.0, now - pne.heard_at)
        return Sighting(session, pne.heard_at, age_s, pne.heard_from, pne.heard_link, software)

    def save(self) -> None:
        """Store the new sightings of all boards in one transaction. Raises StoreFailed."""
        now = time.time()
        with self._store.transaction():
            for pne_id in self._store.pn.pnes():
                heard, known = self._endpoint.last_heard(pne_id), self._store.pn.pne(pne_id)
                if heard is None or known is None:
                    continue
                heard_at, heard_from = int(now - heard.age_s), _for_people(heard.place)
                if abs(heard_at - known.heard_at) > _SAME_S or heard_from != known.heard_from:
                    self._store.pn.set_heard(pne_id, heard_at, heard_from, _link(heard.place))

    def _try_to_save(self) -> None:
        try:
            self.save()
        except StoreFailed as problem:  # other parts raise an alarm for a disk that is full
            _log.debug("when boards were heard last is not written down: %s", problem)


def _for_people(place: str) -> str:
    """Return a place as text for people: without the scheme if it is a place of UDP."""
    return place.removeprefix("udp:")


def _link(place: str) -> str:
    """Return the word for the link of a place: as in delivery reports for the two that broadcasts have, too."""
    scheme = place.partition(":")[0]
    return _LINKS.get(scheme, scheme)
