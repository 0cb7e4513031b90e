"""Waits for BLE: broadcasts as Bluetooth LE adverts, an object in pieces of 24 octets (SEC-10).

    object -> air form -> k rows of 19 octets, and repair rows (`erasure_code`) -> one advert for each row

An advert is W(frame key, S) (`crypto/keywrap.py`), with S = 00 ‖ k - 1 ‖ id (2) ‖ index ‖ row (19). The frame key is
that of the generation, which all boards of a PN have and nobody else: an advert of somebody else becomes a row of an
object with a probability of 2^-32 (SEC-10), and who has no frame key reads neither home, group nor version. A member
can forge rows; they cost a decode, and the object's own signature and identification say that it is wrong.
"""

import hashlib

from cpns import cborlite, erasure_code, tuning
from cpns.broadcast_object import FRAME_HEAD, SIGNATURE_HEAD
from cpns.crypto import keywrap
from cpns.errors import MalformedMessage
from cpns.numbers import DELETE_SERVICE_GROUP_REQUEST, GROUP_KEY_DELIVERY_REQUEST

SIZE = 24  # octets of an advert, behind the company id
ROW = 19
INDEXES = 256
_SIGNATURE = 64

# first octet of a payload, an array head -> items in it, octet of the message code
_KINDS = {
    0x84: (4, DELETE_SERVICE_GROUP_REQUEST),
    0x89: (9, GROUP_KEY_DELIVERY_REQUEST),
    0x8B: (11, GROUP_KEY_DELIVERY_REQUEST),
}


def to_air(signed, pn_alias):
    """Return the air form of a signed broadcast, 17 octets shorter: what every receiver knows is left out.

    It is the array head of the payload, the items after the PN alias, and the signature. Raises MalformedMessage for
    octets that `from_air` would not make the same object of.
    """
    start, end = len(FRAME_HEAD), len(signed) - _SIGNATURE - len(SIGNATURE_HEAD)
    payload = cborlite.decode_prefix(signed, start)[0] if start < end else b""
    if type(payload) is bytes and payload[:1] and payload[0] in _KINDS:
        known = len(_known(payload[0], pn_alias))
        air = payload[:1] + payload[known:] + signed[-_SIGNATURE:]
        if from_air(air, pn_alias) == signed:
            return air
    raise MalformedMessage("no signed broadcast that has an air form")


def from_air(air, pn_alias):
    """Return the signed broadcast of an air form, which may be followed by less than a row of zeros.

    Nothing of it is verified. Raises MalformedMessage.
    """
    if not air or air[0] not in _KINDS:
        raise MalformedMessage("an air form of no known kind")
    at = 1
    for _ in range(_KINDS[air[0]][0] - 2):
        if at >= len(air) or air[at] >> 5 not in (0, 2):  # an unsigned integer or octets; no array or map is decoded
            raise MalformedMessage("an air form of the wrong shape")
        at = cborlite.decode_prefix(air, at)[1]
    end = at + _SIGNATURE
    if not end <= len(air) < end + ROW or any(air[end:]):
        raise MalformedMessage("an air form of the wrong length")
    payload = cborlite.encode(_known(air[0], pn_alias) + air[1:at])
    return FRAME_HEAD + payload + SIGNATURE_HEAD + air[at:end]


def _known(kind, pn_alias):
    # The octets of the payload that are not on air, with the array head before them
    return bytes((kind,)) + cborlite.encode(_KINDS[kind][1]) + cborlite.encode(pn_alias)


def identification(signed):
    """Return the 2 octets by which the adverts of a signed broadcast belong together."""
    return hashlib.sha256(signed).digest()[:2]


def rows_of(air):
    """Return the rows of an air form, 1 to tuning.ADVERT_ROWS_MAX of 19 octets. Raises ValueError if it is longer."""
    rows = [air[at : at + ROW] for at in range(0, len(air), ROW)]
    if len(rows) > tuning.ADVERT_ROWS_MAX:
        raise ValueError("an object of too many rows for adverts")
    rows[-1] += bytes(ROW - len(rows[-1]))
    return rows


def advert(frame_key, identification, rows, index):
    """Return the 24 octets of row `index` (0 to 255) of the object with these rows."""
    row = rows[index] if index < len(rows) else erasure_code.repair(rows, index)
    return keywrap.encipher(frame_key, bytes((0, len(rows) - 1)) + identification + bytes((index,)) + row)


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

    def __init__(self, frame_key):
        self._key = frame_key
        self._open = []
        self._done = []  # heads of the objects that were finished last
        self.dropped = 0

    def take(self, octets, now):
        """Take an advert (24 octets) at the time `now` (seconds); return the Assembly if it is whole now, else None.

        Adverts of others, rows heard before and rows of finished objects change nothing.
        """
        row = keywrap.decipher(self._key, octets)
        if row[0] or row[1] >= tuning.ADVERT_ROWS_MAX:
            return None
        head, index = row[1:4], row[4]
        if head in self._done:
            return None
        found = self._assembly(head, now)
        if index in found.rows or found.busy:
            return None
        found.rows[index] = bytearray(row[5:])
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
