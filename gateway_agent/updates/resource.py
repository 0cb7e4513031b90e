"""The resource of updates between PNE and PN GW (docs/protocol.md section 16). No body travels in blocks."""

from cpns import numbers
from message_plane.resource import Handler, Resource
from suit import numbers as n

PATH = n.PATH
BODY_MAX = n.BLOCK + 3
"""Octets: a coded frame as a CBOR byte string."""


def update_resource(handler: Handler) -> Resource:
    """Return the entry for PATH in the table of a PN GW's resources for PNEs."""
    return Resource(handler, {numbers.CONTENT_CBOR: b""}, BODY_MAX)
