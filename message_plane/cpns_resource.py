"""The resource of CPNS messages: CBOR between PNE and PN GW; CBOR or XML, also in blocks, between PN GW and Server."""

from __future__ import annotations

from cpns import numbers, tuning, uplink_form
from message_plane.resource import Handler, Resource

PATH = "cpns"
GATEWAY_KIND = "keycast.gw"  # resource type by which boards find their PN GW

_CBOR = {numbers.CONTENT_CBOR: b""}
_XML_OR_CBOR = {numbers.CONTENT_XML: uplink_form.XML_BEGINNING, **_CBOR}


def board_resource(handler: Handler | None, kind: str = "") -> Resource:
    """Return the entry for PATH in the table of a PN GW's resources for PNEs. A `kind` is announced."""
    return Resource(handler, _CBOR, tuning.MESSAGE_MAX, kind=kind)


def uplink_resource(handler: Handler | None) -> Resource:
    """Return the entry for PATH in the table of a PN GW's resources for CPNS Servers, or of a CPNS Server's for PN GWs.

    A message that lists a whole PN is longer than a datagram may be, so messages of the uplink are transferred in
    blocks.
    """
    return Resource(handler, _XML_OR_CBOR, tuning.UPLINK_MESSAGE_MAX, blocks=True)
