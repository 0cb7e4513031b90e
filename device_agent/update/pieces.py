"""Asking the PN GW for a piece of an update."""

from cpns import cborlite
from cpns import numbers as cpns
from cpns.errors import MalformedMessage
from device_agent.coap import message as coap
from suit import numbers as n

OPTIONS = ((coap.URI_PATH, b"update"), (coap.CONTENT_FORMAT, bytes((cpns.CONTENT_CBOR,))))


def piece(service, update_id, what, index):
    """Ask the PN GW of an UpdateService for a piece; return its octets (flow).

    Raises as `Session.ask`: NotAllowed or Unknown if the update is not offered; and MalformedMessage.
    """
    _, octets = yield from service.session.ask(OPTIONS, cborlite.encode([n.PIECE, update_id, what, index]))
    octets = cborlite.decode(octets)
    if not isinstance(octets, bytes):
        raise MalformedMessage("no piece of an update")
    return octets
