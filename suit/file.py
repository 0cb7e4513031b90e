"""The file of an update, an envelope with its image, as who signs, shows or offers it reads it. No board has one."""

from cpns.cborlite import decode_prefix
from cpns.errors import MalformedMessage
from suit import labels as l
from suit.envelope import Envelope, parse
from suit.manifest import COMPONENTS_MAX

_BYTES, _LIST, _MAP, _TAG = 2, 4, 5, 6  # major types of CBOR (RFC 8949, 3.1)


def read(octets: bytes) -> Envelope:
    """Return the Envelope in a file. Raises MalformedMessage as `envelope.parse` does.

    A manifest with more components than boards read is refused for them, also where it is too long to be decoded: then
    its heads say how many they are.
    """
    try:
        return parse(octets)
    except MalformedMessage:
        count = _components(octets)
        if count <= COMPONENTS_MAX:
            raise
    raise MalformedMessage(f"the manifest has {count} components, and boards read {COMPONENTS_MAX}")


def _components(octets: bytes) -> int:
    """Return how many components a file says that its manifest has, 0 if it does not say so where it should."""
    try:
        manifest = _inside(octets, _head(octets, 0, _TAG)[1], l.MANIFEST)
        common = _inside(octets, manifest, l.COMMON)
        return _head(octets, _place(octets, common, l.COMPONENTS), _LIST)[0]
    except MalformedMessage:
        return 0


def _inside(octets: bytes, at: int, key: int) -> int:
    """Return where the octets begin that a map at a place has for a key."""
    return _head(octets, _place(octets, at, key), _BYTES)[1]


def _place(octets: bytes, at: int, key: int) -> int:
    """Return where a map at a place has the value of a key, which only integers and octets come before."""
    count, at = _head(octets, at, _MAP)
    for _ in range(count):
        found, at = decode_prefix(octets, at, depth=0)
        if found == key:
            return at
        if at < len(octets) and octets[at] >> 5 == _BYTES:
            length, at = _head(octets, at, _BYTES)
            at += length
        else:
            _, at = decode_prefix(octets, at, depth=0)
    raise MalformedMessage("no such key")


def _head(octets: bytes, at: int, major: int) -> tuple[int, int]:
    """Return the number in the head of a value of a major type, and the place behind it. Raises MalformedMessage."""
    if at >= len(octets) or octets[at] >> 5 != major:
        raise MalformedMessage("another type")
    number, at = octets[at] & 31, at + 1
    if number < 24:
        return number, at
    size = 1 << number - 24
    if size > min(4, len(octets) - at):  # no file is so long that it needs more
        raise MalformedMessage("no head")
    return int.from_bytes(octets[at : at + size], "big"), at + size
