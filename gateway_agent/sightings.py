"""When and where each board was heard last, for people to see.

Only messages that have verified under a session count. Sightings are kept in memory. One transaction stores the new
ones of all boards every quarter of an hour and at the end, so that a restart forgets little.
"""

import logging
import time
from collections.abc import Mapping
from typing import NamedTuple

from cpns import delivery_report
from gateway_agent.repeating import Repeating
from gateway_agent.store.errors import StoreFailed
from gateway_agent.store.personal_network import PneShown
from gateway_agent.store.store import GatewayStore
from message_plane.credentials import ROLE_PNE
from message_plane.endpoint import Endpoint
from message_plane.errors import StoreError
from message_plane.links.gatt import GattLink
from message_plane.links.udp import UdpLink
from message_plane.sessions import Contact

_log = logging.getLogger(__name__)

SAVE_EVERY_S = 900.0
_LINKS = {UdpLink.scheme: delivery_report.WIFI, GattLink.scheme: delivery_report.BLE}
_SAME_S = 2  # two computations of the same moment may differ by so much


class Sighting(NamedTuple):
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

    def of_boards(self, stored: Mapping[str, PneShown]) -> dict[str, Sighting]:
        """Return what is known about each board that is let in, by PNE ID. `stored` has their rows in the store.

        Raises StoreError.
        """
        now = int(time.time())
        contacts = self._endpoint.contacts(ROLE_PNE)
        return {pne_id: _sighting(contact, stored.get(pne_id), now) for pne_id, contact in contacts.items()}

    def save(self) -> None:
        """Store the new sightings of all boards in one transaction. Raises StoreFailed, StoreError."""
        now = time.time()
        present = self._store.pn.shown()
        with self._store.transaction():
            for pne_id, contact in self._endpoint.contacts(ROLE_PNE).items():
                heard, known = contact.heard, present.get(pne_id)
                if heard is None or known is None:
                    continue
                heard_at, heard_from = int(now - heard.age_s), _for_people(heard.place)
                if abs(heard_at - known.heard_at) > _SAME_S or heard_from != known.heard_from:
                    self._store.pn.set_heard(pne_id, heard_at, heard_from, _link(heard.place))

    def _try_to_save(self) -> None:
        try:
            self.save()
        except (StoreError, StoreFailed) as problem:  # other parts raise an alarm for a disk that is full
            _log.debug("when boards were heard last is not written down: %s", problem)


def _sighting(contact: Contact, pne: PneShown | None, now: int) -> Sighting:
    """Return what is known about one board, whose row in the store is `pne`, None for none. `now`: Unix seconds."""
    session, heard, software = contact.session, contact.heard, "" if pne is None else pne.software
    if heard is not None:
        place = heard.place
        return Sighting(session, now - int(heard.age_s), heard.age_s, _for_people(place), _link(place), software)
    if pne is None or not pne.heard_at:
        return Sighting(session, 0, None, "", "", software)
    age_s = max(0.0, now - pne.heard_at)
    return Sighting(session, pne.heard_at, age_s, pne.heard_from, pne.heard_link, software)


def _for_people(place: str) -> str:
    """Return a place as text for people: without the scheme if it is a place of UDP."""
    return place.removeprefix("udp:")


def _link(place: str) -> str:
    """Return the word for the link of a place: as in delivery reports for the two that broadcasts have, too."""
    scheme = place.partition(":")[0]
    return _LINKS.get(scheme, scheme)
