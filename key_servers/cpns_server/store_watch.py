"""Looks after the store while the Server runs: one alarm while it cannot be written, and a database that went back."""

import logging
from collections.abc import Callable

from key_servers.cpns_server import alarms as kinds
from key_servers.cpns_server import events
from key_servers.cpns_server.alarms import ServerAlarms
from key_servers.cpns_server.entity_user_keys import EntityUserKeys
from key_servers.cpns_server.recovery import Recovery
from key_servers.cpns_server.store import ServerStore
from key_servers.cpns_server.values import Moment
from key_servers.errors import ServerError

_log = logging.getLogger(__name__)


class StoreWatch:
    """Is asked to `look` now and then."""

    def __init__(
        self,
        store: ServerStore,
        recovery: Recovery,
        entity_user_keys: EntityUserKeys,
        alarms: ServerAlarms,
        clock: Callable[[], Moment],
        tell: events.Tell,
    ) -> None:
        self._store = store
        self._recovery = recovery
        self._entity_user_keys = entity_user_keys
        self._alarms = alarms
        self._clock = clock
        self._tell = tell
        self._held: set[str] = set()

    def look(self) -> bool:
        """Raise an alarm while the store cannot be written, and one for each group that is held because it went back.

        Return True if the store was declared an older copy just now: all sessions are to be ended then.
        """
        self._store.probe()
        went_back = False
        try:
            went_back = self.go_on()
            if self._store.may_go_back and not self._store.trouble:
                self._tell_held(set(self._store.held_groups()))
        except ServerError as error:  # it went away again
            _log.error("KC2032 %s", error)
        if self._store.trouble:
            text = f"Nothing new can be stored: {self._store.trouble}"
            self._alarms.set(kinds.STORE, "", "", text, self._clock())
        else:
            self._alarms.clear(kinds.STORE, "", "")
        return went_back

    def go_on(self) -> bool:
        """Declare the store an older copy, and return True, if its database may be one (SEC-03, SEC-23).

        Raises StoreFailed.
        """
        if not self._store.is_older:
            return False
        self._store.accept(lambda since_s: self.declare_older(1, since_s))
        return True

    def declare_older(self, epochs: int, since_s: int) -> tuple[str, ...]:
        """Go on `epochs` epochs later, and return the groups that are held (`Recovery.restore`).

        No Entity User Key that came from a session is used again.
        """
        with self._store.transaction():
            held = self._recovery.restore(epochs, self._clock(), since_s)
            self._entity_user_keys.disown_learnt()
            self._store.after_commit(lambda: self._tell(events.Restored(held)))
        return held

    def _tell_held(self, held: set[str]) -> None:
        for sg_id in self._held - held:
            self._alarms.clear(kinds.HELD, "", sg_id)
        for sg_id in held - self._held:
            text = (
                f"Service Group {sg_id} is held since the database may have gone back: its boards keep the key that "
                f"they have. Look at its members, then: keycast server confirm-members {sg_id}"
            )
            self._alarms.set(kinds.HELD, "", sg_id, text, self._clock())
        self._held = held
