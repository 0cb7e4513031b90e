"""The requests of the PN GW: a table from path to resource, and for `cpns` one from message code to part.

A resource is a function of the options and the body of a verified request. It returns a flow (`device_agent`) whose
value is (CoAP code, options, body) of the answer. The resource itself decides on the form and the longest size of its
bodies, and whether they travel in blocks (`coap/blocks.py`).

A part is a function of the fields of a message. It returns a flow whose value is the fields of the answer, without its
Result, unless that message has a Return instead. A CpnsError that this flow raises is answered with Result `2`; one
that the function raises itself, with 4.03.
"""

from cpns import messages
from cpns import numbers as n
from cpns.errors import CpnsError, MalformedMessage, NotAllowed
from device_agent.coap import message as coap
from device_agent.session import BAD_REQUEST, CHANGED, FORBIDDEN, NOT_FOUND, POST

# The options of a request to the PN GW for the same resource
CPNS = ((coap.URI_PATH, b"cpns"), (coap.CONTENT_FORMAT, bytes((n.CONTENT_CBOR,))))


class Requests:
    """The tables `resources`, by path, and `parts`, by message code. A module may add its function to either.

    `tell("refused", values)` is called for a message that is answered with Result `2`.
    """

    def __init__(self, membership, tell):
        self._tell = tell
        self.resources = {"cpns": self._message}
        self.parts = {
            n.GROUP_KEY_DELIVERY_REQUEST: membership.take_key,
            n.DELETE_SERVICE_GROUP_REQUEST: membership.take_delete,
            n.ROLL_OVER_REQUEST: membership.take_signing_key,
            n.GENERATION_REQUEST: membership.take_gkdk,
        }

    def answer(self, code, options, octets):
        """Return (CoAP code, options, body) of the answer to a verified request, as a flow. Raises OSError."""
        resource = self.resources.get(coap.path(options))
        if resource is None or code != POST:
            return NOT_FOUND, (), b""
        try:
            return (yield from resource(options, octets))
        except MalformedMessage:
            return BAD_REQUEST, (), b""
        except CpnsError:
            return FORBIDDEN, (), b""

    def _message(self, options, octets):
        code, fields = messages.decode(octets)
        part = self.parts.get(code)
        if part is None:
            raise NotAllowed("not for a PNE")
        steps = part(fields)
        try:
            fields = yield from steps
        except MalformedMessage:
            raise
        except CpnsError as error:
            self._tell("refused", {"message": code, "error": error.code, "reason": error.reason})
            return CHANGED, CPNS[1:], messages.failure(code, error)
        if messages.RETURN not in fields:
            fields[messages.RESULT] = n.RESULT_SUCCESS
        return CHANGED, CPNS[1:], messages.encode(code + 1, fields)
