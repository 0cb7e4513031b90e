"""The receiver's side of signed broadcasts: Group Keys under a GKEK, and deletes (docs/protocol.md section 5).

A signature costs a board the better part of a second, so it comes last (SEC-09), and the order cannot be missed:

    received = parse(datagram)                                  # length, tag, shape
    if received.check(pn_alias, sg_alias, record, floor, held)  # aliases, generation, version; False: a duplicate
        key, signed = received.open(pn_id, sg_id)               # own entry, unwrap, COMMIT
        ... verify received.signature over `signed` with the PN GW's broadcast key, then store `key`

Every step raises a CpnsError; until the signature was verified nothing of it may be stored, used or answered.
"""

from cpns import cborlite, numbers, tuning
from cpns.broadcast_encryption.wrapping import commitment, w16_unwrap
from cpns.crypto.compare import equal
from cpns.errors import MalformedMessage, NotAddressed, NotAllowed, NotAuthentic, Stale, Unknown

PROTECTED = b"\xa1\x01\x26"  # {1: -7}: ES256
FRAME_HEAD = b"\xd2\x84\x43" + PROTECTED + b"\xa0"  # COSE_Sign1 (RFC 9052 section 4.2), tagged, nothing unprotected
SIGNATURE_HEAD = b"\x58\x40"  # a byte string of 64 octets: r ‖ s
CONTEXT_GROUP_KEY = "keycast/gk/1"
CONTEXT_DELETE = "keycast/delete/1"

# Arrays of 4, 9 or 11 items, with none inside: an octet that is an empty array or map costs a board 32 octets of heap,
# and anybody can send a thousand of them
_SHAPES = (b"\x84", b"\x89", b"\x8b")


def to_be_signed(context: str, pn_id: str, sg_id: str, payload: bytes) -> bytes:
    """Return the Sig_structure (RFC 9052 section 4.4). Full names and context are in it but do not travel (SEC-08)."""
    aad = cborlite.encode([context, pn_id, sg_id])
    return cborlite.encode(["Signature1", PROTECTED, aad, payload])


def parse(datagram: bytes) -> "Received | ReceivedDelete":
    """Return what a datagram that begins with `d2` says. Nothing of it is verified yet. Raises MalformedMessage."""
    end = len(datagram) - 66
    if end < 8 or end > tuning.BROADCAST_OBJECT_MAX - 66 or datagram[:7] != FRAME_HEAD:
        raise MalformedMessage("not a signed broadcast")
    payload, at = cborlite.decode_prefix(datagram, 7)
    if at != end or datagram[end : end + 2] != SIGNATURE_HEAD or type(payload) is not bytes:
        raise MalformedMessage("a signed broadcast of the wrong shape")
    if payload[:1] in _SHAPES:
        items, end = cborlite.decode_prefix(payload, 0, 1)
        if end == len(payload):
            if items[0] == numbers.GROUP_KEY_DELIVERY_REQUEST:
                return Received(items, payload, datagram[-64:])
            if items[0] == numbers.DELETE_SERVICE_GROUP_REQUEST:
                return ReceivedDelete(items, payload, datagram[-64:])
    raise MalformedMessage("a signed broadcast of no known kind")


class Received:
    """A broadcast object. Its attributes, none of them verified: `pn_alias`, `sg_alias`, `generation`, `version`,
    `activation` (Unix seconds, 0 = when stored), `reason`, `commit`, `entries`, `slots` ((first, last), or None if
    the cover was not cut), `signature` (64 octets).
    """

    def __init__(self, items, payload, signature):
        if len(items) == 11:
            _integers(items[9:], (32, 32))
        elif len(items) != 9:
            raise MalformedMessage("a broadcast object of the wrong length")
        _integers(items[1:7], (32, 16, 16, 32, 32, 3))
        if items[6] > numbers.REASON_BY_HAND:
            raise MalformedMessage("a reason that is not known")
        commit, entries = items[7:9]
        if type(commit) is not bytes or len(commit) != 16 or type(entries) is not bytes:
            raise MalformedMessage("a broadcast object of the wrong shape")
        self.pn_alias, self.sg_alias, self.generation, self.version, self.activation, self.reason = items[1:7]
        self.commit = commit
        self.entries = entries
        self.slots = tuple(items[9:]) or None
        self.signature = signature
        self._payload = payload
        self._record = None

    def check(self, pn_alias: int, sg_alias: int, record, floor: "int | None", held=None) -> bool:
        """Return True if this may be a new key for a member that has the GKDK `record`. It does no cryptography.

        Versions up to `floor` are refused; all are if it is None, never learnt (SEC-04). `held` is (version, COMMIT)
        of the newest key that is held, or None; a duplicate of that one returns False (SEC-11).
        Raises NotAddressed (other PN or SG), Stale (older generation or version), Unknown (a newer generation:
        ask for its GKDK), NotAllowed (no floor, or an epoch too far ahead: pull), NotAuthentic (another key
        under the version held: count and show it).
        """
        if self.pn_alias != pn_alias or self.sg_alias != sg_alias:
            raise NotAddressed("another PN or Service Group")
        if self.generation != record.generation:
            if self.generation < record.generation:
                raise Stale("a generation that is over")
            raise Unknown("a generation whose GKDK is not held")
        if floor is None:
            raise NotAllowed("no version floor was learnt yet")
        if held and self.version == held[0]:
            if self.commit == held[1]:
                return False
            raise NotAuthentic("another key under the version held")
        if self.version <= floor:
            raise Stale("a version that is over")
        if (self.version >> 16) - (floor >> 16) > tuning.EPOCH_JUMP_MAX:
            raise NotAllowed("an epoch too far ahead")
        self._record = record
        return True

    def open(self, pn_id: str, sg_id: str) -> "tuple[bytes, bytes]":
        """Return (Group Key, octets that `signature` must sign), after `check` has returned True.

        Raises NotAddressed (no entry for this slot), MalformedMessage (an impossible entry),
        NotAuthentic (COMMIT does not fit); RuntimeError without `check`.
        """
        record = self._record
        if record is None:
            raise RuntimeError("check() comes before open()")
        if self.slots and not self.slots[0] <= record.slot <= self.slots[1]:
            raise NotAddressed("another part of the cover")
        index, wrapped = record.own_entry(self.entries)
        key = w16_unwrap(record.subset_key(index), wrapped)
        if not equal(commitment(key, self.pn_alias, self.sg_alias, self.generation, self.version), self.commit):
            raise NotAuthentic("COMMIT does not fit")
        return key, to_be_signed(CONTEXT_GROUP_KEY, pn_id, sg_id, self._payload)


class ReceivedDelete:
    """A signed delete. Its attributes, none of them verified: `pn_alias`, `sg_alias`, `version`, `signature`."""

    def __init__(self, items, payload, signature):
        if len(items) != 4:
            raise MalformedMessage("a signed delete of the wrong length")
        _integers(items[1:], (32, 16, 32))
        self.pn_alias, self.sg_alias, self.version = items[1:]
        self.signature = signature
        self._payload = payload

    def check(self, pn_alias: int, sg_alias: int, held_version: int, pn_id: str, sg_id: str) -> bytes:
        """Return the octets that `signature` must sign, if the delete concerns this group as it is now.

        `held_version` is the highest version that is held or refused. Raises NotAddressed, Stale.
        """
        if self.pn_alias != pn_alias or self.sg_alias != sg_alias:
            raise NotAddressed("another PN or Service Group")
        if self.version < held_version:
            raise Stale("a delete from before the key held")
        return to_be_signed(CONTEXT_DELETE, pn_id, sg_id, self._payload)


def _integers(items, bits):
    for value, size in zip(items, bits):
        if type(value) is not int or value >> size:
            raise MalformedMessage("a signed broadcast with a number out of range")
