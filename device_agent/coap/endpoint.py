"""A CoAP endpoint over UDP as a state machine (RFC 7252 sections 4, 5.2, 5.3): datagrams and `now` in, actions out.

`now` is monotonic milliseconds as a plain integer that never wraps; the caller extends a wrapping tick counter.
Addresses are opaque hashable values. An action is one of

    ("send", address, octets)
    ("request", exchange, message, address)  a peer asks: answer once with reply(exchange, ...)
    ("response", token, message, address)    the answer to request() that returned `token`
    ("timeout", token), ("reset", token)     there will be no answer
"""


class Endpoint:
    """`random(n)` -> n random octets: tokens, first message ID, spread of retransmissions."""

    def __init__(self, random):
        raise NotImplementedError

    def request(self, address, code, options, payload, now, confirmable=True, timeout=93000, anyone=False):
        """Ask a peer -> (token, actions). One request per peer is on its way at a time, others wait (NSTART 1).

        `timeout` ms from now ends it. `anyone`: sent to a broadcast address; each answer before the timeout is
        reported, from whatever address. A 4.01 with Echo is answered once by repeating with it (RFC 9175).
        Raises TooMany.
        """
        raise NotImplementedError

    def cancel(self, token):
        """Forget a request; no action will name `token` any more."""
        raise NotImplementedError

    def reply(self, exchange, code, options, payload, now):
        """Answer a request -> actions: piggy-backed, or as a separate confirmable message after an empty ACK."""
        raise NotImplementedError

    def datagram(self, address, data, now):
        """A datagram came in -> actions. Never raises for what stands in it."""
        raise NotImplementedError

    def tick(self, now):
        """Time has passed -> actions: retransmissions, empty ACKs, timeouts."""
        raise NotImplementedError

    def next_wake(self):
        """-> the time at which `tick` has something to do, or None."""
        raise NotImplementedError
