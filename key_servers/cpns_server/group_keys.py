"""Group Keys of the Server: created, updated and deleted here and nowhere else (CPNS-GKM-58..61).

A key is 16 octets from the random source handed in: there is no way to enter one. Key and version are in the store,
committed, before anybody can see them, so no crash makes two keys of one version.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import cpns.tuning
from cpns import numbers
from cpns.crypto.compare import equal
from cpns.errors import CpnsError, NotAllowed, TooMany, Unknown
from key_servers.cpns_server import events, group_version, tuning
from key_servers.cpns_server.store import ServerStore
from key_servers.cpns_server.update_schedule import UpdateSchedule, stronger
from key_servers.cpns_server.values import GroupState, Moment, StoredGroup, StoredKey
from key_servers.errors import ServerError
from key_servers.rate_limit import HourlyLimit

RandomOctets = Callable[[int], bytes]
"""n -> n octets from the operating system's generator (`secrets.token_bytes`)."""


class WeakRandomness(ServerError):
    """The random source returned too few octets, or the same key twice: no key may be made from it."""


class GroupKeyMaker:
    """Makes Group Keys, and knows when the next are due."""

    def __init__(
        self, store: ServerStore, random_octets: RandomOctets, schedule: UpdateSchedule, tell: events.Tell
    ) -> None:
        """Keep the parts. `tell` is called with an event for each key that is made."""
        self._store = store
        self._random = random_octets
        self._schedule = schedule
        self._tell = tell
        self._lost_windows = HourlyLimit(tuning.WINDOWS_PER_HOUR_MAX)
        self._by_pn = HourlyLimit(tuning.UPDATES_PER_HOUR_MAX)
        self._changed_elsewhere = store.follow(elsewhere=True)

    def resume(self, now: Moment) -> None:
        """Take up what a restart interrupted: updates that waited are due at once."""
        for group in self._store.groups():
            self._schedule.consider(group, now)
            self._schedule.hurry(group.sg_id, now)

    def update(self, sg_id: str, reason: int, now: Moment) -> int:
        """Make the next Group Key of a Service Group and return its version.

        If an update with a stronger reason waits, that reason is told instead of `reason`. Raise Unknown, NotAllowed
        (held group), TooMany (versions used up), WeakRandomness.
        """
        with self._store.transaction():
            group = active(self._store.group(sg_id), sg_id)
            reason = stronger(reason, group.pending)
            version = group_version.following(group.version)
            self._store.add_key(StoredKey(sg_id, version, self._draw(sg_id), _activation(reason, now), reason))
            group = replace(group, version=version, pending=None, key_made_at=now.unix)
            self._store.put_group(group)
            self.consider(group, now)
            self._store.after_commit(lambda: self._tell(events.KeyMade(sg_id, version, reason)))
        return version

    def update_soon(self, sg_id: str, reason: int, now: Moment, pn_id: str = "") -> None:
        """Note inside the caller's transaction that an update is due; several notes make one update (SEC-19).

        `pn_id`: the PN whose PN GW has caused it, "" for none. One that causes many makes the others' members work for
        nothing, so its updates wait longer.
        """
        with self._store.transaction():
            group = self._store.group(sg_id)
            if group is None or group.state is GroupState.DELETED:
                raise Unknown(f"there is no Service Group {sg_id}")
            is_slow = pn_id != "" and not self._has_room(pn_id, sg_id, now, takes=group.pending is None)
            group = replace(group, pending=stronger(reason, group.pending))
            self._store.put_group(group)
            self.consider(group, now, is_slow=is_slow)

    def update_due(self, now: Moment) -> list[tuple[str, CpnsError | ServerError]]:
        """Make all keys that are due, and that no other process has made.

        Return the groups where that failed, with the error; they are tried again later.
        """
        self._look_elsewhere(now)
        failed: list[tuple[str, CpnsError | ServerError]] = []
        for sg_id in self._schedule.due(now):
            try:
                self._store.attempt(partial(self._update_if_due, sg_id, now))
            except (CpnsError, ServerError) as error:
                failed.append((sg_id, error))
                self._schedule.postpone(sg_id, now, tuning.UPDATE_RETRY_S)
        return failed

    def newest(self, sg_id: str, now: Moment, pn_id: str = "") -> StoredKey:
        """Return the Group Key to hand out now, for a member in the PN `pn_id`. If its replacement is due, replace it
        first (SEC-06).

        Raise the errors of `update`; TooMany also if that PN has caused too many updates: it gets the new key soon.
        """
        group = active(self._store.group(sg_id), sg_id)
        if group.pending is not None:
            if pn_id and not self._has_room(pn_id, sg_id, now):
                raise TooMany(f"the key of Service Group {sg_id} is about to be replaced; wait a minute")
            self.update(sg_id, group.pending, now)
        key = self._store.newest_key(sg_id)
        if key is None:
            raise Unknown(f"Service Group {sg_id} has no Group Key")
        return key

    def windows_lost(self, newest: StoredKey, version: object, now: Moment) -> None:
        """Note that a member lost its replay windows under `version` (SEC-24), None if it lost none.

        If that is the newest key, an update is due, once an hour for each Service Group. Raises StoreFailed.
        """
        group = (newest.sg_id,)
        if version == newest.version and self._lost_windows.has_room(group, now.monotonic):
            self.update_soon(newest.sg_id, numbers.REASON_BY_HAND, now)
            self._store.after_commit(lambda: self._lost_windows.take(group, now.monotonic))

    def delete(self, sg_id: str, now: Moment) -> None:
        """Erase the keys inside the caller's transaction; the version is kept for ever (SEC-04)."""
        with self._store.transaction():
            self._store.erase_keys(sg_id)
            group = self._store.group(sg_id)
            if group is not None:
                self.consider(group, now)

    def consider(self, group: StoredGroup, now: Moment, *, is_slow: bool = False) -> None:
        """Tell the schedule about the group once the caller's transaction is on the medium, as it may be undone."""
        self._store.after_commit(lambda: self._schedule.consider(group, now, is_slow=is_slow))

    def wake_at(self) -> float | None:
        """Return the monotonic seconds at which `update_due` has something to do next, None if nothing is due."""
        return self._schedule.wake_at()

    def _has_room(self, pn_id: str, sg_id: str, now: Moment, *, takes: bool = True) -> bool:
        """Return True if the PN may cause an update at the usual pace, and count one once it is on the medium."""
        key = (pn_id, sg_id)
        has_room = self._by_pn.has_room(key, now.monotonic)
        if has_room and takes:
            self._store.after_commit(lambda: self._by_pn.take(key, now.monotonic))
        return has_room

    def _look_elsewhere(self, now: Moment) -> None:
        """Take up the updates that other processes noted, in case they do not come to it."""
        for part in list(self._changed_elsewhere):
            sg_id, _ = part
            found = self._store.groups() if not sg_id else (self._store.group(sg_id),)
            for group in found:
                if group is not None:
                    self._schedule.consider(group, now, late_s=tuning.UPDATE_OF_ANOTHER_S)
            del self._changed_elsewhere[part]

    def _update_if_due(self, sg_id: str, now: Moment) -> None:
        group = self._store.group(sg_id)
        if group is not None:
            self._schedule.consider(group, now)
        if self._schedule.is_due(sg_id, now):
            self.update(sg_id, numbers.REASON_PERIODIC, now)

    def _draw(self, sg_id: str) -> bytes:
        """Return a Group Key, from the random source alone (SEC-12). Raises WeakRandomness."""
        key = self._random(cpns.tuning.GROUP_KEY_LEN)
        previous = self._store.newest_key(sg_id)
        if len(key) != cpns.tuning.GROUP_KEY_LEN or (previous is not None and equal(key, previous.key)):
            raise WeakRandomness("The random generator of this machine does not work.", "Do not use it for keys.")
        return key


def active(group: StoredGroup | None, sg_id: str) -> StoredGroup:
    """Return the group if it lives. Raises Unknown, or NotAllowed while it is held."""
    if group is None or group.state is GroupState.DELETED:
        raise Unknown(f"there is no Service Group {sg_id}")
    if group.state is GroupState.HELD:
        raise NotAllowed(f"Service Group {sg_id} is held until a person confirms its members")
    return group


def activation(key: StoredKey, now: Moment) -> int:
    """Return the activation time that is told with a key now, in Unix seconds.

    A time that lies further ahead than any that is made was made by a clock that has been set back since, and PN GWs
    would refuse the key until then (SEC-36). Such a key is active at once.
    """
    return key.activation if key.activation <= now.unix + tuning.PERIODIC_LEAD_S else 0


def _activation(reason: int, now: Moment) -> int:
    # Only a periodic key may wait, all others are needed now. Without a clock none waits (SEC-05).
    return now.unix + tuning.PERIODIC_LEAD_S if reason == numbers.REASON_PERIODIC and now.unix else 0
