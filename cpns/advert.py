"""The receiver's side of broadcasts as Bluetooth LE adverts, an object in pieces of 24 octets (SEC-10).

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

# first octet of a payload, an array head -> items in it, octet of the message code
KINDS = {
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
    """Return the signed broadcast of an air form, which may be followed by less than a row of zeros.

    Nothing of it is verified. Raises MalformedMessage.
    """
    if not air or air[0] not in KINDS:
        raise MalformedMessage("an air form of no known kind")
    at = 1
    for _ in range(KINDS[air[0]][0] - 2):
        if at >= len(air) or air[at] >> 5 not in (0, 2):  # an unsigned integer or octets; no array or map is decoded
            raise MalformedMessage("an air form of the wrong shape")
        at = cborlite.decode_prefix(air, at)[1]
    end = at + SIGNATURE_SIZE
    if not end <= len(air) < end + ROW_SIZE or any(air[end:]):
        raise MalformedMessage("an air form of the wrong length")
    payload = cborlite.encode(known(air[0], pn_alias) + air[1:at])
    return FRAME_HEAD + payload + SIGNATURE_HEAD + air[at:end]


def known(kind, pn_alias):
    """Return the octets of a payload that are left out on air, with the array head `kind` before them."""
    return bytes((kind,)) + cborlite.encode(KINDS[kind][1]) + cborlite.encode(pn_alias)


def identification(signed):
    """Return the 2 octets by which the adverts of a signed broadcast belong together."""
    return hashlib.sha256(signed).digest()[:2]


class Assembly:
    """One object that is being received: `rows` by their index, of which `k` are needed."""

    def __init__(self, head, now):
        self.head = head  # k - 1 and identification
        self.k = head[0] + 1
        self.begun = now
        self.rows = {}
        self.order = bytearray()  # indexes as they came
        self.tries = 0
        self.busy = False  # while `finish` runs


class Reassembly:
    """Collects rows of objects under one frame key. `dropped` counts objects that were given up before they were whole.

    At most tuning.ADVERT_OBJECTS_MAX objects are open, each for tuning.ADVERT_OBJECT_S seconds.
    """

    def __init__(self):
        self._open = []
        self._done = []  # heads of the objects that were finished last
        self.dropped = 0

    def take(self, row, now):
        """Take a row (23 octets, of `opened`) at the time `now` (seconds); return the Assembly if it is whole now.

        It returns None otherwise. Rows heard before and rows of finished objects change nothing.
        """
        head, index = row[:3], row[3]
        if head in self._done:
            return None
        found = self._assembly(head, now)
        if index in found.rows or found.busy:
            return None
        found.rows[index] = bytearray(row[4:])
        found.order.append(index)
        return found if len(found.rows) >= found.k else None

    def _assembly(self, head, now):
        for each in [each for each in self._open if now - each.begun > tuning.ADVERT_OBJECT_S]:
            self._drop(each)
        for each in self._open:
            if each.head == head:
                return each
        if len(self._open) == tuning.ADVERT_OBJECTS_MAX:
            self._drop(min(self._open, key=lambda each: (len(each.rows), each.begun)))
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
        k = assembly.k
        many_tries = k <= tuning.ADVERT_TRIES_ROWS
        assembly.busy = True
        try:
            # The newest row and all but so many of the others: the sets without it were tried before
            for left_out in _choices(bytes(assembly.order[:-1]), len(assembly.order) - k):
                rows = assembly.rows  # decoded in place if there is one try only
                if many_tries:
                    rows = {each: bytearray(assembly.rows[each]) for each in assembly.order if each not in left_out}
                assembly.tries += 1
                yield from erasure_code.decode(rows, k)
                signed = _found(rows, assembly.head, pn_alias)
                if signed:
                    self._end(assembly)
                    self._done.append(assembly.head)
                    del self._done[: -tuning.ADVERT_DONE_MAX]
                    return signed
                if not many_tries or assembly.tries == tuning.ADVERT_TRIES_MAX:
                    self._end(assembly)
                    self.dropped += 1
                    raise MalformedMessage("an object with forged rows")
        finally:
            assembly.busy = False

    def _end(self, assembly):
        if assembly in self._open:  # it may have made room for another one meanwhile
            self._open.remove(assembly)


def _found(rows, head, pn_alias):
    # The signed broadcast in the source rows, or None if it is not the one that the head names
    try:
        signed = from_air(b"".join([bytes(rows[index]) for index in range(head[0] + 1)]), pn_alias)
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
