"""Envelopes of updates for tests in both Pythons: good ones, and such with one thing wrong. None is really signed."""

from hashlib import sha256

from cpns.cborlite import Tag, encode
from suit import envelope
from suit import labels as l
from suit.class_id import VENDOR, agent, class_id

SIGNATURE = b"s" * 64
SIZE = 100 * 1024  # an image of three pages of hashes
PAGES = b"0123456789abcdef" * 3
IMAGE_DIGEST = b"d" * 32


def digest(octets):
    return encode([l.SHA256, octets])


def image(**changed):
    """Return the parameters of the image that the shared sequence sets."""
    parameters = {l.VENDOR_ID: VENDOR, l.CLASS_ID: class_id(agent(6)), l.DIGEST: digest(IMAGE_DIGEST), l.SIZE: SIZE}
    for name, value in changed.items():
        parameters[getattr(l, name)] = value
    return parameters


def shared(of_image=None, pages=PAGES):
    """Return the commands of the shared sequence."""
    commands = [l.SET_COMPONENT, 0, l.OVERRIDE, of_image or image(), l.VENDOR_IDENTIFIER, 15, l.CLASS_IDENTIFIER, 15]
    of_frames = {l.DIGEST: digest(sha256(pages).digest()), l.SIZE: len(pages)}
    return commands + [l.SET_COMPONENT, 1, l.OVERRIDE, of_frames]


def validate():
    return [l.SET_COMPONENT, 0, l.IMAGE_MATCH, 15, l.SET_COMPONENT, 1, l.IMAGE_MATCH, 15]


def install(uris=(envelope.IMAGE_URI, envelope.FRAMES_URI)):
    commands = []
    for index, uri in enumerate(uris):
        commands += [l.SET_COMPONENT, index, l.OVERRIDE, {l.URI: uri}, l.FETCH, 2, l.IMAGE_MATCH, 15]
    return commands


def manifest(paths=((b"agent",), (b"frames",)), number=7, **sequences):
    """Return the octets of a manifest; `sequences`: other commands for shared, validate or install."""
    common = {l.COMPONENTS: paths, l.SHARED: encode(sequences.get("shared", shared()))}
    return encode(
        {
            l.VERSION: 1,
            l.NUMBER: number,
            l.COMMON: encode(common),
            l.VALIDATE: encode(sequences.get("validate", validate())),
            l.INSTALL: encode(sequences.get("install", install())),
        }
    )


def enveloped(octets=None, blocks=None, of=None, **parts):
    """Return the octets of an envelope with this manifest.

    `blocks` are signatures instead of the one, `of` another manifest whose digest is there, `parts` further elements
    by name, such as `frames` for "#frames".
    """
    octets = octets or manifest()
    if blocks is None:
        blocks = [sign1()]
    elements = {l.AUTHENTICATION: encode([signed(of or octets)] + blocks), l.MANIFEST: octets}
    elements[envelope.FRAMES_URI] = PAGES
    for name, part in parts.items():
        elements["#" + name] = part
    return encode(Tag(l.TAG_ENVELOPE, elements))


def signed(octets):
    """Return the encoded SUIT_Digest of the octets of a manifest."""
    return digest(sha256(envelope.wrapped(octets)).digest())


def sign1(protected=b"\xa1\x01\x26", payload=None, signature=SIGNATURE):
    return encode(Tag(l.TAG_SIGN1, [protected, {}, payload, signature]))
