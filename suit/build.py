"""Makes the signed envelope of an update: for the computer that has the offline key, never for a board."""

from collections.abc import Callable
from hashlib import sha256

from cpns.cborlite import Tag, encode
from cpns.errors import MalformedMessage
from suit import labels as l
from suit import numbers as n
from suit.class_id import VENDOR, class_id
from suit.coded import CodedImage
from suit.envelope import ES256, FRAMES, FRAMES_URI, IMAGE_URI, parse, under_signature, wrapped

_ALWAYS = 15  # reporting policy of a condition: what it found, either way
_IF_FAILED = 2


def build(kind: str, class_text: str, number: int, image: bytes, sign: Callable[[bytes], bytes]) -> bytes:
    """Return the octets of an envelope with its image.

    `kind` is "agent" or "firmware", `class_text` says for which boards (`class_id`), `number` is the sequence number.
    `sign(octets)` returns the ES256 signature, r || s of 64 octets. Raises MalformedMessage for an image without
    octets, or one that is longer than any slot.
    """
    if not 0 < len(image) <= n.IMAGE_MAX:
        raise MalformedMessage(f"an image has 1 to {n.IMAGE_MAX} octets, this one has {len(image)}")
    page_list = CodedImage(image).page_list()
    described = _manifest(kind, class_id(class_text), number, image, page_list)
    digest = _digest(wrapped(described))
    sign1 = encode(Tag(l.TAG_SIGN1, [ES256, {}, None, sign(under_signature(digest))]))
    elements = {l.AUTHENTICATION: encode([digest, sign1]), l.MANIFEST: described}
    octets = bytes(encode(Tag(l.TAG_ENVELOPE, {**elements, IMAGE_URI: image, FRAMES_URI: page_list})))
    parse(octets)
    return octets


def _manifest(kind: str, image_class: bytes, number: int, image: bytes, page_list: bytes) -> bytes:
    whole = {l.DIGEST: _digest(image), l.SIZE: len(image)}
    pages = {l.DIGEST: _digest(page_list), l.SIZE: len(page_list)}
    shared = [l.SET_COMPONENT, 0, l.OVERRIDE, {l.VENDOR_ID: VENDOR, l.CLASS_ID: image_class, **whole}]
    shared += [l.VENDOR_IDENTIFIER, _ALWAYS, l.CLASS_IDENTIFIER, _ALWAYS]
    shared += [l.SET_COMPONENT, 1, l.OVERRIDE, pages]
    validate = [l.SET_COMPONENT, 0, l.IMAGE_MATCH, _ALWAYS, l.SET_COMPONENT, 1, l.IMAGE_MATCH, _ALWAYS]
    install: list[object] = []
    for index, uri in enumerate((IMAGE_URI, FRAMES_URI)):
        install += [l.SET_COMPONENT, index, l.OVERRIDE, {l.URI: uri}, l.FETCH, _IF_FAILED, l.IMAGE_MATCH, _ALWAYS]
    common = {l.COMPONENTS: [[kind.encode()], [FRAMES.encode()]], l.SHARED: encode(shared)}
    sequences = {l.COMMON: encode(common), l.VALIDATE: encode(validate), l.INSTALL: encode(install)}
    return bytes(encode({l.VERSION: 1, l.NUMBER: number, **sequences}))


def _digest(octets: bytes) -> bytes:
    return bytes(encode([l.SHA256, sha256(octets).digest()]))
