"""The Group Keys of one Service Group at one member: which to send with, which to read with, which to refuse.

`now` is a count of seconds that runs evenly and never back while the board is up (a caller whose ticks wrap unwraps
them); `unix_time` is the network's time in seconds, 0 while unknown. A ring lives in RAM; `dump` is its whole
persistent state, to be stored after each call that changed it and before anything is answered.
"""

from cpns import cborlite, tuning
from cpns import numbers as n
from cpns.crypto.compare import equal
from cpns.errors import MalformedMessage, NotAllowed, Stale

# Ways a key comes
UNICAST = 0  # 1.0, over the session with the PN GW
BROADCAST = 1  # 1.0, in a signed broadcast object
END_TO_END = 2  # 1.1, wrapped by the CPNS Server

_VERSION, _KEY, _ACTIVATION, _ACTIVE_AT, _UNTIL = 0, 1, 2, 3, 4


class KeyRing:
    """Keys, version floor, protection and trust of one Service Group.

    `floor`: only greater versions are accepted, None before the first join (SEC-04). `protection`: one of
    `numbers.PROTECTION_*`, fixed for the group's life (SEC-24). `end_to_end`: True once a 1.1 key came (SEC-26).
    `conflicts` counts keys refused because another one holds their version (SEC-11).
    """

    def __init__(self, protection, floor=None, end_to_end=False):
        self.protection = protection
        self.floor = floor
        self.end_to_end = end_to_end
        self.conflicts = 0
        self._grace_after_leave = tuning.GRACE_AFTER_LEAVE_S
        self._keys = []  # ascending by version: [version, key, activation, active from (now), readable until or None]

    def __repr__(self):
        return f"KeyRing(floor={self.floor}, versions={self.versions})"

    @property
    def versions(self):
        """The versions held, ascending; the last one is what a KeyPullRequest names."""
        return [entry[_VERSION] for entry in self._keys]

    def raise_floor(self, version):
        """Raise the floor to that of a JoinResponse, or of a KeyPullResponse without a key. It never sinks."""
        if self.floor is None or version > self.floor:
            self.floor = version

    def limit_grace(self, seconds):
        """Set how long older keys are read after a leave, from the next one on: 0..30 s (SEC-05)."""
        self._grace_after_leave = min(max(seconds, 0), tuning.GRACE_AFTER_LEAVE_S)

    def admit(self, version, path):
        """Return whether a key of this version may arrive on this path, before any cryptography is spent on it.

        True means that it can be installed. False means that the version is held already: `install` tells a repeat from
        a conflict.
        Raises Stale below the floor, NotAllowed for a broadcast without a floor or too many epochs ahead
        (SEC-03, SEC-04), and for a 1.0 key in an end-to-end group (SEC-26).
        """
        if self.end_to_end and path != END_TO_END:
            raise NotAllowed("the group is end-to-end, its keys come from the CPNS Server only")
        if path == BROADCAST:
            if self.floor is None:
                raise NotAllowed("no version floor yet: broadcasts wait for a join or pull")
            if (version >> 16) - (self.floor >> 16) > tuning.EPOCH_JUMP_MAX:
                raise NotAllowed("too many epochs ahead for a broadcast")
        if version in self.versions:
            return False
        if version <= (self.floor or 0):
            raise Stale("version is not above the floor")
        return True

    def install(self, version, key, activation, reason, now, unix_time=0, path=UNICAST):
        """Add the Group Key (16 octets) of an authentic delivery. Returns False if exactly this key is held already.

        `activation` is Unix seconds, 0 = when stored; `reason` one of `numbers.REASON_*`. It may lie ahead, at most
        24 h, for join and periodic only, and only where the time is known. After any other reason the older keys are
        read for 30 s more, or less by `limit_grace`, and not sent with again (SEC-05). Raises what `admit` raises,
        Stale for another key under a version that is held, MalformedMessage for a key of another length.
        """
        if len(key) != tuning.GROUP_KEY_LEN:
            raise MalformedMessage("a Group Key has 16 octets")
        self._settle(now)
        if not self.admit(version, path):
            if equal(key, self._keys[self.versions.index(version)][_KEY]):
                return False
            self.conflicts += 1
            raise Stale("another key under a version that is held")
        if reason not in (n.REASON_JOIN, n.REASON_PERIODIC):
            activation = 0
            for entry in self._keys:
                entry[_UNTIL] = min(now + self._grace_after_leave, entry[_UNTIL] or now + tuning.GRACE_MAX_S)
        active_at = _active_at(activation, now, unix_time)
        if (
            reason == n.REASON_JOIN
        ):  # a new member has this key and none before: no key that lies ahead may take its place
            for entry in self._keys:
                if entry[_ACTIVE_AT] > active_at:
                    entry[_ACTIVATION], entry[_ACTIVE_AT] = activation, active_at
        self._keys.append([version, key, activation, active_at, None])
        self.floor = version
        self.end_to_end = path == END_TO_END
        sending = self._settle(now)
        for entry in self._keys[:-1]:
            if len(self._keys) > tuning.KEYS_PER_RING and entry is not sending:
                self._keys.remove(entry)
        return True

    def sending_key(self, now):
        """Return (version, key) to protect with: of the active keys the one activated last (SEAL-GMK-09); or None."""
        entry = self._settle(now)
        return entry and (entry[_VERSION], entry[_KEY])

    def receiving_keys(self, now):
        """Return {version: key} of all that may be read with: the sending key, those ahead, those in grace time."""
        self._settle(now)
        return {entry[_VERSION]: entry[_KEY] for entry in self._keys}

    def wipe(self):
        """Forget the keys after leave or delete. Floor, protection and trust stay (SEC-04)."""
        self._keys = []

    def snapshot(self):
        """Return what `put_back` takes, to undo an `install` that could not be stored."""
        return self.floor, self.end_to_end, [entry[:] for entry in self._keys]

    def put_back(self, snapshot):
        """Return to the state of `snapshot`. The ring takes its keys over, those in grace time too."""
        self.floor, self.end_to_end, self._keys = snapshot

    def dump(self, now):
        """Return the persistent state as octets. Holds keys in clear; keys in grace time are not in it (SEC-05)."""
        self._settle(now)
        keys = [entry[:_ACTIVE_AT] for entry in self._keys if entry[_UNTIL] is None]
        return cborlite.encode([self.protection, self.floor, self.end_to_end, keys])

    @classmethod
    def load(cls, data, now, unix_time=0):
        """Return the ring of which `dump` returned `data`, after a reboot. Raises MalformedMessage.

        Where the time is unknown a key that lay ahead is active at once; the grace time of the one before it, which
        may not have begun, is then counted from here.
        """
        try:
            protection, floor, end_to_end, keys = cborlite.decode(data)
            ring = cls(protection, floor, end_to_end)
            for version, key, activation in keys:
                ring._keys.append([version, key, activation, _active_at(activation, now, unix_time), None])
        except (TypeError, ValueError):
            raise MalformedMessage("no dump of a key ring") from None
        sending = ring._settle(now)
        if unix_time:  # what this key has replaced by now, it replaced before the reboot or while the board was off
            ring._keys = [entry for entry in ring._keys if entry is sending or entry[_UNTIL] is None]
        return ring

    def _settle(self, now):
        """Return the entry to send with, after retiring the keys it relieved and dropping those whose time is over."""
        sending = None
        for entry in self._keys:
            earliest = sending[_ACTIVE_AT] if sending else entry[_ACTIVE_AT]
            if entry[_UNTIL] is None and earliest <= entry[_ACTIVE_AT] <= now:
                sending = entry
        for entry in self._keys:
            if entry[_UNTIL] is None and entry is not sending and entry[_ACTIVE_AT] <= now:
                entry[_UNTIL] = sending[_ACTIVE_AT] + tuning.GRACE_MAX_S
        self._keys = [entry for entry in self._keys if entry[_UNTIL] is None or entry[_UNTIL] > now]
        return sending


def _active_at(activation, now, unix_time):
    if not activation or not unix_time:
        return now
    return now + min(max(activation - unix_time, 0), tuning.ACTIVATION_AHEAD_MAX_S)
