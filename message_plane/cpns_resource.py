"""The resource of CPNS messages: CBOR towards boards; CBOR or XML, also in blocks, between PN GW and CPNS Server."""

from __future__ import annotations

from cpns import numbers, tuning, uplink_form
from message_plane.resource import Handler, Resource

PATH = "cpns"
GATEWAY_KIND = "keycast.gw"  # resource type by which boards find their PN GW

_CBOR = {numbers.CONTENT_CBOR: b""}
_XML_OR_CBOR = {numbers.CONTENT_XML: uplink_form.XML_BEGINNING, **_CBOR}


def cpns_resource(handler: Handler | None, kind: str = "") -> Resource:
    """Return the entry for PATH in the table of resources of a PN GW or CPNS Server. A `kind` is announced.

    A message that lists a whole PN is longer than a datagram may be, so messages of the uplink are transferred in
    blocks. Boards neither send nor get blocks here.
    """
    boards = Resource(handler, _CBOR, tuning.MESSAGE_MAX)
    return Resource(handler, _XML_OR_CBOR, tuning.UPLINK_MESSAGE_MAX, blocks=True, kind=kind, boards=boards)
