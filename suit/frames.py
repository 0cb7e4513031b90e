"""The frames of an update on the broadcast plane, and the hashes by which each is known (docs/protocol.md section 16).

    55 || kind u8 || id of the update (8) || index u16 || body

The body of a manifest is generation u16 || tag (8) || envelope: the tag, under the key that all boards of a generation
have for their adverts, keeps outsiders from making boards verify signatures. The body of a page is its hashes, that of
a coded frame its 1,024 octets, and that of a sealed one as in `sealing`. A page is known by its hash in the envelope, a
frame by its hash in the page: one SHA-256 each, before anything is stored (SEC-10).
"""

from collections import namedtuple
from hashlib import sha256

from cpns import numbers as cpns
from cpns.crypto.compare import equal
from cpns.crypto.hmac import hmac_sha256
from cpns.errors import MalformedMessage, NotAuthentic, Unknown
from suit import numbers as n

HEAD = 4 + n.ID
_TAG_HEAD, _TAG = 2, 8
_SEAL_HEAD = 6  # suit/sealing.py

Frame = namedtuple("Frame", ("kind", "update_id", "index", "body"))


def build(kind, update_id, index, body):
    """Return the octets of a frame. `kind`: `numbers.ENVELOPE`, `PAGE`, `FRAME` or `SEALED`; `index`: 0 to 65,535."""
    return bytes((cpns.FRAME_UPDATE, kind)) + update_id + index.to_bytes(2, "big") + body


def parse(datagram):
    """Return the Frame in a datagram, whose body is a memoryview. Nothing of it is known. Raises MalformedMessage."""
    view = memoryview(datagram)
    if len(view) <= HEAD or view[0] != cpns.FRAME_UPDATE or view[1] > n.SEALED:
        raise MalformedMessage("no frame of an update")
    body = view[HEAD:]
    wrong = len(body) > _TAG_HEAD + _TAG + n.ENVELOPE_MAX
    if view[1] == n.PAGE:
        wrong = len(body) % n.HASH or len(body) > n.PAGE_FRAMES * n.HASH
    elif view[1] == n.FRAME:
        wrong = len(body) != n.BLOCK
    elif view[1] == n.SEALED:
        wrong = len(body) != n.BLOCK + _SEAL_HEAD
    if wrong:
        raise MalformedMessage("a frame of an update with a wrong length")
    return Frame(view[1], bytes(view[2 : 2 + n.ID]), int.from_bytes(view[2 + n.ID : HEAD], "big"), body)


def manifest_body(frame_key, generation, update_id, envelope):
    """Return the body of a manifest for boards with `frame_key` (16 octets), that of this generation."""
    return generation.to_bytes(2, "big") + _tag(frame_key, update_id, envelope) + envelope


def envelope_of(body, update_id, frame_keys):
    """Return the envelope in the body of a manifest, as bytes. `frame_keys`: generation -> key.

    Raises Unknown for a generation without a key, NotAuthentic if no board nor the PN GW made it.
    """
    key = frame_keys.get(int.from_bytes(body[:_TAG_HEAD], "big"))
    if key is None:
        raise Unknown("a generation whose GKDK is not held")
    envelope = bytes(body[_TAG_HEAD + _TAG :])
    if not equal(bytes(body[_TAG_HEAD : _TAG_HEAD + _TAG]), _tag(key, update_id, envelope)):
        raise NotAuthentic("the tag of a manifest does not fit")
    return envelope


def hashed(octets):
    """Return the hash, 16 octets, by which a coded frame or a page is known."""
    return sha256(octets).digest()[: n.HASH]


def page_of(index):
    """Return (page, place in it) of the hash of a coded frame."""
    return divmod(index, n.PAGE_FRAMES)


def listed(hashes, place, octets):
    """Return True if the hash of `octets` is the one at `place` of a list of hashes: a page, or the list of pages."""
    expected = hashes[place * n.HASH : (place + 1) * n.HASH]
    return len(expected) == n.HASH and expected == hashed(octets)


def _tag(key, update_id, envelope):
    return hmac_sha256(key, b"keycast/update/1" + update_id + envelope)[:_TAG]
