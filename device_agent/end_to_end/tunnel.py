"""The tunnel to the CPNS Server: CoAP messages that the PN GW carries, each with its answer (docs/protocol.md, 11).

The PN GW can change, drop and repeat what it carries. An answer is only what came back with the token that was asked
with; the rest is for the session in the tunnel to decide.
"""

from cpns import messages
from cpns import numbers as n
from cpns.errors import CpnsError, MalformedMessage
from device_agent.coap import message as coap
from device_agent.session import NoSession


class TunnelDriver:
    """The driver of flows to the Server. `ask(code, fields)` is that of a Membership; `random(n)` returns n octets.

    `refused` counts answers that were none.
    """

    def __init__(self, ask, random):
        self._ask = ask
        self._random = random
        self._mid = int.from_bytes(random(2), "big")
        self.refused = 0

    def run(self, flow):
        """Run a flow of a Session and return its value. Each of its exchanges is one TunnelRequest. This is a flow.

        Raises what `flow` raises, and NoSession if the PN GW does not carry: `flow` then ends as if never asked.
        """
        value = None
        try:
            while True:
                wanted = flow.send(value)
                if isinstance(wanted, tuple):
                    value = yield from self._exchange(*wanted[1:4])
                else:
                    value = yield wanted
        except StopIteration as end:
            return end.value
        finally:
            flow.close()

    def _exchange(self, code, options, payload):
        token = self._random(4)
        self._mid = self._mid + 1 & 0xFFFF
        datagram = coap.Message(coap.NON, code, self._mid, token, options, payload).encode()
        try:
            fields = yield from self._ask(n.TUNNEL_REQUEST, {messages.DATAGRAM: datagram})
        except CpnsError as error:
            raise NoSession("the gateway does not carry to the Server: " + error.reason) from None
        if messages.DATAGRAM not in fields:
            return None
        try:
            message = coap.decode(fields[messages.DATAGRAM])
            if message.token == token and message.code >> 5 in (2, 4, 5):
                return message
        except MalformedMessage:
            pass
        self.refused += 1
        return None
