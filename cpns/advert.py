"""A board's side of adverts over Bluetooth LE: broadcasts, and its own reports (docs/protocol.md section 13, SEC-10).

    object -> air form -> k rows of 19 octets, and repair rows (`erasure_code`) -> one advert for each row

An advert is W(frame key, S) (`crypto/keywrap.py`), with S = 00 ‖ k - 1 ‖ id (2) ‖ index ‖ row (19). The frame key is
that of the generation, which all boards of a PN have and nobody else: an advert of somebody else becomes a row of an
object with a probability of 2^-32 (SEC-10), and a receiver without a frame key reads neither home, group nor version.
A member can forge rows; they cost a decode, and the object's own signature and identification say that it is wrong.
A beacon (SEC-13) or a report (SEC-14) is a whole advert: its second octet is f0 or f1 instead of k - 1.
"""

import hashlib

from cpns import cborlite, erasure_code, numbers, tuning
from cpns.broadcast_object import FRAME_HEAD, SIGNATURE_HEAD
from cpns.crypto import keywrap
from cpns.errors import MalformedMessage

SIZE = 24  # octets of an advert, behind the company id
ROW_SIZE = 19
SIGNATURE_SIZE = 64

# What `opened` returns as the kind of an advert; the last two are the second octet of S
ROW = 0
BEACON = 0xF0
REPORT = 0xF1

_BEACON_SIZE = 19
_REPORT_SIZE = 21

# first octet of a payload, an array head -> items in it, message code
SHAPES = {
    0x84: (4, numbers.DELETE_SERVICE_GROUP_REQUEST),
    0x89: (9, numbers.GROUP_KEY_DELIVERY_REQUEST),
    0x8B: (11, numbers.GROUP_KEY_DELIVERY_REQUEST),
}


def opened(frame_key, octets):
    """Return (ROW, BEACON or REPORT, its octets) of an advert, or None if it was not made under this frame key.

    The octets are what follows the first octet of S for a row, for `Reassembly.take`; the 19 octets of a beacon, for
    `beacon.parse`; or the 21 octets of a report, for `report.parse`.
    """
    if len(octets) != SIZE:
        return None
    plain = keywrap.decipher(frame_key, octets)
    if plain[0]:
        return None
    kind = plain[1]
    if kind < tuning.ADVERT_ROWS_MAX:
        return ROW, plain[1:]
    if kind == BEACON and not any(plain[_BEACON_SIZE + 1 :]):
        return BEACON, bytes((numbers.FRAME_BEACON,)) + plain[2 : _BEACON_SIZE + 1]
    if kind == REPORT and not plain[-1]:
        return REPORT, plain[2:-1]
    return None


def report_advert(frame_key, report):
    """Return the advert (24 octets) of a report of 21 octets (`report.build`). Raises ValueError for another length."""
    if len(report) != _REPORT_SIZE:
        raise ValueError("a report has 21 octets")
    return keywrap.encipher(frame_key, bytes((0, REPORT)) + report + b"\0")


def from_air(air, pn_alias):
    """Return the signed broadcast of an air form (bytes or bytearray), which less than a row of zeros may follow.

    Nothing of it is verified. Raises MalformedMessage.
    """
    if not air or air[0] not in SHAPES:
        raise MalformedMessage("an air form of no known message")
    air = memoryview(air)  # a board has no room for copies
    at = 1
    for _ in range(SHAPES[air[0]][0] - 2):
        if at >= len(air) or air[at] >> 5 not in (0, 2):  # an unsigned integer or octets; no array or map is decoded
            raise MalformedMessage("an air form of the wrong shape")
        at = cborlite.decode_prefix(air, at)[1]
    end = at + SIGNATURE_SIZE
    if not end <= len(air) < end + ROW_SIZE or any(air[end:]):
        raise MalformedMessage("an air form of the wrong length")
    first = known(air[0], pn_alias)
    signed = bytearray(FRAME_HEAD)
    cborlite.append_head(signed, 0x40, len(first) + at - 1)
    for part in (first, air[1:at], SIGNATURE_HEAD, air[at:end]):
        signed.extend(part)
    return bytes(signed)


def known(shape, pn_alias):
    """Return the octets of a payload that are left out on air, with the array head `shape` before them."""
    return bytes((shape,)) + cborlite.encode(SHAPES[shape][1]) + cborlite.encode(pn_alias)


def identification(signed):
    """Return the 2 octets by which the adverts of a signed broadcast belong together."""
    return hashlib.sha256(signed).digest()[:2]


class Assembly:
    """One object that is being received: `rows` in the order in which they came, and their `indexes`."""

    def __init__(self, head, now):
        self.head = head  # k - 1 and identification
        self.k = head[0] + 1
        self.begun = self.grown = now  # when the first and the newest of its rows came
        self.indexes = bytearray()
        self.rows = bytearray(self.k * ROW_SIZE)
        self.tries = 0
        self.busy = False  # while `finish` runs

    def add(self, index, row, now):
        """Add a row that was not heard before."""
        self.grown = now
        at = len(self.indexes) * ROW_SIZE
        self.rows[at : at + ROW_SIZE] = row
        self.indexes += index

    def sets(self):
        """Yield (rows, indexes) of each set of k rows that was not tried before: those with the newest row.

        The sender shows its rows in ascending order, so sets without the highest indexes come first: a forged row with
        a low index is mostly one that was heard before.
        """
        if self.k > tuning.ADVERT_TRIES_ROWS:
            yield self.rows, self.indexes
            return
        newest = len(self.indexes) - 1
        others = sorted(range(newest), key=lambda place: -self.indexes[place])
        for left_out in _choices(bytes(others), newest + 1 - self.k):
            rows, indexes = bytearray(), bytearray()
            for place in range(newest + 1):
                if bytes((place,)) not in left_out:
                    rows += self.rows[place * ROW_SIZE : (place + 1) * ROW_SIZE]
                    indexes.append(self.indexes[place])
            yield rows, indexes


class Reassembly:
    """Collects rows of objects under one frame key. `dropped` counts objects that were given up before they were whole.

    At most tuning.ADVERT_OBJECTS_MAX objects are open, with 20 octets for each of their rows. An object is given up
    tuning.ADVERT_OBJECT_S seconds after its newest row. When one more begins, the one that grows slowest makes room: so
    a member that begins objects without end ends those of others only if it sends more than they do.
    """

    def __init__(self):
        self._open = []  # in the order in which they were begun
        self._done = []  # (head, time of its first row) of the objects that were finished last
        self.dropped = 0

    def take(self, row, now):
        """Take a row (23 octets, of `opened`) at the time `now` (milliseconds); return its Assembly if it is whole now.

        It returns None otherwise. Rows heard before and rows of finished objects change nothing.
        """
        head, index = row[:3], row[3:4]
        for each in self._open:
            if now - each.grown > tuning.ADVERT_OBJECT_S * 1000:
                self._drop(each)
                break  # the others that are too old are for the next rows
        while self._done and now - self._done[0][1] > tuning.ADVERT_DONE_S * 1000:
            del self._done[0]
        for done, _ in self._done:
            if done == head:
                return None
        found = self._assembly(head, now)
        if found.busy or index in found.indexes:
            return None
        if len(found.indexes) < found.k + (tuning.ADVERT_TRIES_MAX if found.k <= tuning.ADVERT_TRIES_ROWS else 0):
            found.add(index, row[4:], now)
        return found if len(found.indexes) >= found.k else None

    def _assembly(self, head, now):
        for each in self._open:
            if each.head == head:
                return each
        if len(self._open) == tuning.ADVERT_OBJECTS_MAX:
            self._drop(min(self._open, key=lambda each: (_speed(each, now), each.begun)))
        self._open.append(Assembly(head, now))
        return self._open[-1]

    def _drop(self, assembly):
        self._open.remove(assembly)
        self.dropped += 1

    def finish(self, assembly, pn_alias):
        """Return the signed broadcast of a whole assembly, in steps that yield between rows (`erasure_code.decode`).

        If a row was forged, other sets of rows are tried, if the object is small; it then returns None while another
        row may help. Raises MalformedMessage when the object is given up: ask for the key in another way.
        """
        assembly.busy = True
        try:
            for rows, indexes in assembly.sets():
                assembly.tries += 1
                source = yield from erasure_code.decode(rows, indexes)
                if assembly.k > tuning.ADVERT_TRIES_ROWS:  # it is made now or never
                    self._end(assembly)
                    assembly.rows = rows = None  # frees a kilobyte
                signed = _found(source, assembly.head, pn_alias)
                if signed:
                    self._end(assembly)
                    self._done.append((assembly.head, assembly.begun))
                    del self._done[: -tuning.ADVERT_DONE_MAX]
                    return signed
                if assembly.k > tuning.ADVERT_TRIES_ROWS or assembly.tries >= tuning.ADVERT_TRIES_MAX:
                    self._end(assembly)
                    self.dropped += 1
                    raise MalformedMessage("an object with forged rows")
        finally:
            assembly.busy = False

    def _end(self, assembly):
        if assembly in self._open:  # it may have made room for another one meanwhile
            self._open.remove(assembly)


def _speed(assembly, now):
    # Rows in a second since it was begun, scaled to an integer; half a second more, so that a first row says little
    return len(assembly.indexes) * 60000 // (now - assembly.begun + 500)


def _found(source, head, pn_alias):
    # The signed broadcast in the source rows, or None if it is not the one that the head names
    try:
        signed = from_air(source, pn_alias)
    except MalformedMessage:
        return None
    return signed if identification(signed) == head[1:] else None


def _choices(items, count):
    # Yield each choice of `count` of the items
    if not count:
        yield b""
        return
    for place in range(len(items) - count + 1):
        for rest in _choices(items[place + 1 :], count - 1):
            yield items[place : place + 1] + rest
