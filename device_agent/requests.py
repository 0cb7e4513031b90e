"""What the PN GW may ask this PNE: a table from path to resource, and at `cpns` one from message code to part.

A resource is a function of the options and the body of a verified request; it returns a flow (`session.py`) whose value
is (CoAP code, options, body) of the answer. What its bodies look like, how long they may be and whether they travel in
blocks (`coap/blocks.py`) is its own affair.

A part is a function of the fields of a message; it returns a flow whose value is the fields of the answer, without its
Result. A CpnsError that this flow raises is answered with Result `2`; one that the function raises itself, with 4.03.
"""

from cpns import messages
from cpns import numbers as n
from cpns.errors import CpnsError, MalformedMessage, NotAllowed
from device_agent.coap import message as coap
from device_agent.session import BAD_REQUEST, CHANGED, FORBIDDEN, NOT_FOUND, POST

# The options with which the PN GW is asked for the same resource
CPNS = ((coap.URI_PATH, b"cpns"), (coap.CONTENT_FORMAT, bytes((n.CONTENT_CBOR,))))


class Requests:
    """`resources` by path and `parts` by message code. A module that serves a further one puts its function in.

    `tell(name, values)` is told "refused" of a message that was answered with Result `2`.
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
        """Flow -> (CoAP code, options, body) of the answer to a verified request. Raises OSError."""
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
        fields[messages.RESULT] = n.RESULT_SUCCESS
        return CHANGED, CPNS[1:], messages.encode(code + 1, fields)
