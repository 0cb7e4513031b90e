"""The signed envelope of an update: a SUIT envelope (draft-ietf-suit-manifest-33) with one signature and one image.

It is the CBOR map, with tag 107, of the authentication wrapper, the manifest, "#image" and "#frames". The wrapper has
the digest of the manifest and one COSE_Sign1 over it by the offline key (ES256, RFC 9052). The manifest has two
components: the image, of an agent or a firmware, and the list of the pages with the hashes of its coded frames. What
travels to boards is the same map without "#image", of at most `numbers.ENVELOPE_MAX` octets.

`parse` checks all but the signature, which costs a board half a second and comes last.
"""

from hashlib import sha256

from cpns.cborlite import Tag, append_head, encode
from cpns.errors import MalformedMessage
from suit import labels as l
from suit import manifest
from suit import numbers as n
from suit.erasure import Code

AGENT = "agent"
FIRMWARE = "firmware"
FRAMES = "frames"
IMAGE_URI = "#image"
FRAMES_URI = "#frames"

ES256 = b"\xa1\x01\x26"  # protected header {1: -7}
_SIGNATURE = 64


class Envelope:
    """An update.

    `update_id`: 8 octets that name it; `number`: its sequence number; `vendor_id` and `class_id`: 16 octets each, the
    boards that it is for; `kind`: AGENT or FIRMWARE; `size` and `digest`: octets and SHA-256 of the image;
    `page_list`: the hashes of the pages; `signature`: 64 octets; `to_be_signed`: the octets under it;
    `image`: octets, or None where the envelope came without.
    """

    def __init__(self, parts, number, component, signed):
        self._parts = parts
        self.update_id = signed.digest[: n.ID]
        self.number = number
        self.kind = str(component.path[0], "ascii")
        self.vendor_id = component.parameters[l.VENDOR_ID]
        self.class_id = component.parameters[l.CLASS_ID]
        self.size = component.parameters[l.SIZE]
        self.digest = component.parameters[l.DIGEST]
        self.page_list = parts[FRAMES_URI]
        self.image = parts.get(IMAGE_URI)
        self.signature = signed.signature
        self.to_be_signed = signed.octets

    def without_image(self):
        """Return the octets that travel to boards."""
        return encode(Tag(l.TAG_ENVELOPE, {key: part for key, part in self._parts.items() if key != IMAGE_URI}))


def parse(octets):
    """Return the Envelope in received octets, with or without its image; its signature is not verified.

    Raises MalformedMessage, whose reason says what is wrong, for all that is not as this module describes it (SEC-30).
    """
    found = parts(octets)
    signed = _Signed(found[l.AUTHENTICATION])
    if sha256(wrapped(found[l.MANIFEST])).digest() != signed.digest:
        raise MalformedMessage("the manifest is not the one whose digest is signed")
    number, components = manifest.read(found[l.MANIFEST])
    if len(components) != 2:
        raise MalformedMessage("the manifest does not have an image and its frames")
    image, frames = components
    if image.path not in ([AGENT.encode()], [FIRMWARE.encode()]) or frames.path != [FRAMES.encode()]:
        raise MalformedMessage("the manifest has a component that boards do not have: %s" % _paths(components))
    _check(image, IMAGE_URI, found)
    _check(frames, FRAMES_URI, found)
    for condition, label in ((l.VENDOR_IDENTIFIER, l.VENDOR_ID), (l.CLASS_IDENTIFIER, l.CLASS_ID)):
        if label not in image.parameters or (l.SHARED, condition) not in image.commands:
            raise MalformedMessage("the manifest does not say for which boards the image is")
    pages = -(-Code(image.parameters[l.SIZE]).frames // n.PAGE_FRAMES)
    if frames.parameters[l.SIZE] != pages * n.HASH:
        raise MalformedMessage("the list of pages is not that of an image of this size")
    envelope = Envelope(found, number, image, signed)
    travels = octets if envelope.image is None else envelope.without_image()
    if len(travels) > n.ENVELOPE_MAX:
        raise MalformedMessage("the envelope without its image is longer than %d octets" % n.ENVELOPE_MAX)
    return envelope


def parts(octets):
    """Return the elements of an envelope: a dict of octets by `labels`, or by "#image" and "#frames".

    Raises MalformedMessage if it is none, or has an element that boards do not read.
    """
    if len(octets) > n.IMAGE_MAX + 2 * n.ENVELOPE_MAX:
        raise MalformedMessage("the envelope is longer than any image")
    envelope = manifest.decoded(octets, "the envelope", len(octets))
    if not isinstance(envelope, Tag) or envelope.number != l.TAG_ENVELOPE or not isinstance(envelope.value, dict):
        raise MalformedMessage("no SUIT envelope")
    found = envelope.value
    for key, part in found.items():
        if key not in (l.AUTHENTICATION, l.MANIFEST, FRAMES_URI, IMAGE_URI):
            raise MalformedMessage("the envelope has the element %s, which boards do not read" % repr(key)[:20])
        if not isinstance(part, bytes):
            raise MalformedMessage("an element of the envelope is no byte string")
    for key in (l.AUTHENTICATION, l.MANIFEST):
        if key not in found:
            raise MalformedMessage("the envelope lacks its element %d" % key)
    return found


def wrapped(manifest_octets):
    """Return the octets whose digest is signed: those of the manifest as a byte string, its head included."""
    out = bytearray()
    append_head(out, 0x40, len(manifest_octets))
    return bytes(out) + manifest_octets


def under_signature(digest):
    """Return the octets that the key signs: the Sig_structure (RFC 9052, 4.4) over an encoded SUIT_Digest."""
    return encode(["Signature1", ES256, b"", digest])


class _Signed:
    # The authentication wrapper: `digest` of the manifest, `signature`, and the `octets` under it

    def __init__(self, octets):
        wrapper = manifest.decoded(octets, "the authentication wrapper")
        if not isinstance(wrapper, list) or len(wrapper) < 2:
            raise MalformedMessage("the manifest is not signed")
        if len(wrapper) > 2:
            raise MalformedMessage("the manifest has more than one signature")
        self.digest = manifest.digest(wrapper[0])
        self.octets = under_signature(wrapper[0])
        block = manifest.decoded(wrapper[1], "the signature")
        if not isinstance(block, Tag) or block.number != l.TAG_SIGN1 or not isinstance(block.value, list):
            raise MalformedMessage("the manifest is not signed by a COSE_Sign1")
        if block.value[:-1] != [ES256, {}, None]:
            raise MalformedMessage("the signature is not one by ES256 over a digest apart")
        self.signature = block.value[-1]
        if not isinstance(self.signature, bytes) or len(self.signature) != _SIGNATURE:
            raise MalformedMessage("the signature does not have 64 octets")


def _check(component, uri, parts):
    # A component is fetched from a part of the envelope and compared; a part that is there is the one that is meant
    for label, what in ((l.DIGEST, "digest"), (l.SIZE, "size"), (l.URI, "place")):
        if label not in component.parameters:
            raise MalformedMessage("the manifest does not name the %s of a component" % what)
    if component.parameters[l.URI] != uri:
        raise MalformedMessage("a component comes from elsewhere than the envelope")
    if not component.parameters[l.SIZE]:
        raise MalformedMessage("a component is empty")
    for command in ((l.INSTALL, l.FETCH), (l.VALIDATE, l.IMAGE_MATCH)):
        if command not in component.commands:
            raise MalformedMessage("a component is not fetched, or not compared with its digest")
    part = parts.get(uri)
    if part is None:
        if uri == IMAGE_URI:
            return
        raise MalformedMessage("the envelope lacks its element %s" % uri)
    if len(part) != component.parameters[l.SIZE]:
        raise MalformedMessage("%s does not have the size that the manifest says" % uri)
    if sha256(part).digest() != component.parameters[l.DIGEST]:
        raise MalformedMessage("%s does not have the digest that the manifest says" % uri)


def _paths(components):
    return ", ".join("/".join(str(part)[2:-1] for part in component.path)[:40] for component in components)
