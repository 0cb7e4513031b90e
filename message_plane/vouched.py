"""Which registered entity has a place, on links that vouch for the senders of datagrams (`Link.place_of`)."""

from __future__ import annotations

from typing import Any

from message_plane import tuning
from message_plane.clock import monotonic
from message_plane.links.link import Link
from message_plane.session_store import SessionStore


class Vouched:
    """The names of registered entities by their places.

    The names are read from the store again when an unknown place is looked up, at most once in VOUCHED_S.
    """

    def __init__(self, store: SessionStore) -> None:
        self._store = store
        self._names: dict[str, str] = {}
        self._read_at = -tuning.VOUCHED_S

    def name(self, link: Link[Any], place: str) -> str | None:
        """Return the entity ID of the registered entity whose datagrams alone come from `place`.

        Returns None if there is none, or if the link does not vouch for it. Raises StoreError.
        """
        if link.place_of("") is None:
            return None
        name = self._names.get(place)
        if name is None and monotonic() - self._read_at >= tuning.VOUCHED_S:
            self._read_at = monotonic()
            ids = [credential.entity_id for credential in self._store.registered()]
            self._names = {link.place_of(entity_id) or "": entity_id for entity_id in ids}
            name = self._names.get(place)
        return name
