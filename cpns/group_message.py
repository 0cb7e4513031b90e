"""Messages to a Service Group, protected by its Group Key and no session (CPNS-GKM-51, docs/protocol.md section 6).

A message proves that a member (or the CPNS Server) sent it, not which one (CPNS-GKM-55). Two things must outlive a
power cut, and the caller is told to store both before it goes on: how far a sender's numbers may run, and what a
receiver has seen. `now` is in seconds, as in `key_ring`.
"""

import hashlib
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

# What `parse` returns: nothing of it is verified. `body` is a memoryview, as a board has no room for copies
Parsed = namedtuple(
    "Parsed", ("mode", "pn_alias", "sg_alias", "version", "inc", "sequence", "sender_id", "head", "body")
)

# What `Receiver.open` returns. `record` is what to store before the message is handed up, together with `evicted`, or
# None; `replayable`: windows were lost under this version, so a copy may have been handed up before
Opened = namedtuple("Opened", ("sender_id", "version", "message", "replayable", "record"))

_HEAD = ">BBIHI8sIB"  # kind, mode, pn alias, sg alias, version, inc, sequence, length of the sender ID
_HEAD_LEN = 25
_TAG_LEN = {numbers.PROTECTION_AUTHENTICATED: 16, numbers.PROTECTION_SEALED: 8}
_SEQUENCE_MAX = 0xFFFFFFFF
_ALL_SEEN = (1 << tuning.REPLAY_WINDOW) - 1
# A window is a row of octets, as a dict of them would take six times the heap. Its place: version, check of the sender
# ID (4), inc; then highest number seen, bits below it, stored up to (-1: not at all), in steps until
_WINDOW = ">IIqI"
_PLACE_LEN = 16
_WINDOW_LEN = 36
_ROW = 12  # of what is left of a window that was evicted: version, check of sender and inc (4), highest number seen


class Sender:
    """One member's sending side in one Service Group. Each message gets a number that was never used under its key.

    `record` = (version, inc, ceiling) is what must be in the store, in each of its copies (SEC-22), before a number
    is used: first `reserve`, then store, then `reserved`.
    """

    def __init__(self, group, sender_id):
        self.group = group
        self.sender_id = sender_id
        self.record = (0, b"", 0)
        self._next = 0

    def start(self, version, inc):
        """Begin with a newly installed key, or when a counter cannot be continued. `inc` is 8 new random octets."""
        self.record = (version, inc, 0)
        self._next = 0

    def resume(self, record):
        """Continue from a stored record: the numbers below its ceiling may all have been used."""
        self.record = record
        self._next = record[2]

    def must_reserve(self):
        """Return True if the next message has to wait for a reservation."""
        return self._next >= self.record[2]

    def reserve(self):
        """Return the record that allows the next numbers. Raises TooMany when `start` with a new inc is needed."""
        version, inc, ceiling = self.record
        if ceiling > _SEQUENCE_MAX - tuning.SEQUENCE_STEP:
            raise TooMany("group message numbers are used up")
        return version, inc, ceiling + tuning.SEQUENCE_STEP

    def reserved(self, record):
        """Use the numbers of a record that is stored now. Raises ValueError if it is not what `reserve` returned."""
        if record != self.reserve():
            raise ValueError("no reservation of this sender")
        self.record = record

    def forged(self, parsed, keys):
        """Return True if another member used our name and our inc with a number that we have not used yet.

        Members that heard it refuse that number of ours, and those below its window: `start` with a new inc.
        `keys` as for `Receiver.open`.
        """
        sg_id, pn_alias, sg_alias, mode = self.group
        version, inc, _ = self.record
        if (parsed.sender_id, parsed.version, parsed.inc) != (self.sender_id, version, inc) or version not in keys:
            return False
        if (parsed.pn_alias, parsed.sg_alias, parsed.mode) != (pn_alias, sg_alias, mode):
            return False
        try:
            return parsed.sequence >= self._next and _open(_key_of(keys, sg_id, parsed), parsed) is not None
        except NotAuthentic:
            return False

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

    Keeps a window of 32 numbers for each (sender, version, inc), at most 4 inc a sender and version. Any member can
    speak in the name of others, so none of this may keep anybody out (docs/protocol.md section 6): for a newcomer the
    window that came last makes room. Of an evicted one the highest number is remembered, and it goes on from there; of
    `tuning.EVICTED_MAX` the oldest is forgotten, and its version is then the `lost_version`: the newest under which
    windows were lost, 0 for none, whose messages are flagged `replayable`. `own_id` is the member's own entity ID.
    """

    def __init__(self, group, own_id, lost_version=0, states_max=tuning.SENDERS_MAX):
        self.group = group
        self.own_id = own_id
        self.lost_version = lost_version
        self._states_max = states_max
        self._windows = bytearray()  # rows, in the order in which they came
        self.evicted = b""  # rows, to be stored and put back with the records

    def restore(self, record):
        """Take a stored record after a reboot: every number up to the stored one counts as seen."""
        sender, version, inc, number = record
        if isinstance(sender, str):  # records of before
            sender = _check(sender.encode())
        number = min(number, _SEQUENCE_MAX)
        self._windows += version.to_bytes(4, "big") + sender + inc + struct.pack(_WINDOW, number, _ALL_SEEN, number, 0)

    def open(self, parsed, keys, now):
        """Return the Opened of a message that is authentic, new, from another member and of this group's protection.

        `keys` is `KeyRing.receiving_keys(now)`. Store `record` = (check of the sender ID, version, inc, number), if
        there is one, with `evicted`, call `recorded` and only then hand the message up. Raises NotAddressed, NotAllowed
        (the other protection), Unknown (no key of this version: a hint to pull), Stale (seen before), NotAuthentic;
        none of them changes anything.
        """
        sg_id, pn_alias, sg_alias, protection = self.group
        if (parsed.pn_alias, parsed.sg_alias) != (pn_alias, sg_alias) or parsed.sender_id == self.own_id:
            raise NotAddressed("own message or that of another group")
        if parsed.mode != protection:
            raise NotAllowed("protection is not that of the group")
        version = parsed.version
        if version not in keys:
            raise Unknown("no Group Key of this version")
        place = version.to_bytes(4, "big") + _check(parsed.sender_id.encode()) + parsed.inc
        at = _find(self._windows, place, _WINDOW_LEN)
        sequence = parsed.sequence
        highest, bits, stored, until = sequence, 0, -1, 0
        if at >= 0:
            highest, bits, stored, until = struct.unpack_from(_WINDOW, self._windows, at + _PLACE_LEN)
        else:
            row = _find(self.evicted, _row_head(place), _ROW)
            if row >= 0:
                highest = stored = int.from_bytes(self.evicted[row + 8 : row + _ROW], "big")
                bits = _ALL_SEEN
        bits = _mark(highest, bits, sequence)
        message = _open(_key_of(keys, sg_id, parsed), parsed)
        if at < 0:
            self._make_room(place, keys)
            at = len(self._windows)
            self._windows += place + bytes(_WINDOW_LEN - _PLACE_LEN)
        struct.pack_into(_WINDOW, self._windows, at + _PLACE_LEN, max(highest, sequence), bits, stored, until)
        record = None
        if sequence > stored:
            number = sequence + (tuning.WINDOW_STORE_STEP if now < until else 1) - 1
            record = (place[4:8], version, parsed.inc, min(number, _SEQUENCE_MAX))
        return Opened(parsed.sender_id, version, message, version <= self.lost_version, record)

    def recorded(self, record, now):
        """Note that a record is stored."""
        sender, version, inc, number = record
        at = _find(self._windows, version.to_bytes(4, "big") + sender + inc, _WINDOW_LEN) + _PLACE_LEN
        highest, bits, _, _ = struct.unpack_from(_WINDOW, self._windows, at)
        # as many numbers as this gives up take so long at the one rate up to which all senders are stored one by one
        step = tuning.WINDOW_STORE_INTERVAL_S * (len(self._windows) // _WINDOW_LEN) * (number - highest + 1)
        struct.pack_into(_WINDOW, self._windows, at, highest, bits, number, now + step)

    def records(self):
        """Return the stored records, one for each window that is kept, the oldest first."""
        records = []
        for at in range(0, len(self._windows), _WINDOW_LEN):
            place = bytes(self._windows[at : at + _PLACE_LEN])
            stored = struct.unpack_from(_WINDOW, self._windows, at + _PLACE_LEN)[2]
            if stored >= 0:
                records.append((place[4:8], int.from_bytes(place[:4], "big"), place[8:], stored))
        return records

    def _make_room(self, place, keys):
        self._windows = bytearray(_kept(self._windows, _WINDOW_LEN, keys, None))
        self.evicted = _kept(self.evicted, _ROW, keys, _row_head(place))
        same = [at for at in range(0, len(self._windows), _WINDOW_LEN) if self._windows[at : at + 8] == place[:8]]
        if len(same) >= tuning.INC_PER_SENDER_MAX:
            self._evict(same[-1])
        elif len(self._windows) >= self._states_max * _WINDOW_LEN:
            self._evict(len(self._windows) - _WINDOW_LEN)

    def _evict(self, at):
        # the window that came first stays: its messages cannot be replayed, whatever arrives later in any name
        highest, _, stored, _ = struct.unpack_from(_WINDOW, self._windows, at + _PLACE_LEN)
        self.evicted += _row_head(bytes(self._windows[at : at + _PLACE_LEN])) + max(highest, stored).to_bytes(4, "big")
        self._windows = self._windows[:at] + self._windows[at + _WINDOW_LEN :]
        if len(self.evicted) > tuning.EVICTED_MAX * _ROW:
            self.lost_version = max(self.lost_version, int.from_bytes(self.evicted[:4], "big"))
            self.evicted = self.evicted[_ROW:]


def _find(rows, head, size):
    # where the row begins that has this head, -1 for none
    at = rows.find(head)
    while at > 0 and at % size:
        at = rows.find(head, at + 1)
    return at


def _kept(rows, size, keys, gone):
    # the rows whose version is in `keys`, but the one that begins with `gone`
    kept = b""
    for at in range(0, len(rows), size):
        if int.from_bytes(rows[at : at + 4], "big") in keys and rows[at : at + 8] != gone:
            kept += rows[at : at + size]
    return kept


def _check(octets):
    return hashlib.sha256(octets).digest()[:4]


def _row_head(place):
    return place[:4] + _check(place[4:])


def _mark(highest, bits, sequence):
    """Return the window's bits with `sequence` seen. Raises Stale if it was, or lies below the window."""
    ahead = sequence - highest
    if ahead >= tuning.REPLAY_WINDOW:
        return 1
    if ahead > 0:
        return (bits << ahead | 1) & _ALL_SEEN
    if -ahead >= tuning.REPLAY_WINDOW or bits >> -ahead & 1:
        raise Stale("number seen before or too old")
    return bits | 1 << -ahead


def _open(key, parsed):
    if parsed.mode == numbers.PROTECTION_SEALED:
        return ccm.open_(key, _nonce(parsed.sequence), parsed.head, parsed.body)
    message = parsed.body[:-16]
    if not equal(bytes(parsed.body[-16:]), h16(key, parsed.head, message)):
        raise NotAuthentic("group message: wrong tag")
    return bytes(message)


def _key_of(keys, sg_id, parsed):
    return _key(keys[parsed.version], parsed.mode, sg_id, parsed.version, parsed.sender_id, parsed.inc)


def _key(group_key, mode, sg_id, version, sender_id, inc):
    names = bytes((mode,)) + lp(sg_id) + version.to_bytes(4, "big") + lp(sender_id) + inc
    return hkdf(group_key, b"keycast/msg/1" + names, 16 if mode == numbers.PROTECTION_SEALED else 32)


def _nonce(sequence):
    return bytes(9) + sequence.to_bytes(4, "big")
