"""A CoAP endpoint over UDP as a state machine (RFC 7252 sections 4, 5.2, 5.3): datagrams and `now` in, actions out.

`now` is monotonic milliseconds as a plain integer that never wraps; the caller extends a wrapping tick counter.
Addresses are opaque hashable values. An action is one of

    ("send", address, octets)
    ("request", exchange, message, address)  a peer asks: answer it once with reply(exchange, ...)
    ("response", token, message, address)    an answer to the request() that returned `token`
    ("timeout", token)                       no answer came, or with `anyone` no further one will be reported
"""

from cpns.errors import MalformedMessage, TooMany
from device_agent.coap.message import ACK, CON, NON, RST, Message, decode, option

ACK_TIMEOUT = 1000  # ms; the least that RFC 7252 section 4.8.1 allows, for one hop of Wi-Fi
ACK_SPREAD = 500  # ms, what ACK_RANDOM_FACTOR 1.5 adds at most
MAX_RETRANSMIT = 4
MAX_TRANSMIT_WAIT = 46500  # ms, section 4.8.2 with this ACK_TIMEOUT
EXCHANGE_LIFETIME = 247000  # ms, of the peers' messages: with the ACK_TIMEOUT of 2 s that they may have
PROCESSING_DELAY = 1000  # ms, our choice: it ends before the peer's first retransmission
REQUESTS_MAX = 8  # our choice: own exchanges, waiting ones included; each holds its datagram
REMEMBERED_MAX = 4  # our choice: peers' messages remembered, with our answers; OSCORE refuses forgotten duplicates
_OSCORE, _ECHO = 9, 252
_UNDERSTOOD = (3, 7, 9, 11, 15, 17)  # critical options: Uri-Host, Uri-Port, OSCORE, Uri-Path, Uri-Query, Accept


class _Outgoing:
    """A request of ours, or a separate response, with all that is needed to send it again, and its deadline."""

    def __init__(self, address, message, deadline, asks, anyone):
        self.address = address
        self.message = message
        self.deadline = deadline
        self.asks = asks
        self.anyone = anyone
        self.data = None  # None while it waits for an earlier request to the same peer (NSTART)
        self.resend = None  # time of the next retransmission
        self.gap = self.sent = 0


class _Incoming:
    """A peer's message, with all that is needed to answer it and to recognise a duplicate."""

    def __init__(self, address, message, now):
        self.address = address
        self.type = message.type
        self.mid = message.mid
        self.token = message.token
        self.reply = None  # the datagram that answers duplicates
        self.acknowledge = now + PROCESSING_DELAY if message.type == CON else None
        self.expires = now + EXCHANGE_LIFETIME


class Endpoint:
    """The state of all exchanges. `random(n)` returns n octets, for tokens, first message ID and retransmission times.

    `refused` counts datagrams that were no CoAP message, or too long for the rest of the heap.
    """

    def __init__(self, random):
        self.refused = 0
        self._random = random
        self._mid = int.from_bytes(random(2), "big")
        self._out = []
        self._in = []

    def request(self, address, code, options, payload, now, confirmable=True, timeout=MAX_TRANSMIT_WAIT, anyone=False):
        """Ask a peer; return (token, actions). One request per peer is on its way at a time, others wait (NSTART 1).

        It ends `timeout` ms from now. With `anyone` it is sent to a broadcast address, not confirmable, and each answer
        before the timeout is reported, from any address. After a 4.01 with Echo the request is repeated once with that
        option (RFC 9175); an OSCORE request must be protected anew for that, by the caller. Raises TooMany.
        """
        if len(self._out) >= REQUESTS_MAX:
            raise TooMany("CoAP: requests")
        token = self._random(4)
        message = Message(CON if confirmable and not anyone else NON, code, 0, token, options, payload)
        self._out.append(_Outgoing(address, message, now + timeout, True, anyone))
        return token, self._start(now)

    def cancel(self, token):
        """Forget a request: no later action names `token`."""
        self._out = [out for out in self._out if not (out.asks and out.message.token == token)]

    def reply(self, exchange, code, options, payload, now):
        """Answer a request; return actions. The answer is piggy-backed, or separate if an empty ACK has been sent."""
        if exchange.type == CON and exchange.reply is None:
            exchange.acknowledge = None
            exchange.reply = Message(ACK, code, exchange.mid, exchange.token, options, payload).encode()
            return [("send", exchange.address, exchange.reply)]
        message = Message(exchange.type, code, 0, exchange.token, options, payload)
        out = _Outgoing(exchange.address, message, now + MAX_TRANSMIT_WAIT, False, False)
        if exchange.type == CON:
            self._out.append(out)
        return [self._send(out, now)]

    def drop(self, exchange):
        """Forget a request, answered or not: a duplicate of it then counts as a new request."""
        if exchange in self._in:
            self._in.remove(exchange)

    def datagram(self, address, data, now):
        """Return the actions for a received datagram. One that is malformed or too long for the heap is refused."""
        try:
            message = decode(data)
        except MemoryError:
            self.refused += 1
            return []
        except MalformedMessage:
            self.refused += 1
            if len(data) < 4 or data[0] >> 4 != 4:  # only a confirmable message of version 1 is rejected
                return []
            message = Message(CON, 0, data[2] << 8 | data[3])  # rejected like an empty one
        if message.type in (ACK, RST):
            return self._acknowledged(address, message, now)
        for known in self._in:
            if known.mid == message.mid and known.address == address:
                return self._again(known)
        kind = message.code >> 5
        if kind == 0 and message.code:
            return self._asked(address, message, now)
        if kind in (2, 4, 5):
            out = self._find(address, message)
            if out is not None:
                actions = []
                if message.type == CON:
                    known = self._remember(address, message, now)
                    if known is None:
                        return []
                    actions = self._again(known)
                return actions + self._answered(out, address, message, now)
        return [("send", address, Message(RST, 0, message.mid).encode())] if message.type == CON else []

    def tick(self, now):
        """Return the actions that are due at `now`: retransmissions, empty ACKs, timeouts."""
        actions = []
        for known in self._in:
            if known.acknowledge is not None and now >= known.acknowledge:
                actions.extend(self._again(known))
        for out in list(self._out):
            if now >= out.deadline or (out.resend is not None and now >= out.resend and out.sent > MAX_RETRANSMIT):
                self._out.remove(out)
                if out.asks:
                    actions.append(("timeout", out.message.token))
            elif out.resend is not None and now >= out.resend:
                out.sent += 1
                out.gap *= 2
                out.resend = now + out.gap
                actions.append(("send", out.address, out.data))
        return actions + self._start(now)

    def next_wake(self):
        """Return the time at which `tick` next has something to do, or None."""
        times = [known.acknowledge for known in self._in if known.acknowledge is not None]
        for out in self._out:
            times.append(out.deadline if out.resend is None else min(out.deadline, out.resend))
        return min(times) if times else None

    def _start(self, now):
        # Send the waiting requests whose peer has no earlier one on its way.
        actions = []
        busy = []
        for out in self._out:
            if out.asks:
                if out.data is None and out.address not in busy:
                    actions.append(self._send(out, now))
                busy.append(out.address)
        return actions

    def _send(self, out, now):
        self._mid = self._mid + 1 & 0xFFFF
        out.message.mid = self._mid
        out.data = out.message.encode()
        if out.message.type == CON:
            out.gap = ACK_TIMEOUT + self._random(1)[0] * ACK_SPREAD // 255
            out.resend = now + out.gap
            out.sent = 1
        return "send", out.address, out.data

    def _acknowledged(self, address, message, now):
        for out in self._out:
            if out.data is not None and out.message.mid == message.mid and out.address == address:
                break
        else:
            return []
        if message.type == ACK and out.asks:
            if message.code == 0:
                out.resend = None  # the answer comes separately
            elif message.token == out.message.token and message.code >> 5 in (2, 4, 5):
                return self._answered(out, address, message, now)
            return []
        if out.asks:  # a reset: anybody can send four octets, so a request is repeated until its timeout all the same
            return []
        self._out.remove(out)
        return self._start(now)

    def _find(self, address, message):
        for out in self._out:
            ours = out.asks and out.data is not None and out.message.token == message.token
            if ours and (out.anyone or out.address == address):
                return out
        return None

    def _answered(self, out, address, message, now):
        asked = out.message
        echo = option(message.options, _ECHO)
        if _unknown(message.options):
            return []  # rejected; the request runs into its timeout
        once = option(asked.options, _ECHO) is None and option(asked.options, _OSCORE) is None
        if message.code == 0x81 and once and echo and len(echo) <= 40:
            asked.options = list(asked.options)
            asked.options.append((_ECHO, echo))
            return [self._send(out, now)]
        if not out.anyone:
            self._out.remove(out)
        actions = self._start(now)
        actions.insert(0, ("response", asked.token, message, address))
        return actions

    def _asked(self, address, message, now):
        known = self._remember(address, message, now)
        if known is None:
            return []
        unknown = _unknown(message.options)
        if not unknown:
            return [("request", known, message, address)]
        if message.type == NON:
            return []
        return self.reply(known, 0xA5 if unknown in (35, 39) else 0x82, (), b"", now)  # Proxy-Uri, Proxy-Scheme

    def _remember(self, address, message, now):
        # Return an entry of the table of known messages, or None if it is full of requests that wait for their answer
        self._in = [known for known in self._in if now < known.expires]
        if len(self._in) >= REMEMBERED_MAX:
            for known in self._in:
                if known.acknowledge is None:
                    self._in.remove(known)
                    break
            else:
                return None
        known = _Incoming(address, message, now)
        self._in.append(known)
        return known

    def _again(self, known):
        # After a duplicate, or when the peer has waited long enough: the answer, or an empty ACK if there is none yet.
        if known.type == NON:
            return []
        known.acknowledge = None
        if known.reply is None:
            known.reply = Message(ACK, 0, known.mid).encode()
        return [("send", known.address, known.reply)]


def _unknown(options):
    # Return the number of a critical option that is not understood (5.4.1), or 0
    for number, _ in options:
        if number & 1 and number not in _UNDERSTOOD:
            return number
    return 0
