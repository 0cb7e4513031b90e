"""Messages to a Service Group, protected by its Group Key and no session (CPNS-GKM-51, docs/protocol.md section 6).

A message proves that a member (or the CPNS Server) sent it, not which one (CPNS-GKM-55). Two things must outlive a
power cut, and the caller is told to store both before it goes on: how far a sender's numbers may run, and what a
receiver has seen. `now` is in seconds, as in `key_ring`.
"""

import struct
from collections import namedtuple

from cpns import numbers, tuning
from cpns.crypto import ccm
from cpns.crypto.compare import equal
from cpns.crypto.hkdf import hkdf
from cpns.crypto.hmac import h16
from cpns.errors import MalformedMessage, NotAddressed, NotAllowed, NotAuthentic, Stale, TooMany, Unknown
from cpns.names import lp

# A Service Group as its messages name it; protection is one of `numbers.PROTECTION_*`, fixed for its life (SEC-24)
Group = namedtuple("Group", ("sg_id", "pn_alias", "sg_alias", "protection"))

# What `parse` gives: nothing of it is verified. `body` is a memoryview, as a board has no room for copies
Parsed = namedtuple(
    "Parsed", ("mode", "pn_alias", "sg_alias", "version", "inc", "sequence", "sender_id", "head", "body")
)

# What `Receiver.open` gives. `record` is what to store before the message is handed up, or None; `replayable`: the
# receiver's windows were lost under this version, so a copy may have been handed up before
Opened = namedtuple("Opened", ("sender_id", "version", "message", "replayable", "record"))

_HEAD = ">BBIHI8sIB"  # kind, mode, pn alias, sg alias, version, inc, sequence, length of the sender ID
_HEAD_LEN = 25
_TAG_LEN = {numbers.PROTECTION_AUTHENTICATED: 16, numbers.PROTECTION_SEALED: 8}
_SEQUENCE_MAX = 0xFFFFFFFF
_ALL_SEEN = (1 << tuning.REPLAY_WINDOW) - 1


class Sender:
    """One member's sending side in one Service Group: gives each message a number that was never used under its key.

    `record` = (version, inc, ceiling) is what must be in the store, in each of its copies (SEC-22), before a number
    is used: first `reserve`, then store, then `reserved`.
    """

    def __init__(self, group, sender_id):
        self.group = group
        self.sender_id = sender_id
        self.record = (0, b"", 0)
        self._next = 0

    def start(self, version, inc):
        """Begin with a newly installed key, or because a counter cannot be continued: `inc` is 8 new random octets."""
        self.record = (version, inc, 0)
        self._next = 0

    def resume(self, record):
        """Continue from a stored record: the numbers below its ceiling may all have been used."""
        self.record = record
        self._next = record[2]

    def must_reserve(self):
        """Say whether the next message has to wait for a reservation."""
        return self._next >= self.record[2]

    def reserve(self):
        """Return the record that allows the next numbers. Raises TooMany when `start` with a new inc is needed."""
        version, inc, ceiling = self.record
        if ceiling > _SEQUENCE_MAX - tuning.SEQUENCE_STEP:
            raise TooMany("group message numbers are used up")
        return version, inc, ceiling + tuning.SEQUENCE_STEP

    def reserved(self, record):
        """Take the numbers of a record that is stored now. Raises ValueError if it is not what `reserve` gives."""
        if record != self.reserve():
            raise ValueError("no reservation of this sender")
        self.record = record

    def protect(self, version, group_key, message):
        """Return the datagram of `message`, at most 1,024 octets, under the ring's sending key.

        Raises RuntimeError without a reserved number of this version, MalformedMessage if the message is too long.
        """
        if version != self.record[0] or self.must_reserve():
            raise RuntimeError("start and reserve first")
        if len(message) > tuning.GROUP_MESSAGE_MAX:
            raise MalformedMessage("group message too long")
        sg_id, pn_alias, sg_alias, mode = self.group
        inc = self.record[1]
        sequence = self._next
        self._next += 1
        kind = numbers.FRAME_GROUP_MESSAGE
        head = struct.pack(_HEAD[:-1], kind, mode, pn_alias, sg_alias, version, inc, sequence) + lp(self.sender_id)
        key = _key(group_key, mode, sg_id, version, self.sender_id, inc)
        if mode == numbers.PROTECTION_SEALED:
            return head + ccm.seal(key, _nonce(sequence), head, message)
        return head + message + h16(key, head, message)


def parse(datagram):
    """Return the Parsed of a group message, to choose its Service Group by the aliases. Raises MalformedMessage."""
    if len(datagram) <= _HEAD_LEN or datagram[0] != numbers.FRAME_GROUP_MESSAGE:
        raise MalformedMessage("no group message")
    _, mode, pn_alias, sg_alias, version, inc, sequence, size = struct.unpack(_HEAD, datagram[:_HEAD_LEN])
    end = _HEAD_LEN + size
    if mode not in _TAG_LEN or not _HEAD_LEN < end <= _HEAD_LEN + tuning.ENTITY_ID_MAX:
        raise MalformedMessage("group message: mode or sender ID")
    if not 0 <= len(datagram) - end - _TAG_LEN[mode] <= tuning.GROUP_MESSAGE_MAX:
        raise MalformedMessage("group message: length")
    try:
        sender_id = str(bytes(datagram[_HEAD_LEN:end]), "utf-8")
    except UnicodeError:
        raise MalformedMessage("group message: sender ID is not UTF-8") from None
    body = memoryview(datagram)[end:]
    return Parsed(mode, pn_alias, sg_alias, version, inc, sequence, sender_id, bytes(datagram[:end]), body)


class Receiver:
    """One member's receiving side in one Service Group: opens each message once.

    Keeps a window of 32 numbers for each (sender, version, inc), at most 4 inc a sender and version, and evicts none
    while its key is readable (SEC-24). `own_id` is the member's own entity ID; `lost_version` the newest version
    under which windows may have been lost, 0 for none: its messages are flagged `replayable`.
    """

    def __init__(self, group, own_id, lost_version=0, states_max=tuning.SENDERS_MAX):
        self.group = group
        self.own_id = own_id
        self.lost_version = lost_version
        self._states_max = states_max
        self._windows = {}  # (sender ID, version, inc): [highest seen, bits below it, stored up to, in steps until]

    def restore(self, record):
        """Take a stored record after a reboot: every number up to the stored one counts as seen."""
        self._windows[record[:3]] = [record[3], _ALL_SEEN, record[3], None]

    def open(self, parsed, keys, now):
        """Return the Opened of a message that is authentic, new, from another member and of this group's protection.

        `keys` is `KeyRing.receiving_keys(now)`. Store `record` = (sender ID, version, inc, number), if there is one,
        call `recorded` and only then hand the message up. Raises NotAddressed, NotAllowed (the other protection),
        Unknown (no key of this version: a hint to pull), Stale (seen before), TooMany (no room for another inc or
        sender), NotAuthentic; none of them changes anything.
        """
        sg_id, pn_alias, sg_alias, protection = self.group
        if (parsed.pn_alias, parsed.sg_alias) != (pn_alias, sg_alias) or parsed.sender_id == self.own_id:
            raise NotAddressed("own message or that of another group")
        if parsed.mode != protection:
            raise NotAllowed("protection is not that of the group")
        version = parsed.version
        if version not in keys:
            raise Unknown("no Group Key of this version")
        place = (parsed.sender_id, version, parsed.inc)
        window = self._windows.get(place)
        sequence = parsed.sequence
        if window is None:
            self._make_room(place, keys)
            window = [sequence, 0, -1, None]
        bits = _mark(window, sequence)
        message = _open(_key(keys[version], protection, sg_id, version, place[0], place[2]), parsed)
        window[0] = max(window[0], sequence)
        window[1] = bits
        self._windows[place] = window
        record = None
        if sequence > window[2]:
            often = window[3] is not None and now < window[3]
            record = (place[0], version, place[2], sequence + (tuning.WINDOW_STORE_STEP if often else 1) - 1)
        return Opened(place[0], version, message, version <= self.lost_version, record)

    def recorded(self, record, now):
        """Learn that a record is stored."""
        window = self._windows[record[:3]]
        window[2] = record[3]
        # as many numbers as this gives up take so long at the one rate up to which all senders are stored one by one
        numbers_given = record[3] - window[0] + 1
        window[3] = now + tuning.WINDOW_STORE_INTERVAL_S * len(self._windows) * numbers_given

    def records(self):
        """Return the stored records, one for each window kept."""
        return [place + (window[2],) for place, window in self._windows.items() if window[2] >= 0]

    def _make_room(self, place, keys):
        for other in list(self._windows):
            if other[1] not in keys:
                del self._windows[other]
        same = [other for other in self._windows if other[:2] == place[:2]]
        if len(same) >= tuning.INC_PER_SENDER_MAX or len(self._windows) >= self._states_max:
            raise TooMany("no room for another sender state")


def _mark(window, sequence):
    """Return the window's bits with `sequence` seen. Raises Stale if it was, or lies below the window."""
    ahead = sequence - window[0]
    if ahead >= tuning.REPLAY_WINDOW:
        return 1
    if ahead > 0:
        return (window[1] << ahead | 1) & _ALL_SEEN
    if -ahead >= tuning.REPLAY_WINDOW or window[1] >> -ahead & 1:
        raise Stale("number seen before or too old")
    return window[1] | 1 << -ahead


def _open(key, parsed):
    if parsed.mode == numbers.PROTECTION_SEALED:
        return ccm.open_(key, _nonce(parsed.sequence), parsed.head, parsed.body)
    message = parsed.body[:-16]
    if not equal(bytes(parsed.body[-16:]), h16(key, parsed.head, message)):
        raise NotAuthentic("group message: wrong tag")
    return bytes(message)


def _key(group_key, mode, sg_id, version, sender_id, inc):
    names = bytes((mode,)) + lp(sg_id) + version.to_bytes(4, "big") + lp(sender_id) + inc
    return hkdf(group_key, b"keycast/msg/1" + names, 16 if mode == numbers.PROTECTION_SEALED else 32)


def _nonce(sequence):
    return bytes(9) + sequence.to_bytes(4, "big")
