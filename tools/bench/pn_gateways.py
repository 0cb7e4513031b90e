"""Thousands of simulated PN GWs in one process: each has an address, a session and a socket of its own.

They accept all requests of their CPNS Server and answer at once, as a PN GW does, with the portable CoAP and OSCORE.
They do nothing with the keys. Some may be told to be silent: they read their datagrams and do not answer.
"""

import resource
import selectors
import socket
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection

from cpns import messages, numbers
from device_agent import oscore
from device_agent.coap.message import ACK, CON, NON, Message, decode

_CHANGED = 0x44
_CONTENT_FORMAT, _OSCORE = 12, 9
_CPNS = [(_CONTENT_FORMAT, bytes([numbers.CONTENT_CBOR]))]
_MESSAGE_MAX = 131072
_DATAGRAM_MAX = 4096
_FILES_ELSE = 64
_REPEATS_KNOWN = 20_000


@dataclass(frozen=True, repr=False)
class GatewayKeys:
    """One PN GW: its address, and its session's secrets as it has them."""

    host: str
    secret: bytes
    salt: bytes
    sender_id: bytes
    recipient_id: bytes


@dataclass(frozen=True)
class Expect:
    """A request to the process, to report the moment when `count` PN GWs hold `version` or newer of a Service Group.

    The first `silent` of them answer nothing from now on.
    """

    sg_id: str
    version: int
    count: int
    silent: int = 0


def host(number: int) -> str:
    """Return the address of PN GW `number`."""
    return f"127.2.{number // 250}.{1 + number % 250}"


def fits(count: int) -> bool:
    """Return True if this machine lets one process have the sockets of `count` PN GWs."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most == resource.RLIM_INFINITY or most >= count + _FILES_ELSE


class _PnGateways:
    def __init__(self, keys: list[GatewayKeys], port: int) -> None:
        self.sockets = []
        self._contexts = [
            oscore.Context(each.secret, each.salt, each.sender_id, each.recipient_id, 0, lambda _: None, fresh=True)
            for each in keys
        ]
        self._sent: dict[tuple[int, int], bytes] = {}
        self._versions: dict[str, dict[int, int]] = {}
        self._expected: Expect | None = None
        self._reached_at = 0.0
        for each in keys:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            sock.bind((each.host, port))
            self.sockets.append(sock)

    def expect(self, wanted: Expect) -> None:
        self._expected = wanted

    def reached_at(self) -> float | None:
        """Return the moment at which the `Expect` was fulfilled, once, or None."""
        wanted = self._expected
        if wanted is None:
            return None
        held = self._versions.get(wanted.sg_id, {})
        if sum(version >= wanted.version for version in held.values()) < wanted.count:
            return None
        self._expected = None
        return self._reached_at

    def read(self, number: int) -> None:
        sock = self.sockets[number]
        try:
            data, peer = sock.recvfrom(_DATAGRAM_MAX)
        except BlockingIOError:
            return
        if self._expected is not None and number < self._expected.silent:
            return
        message = decode(data)
        if message.type not in (CON, NON) or not message.code:
            return
        known = self._sent.get((number, message.mid))
        if known is None:
            known = self._answer(number, message).encode()
            if len(self._sent) >= _REPEATS_KNOWN:
                self._sent.clear()
            self._sent[number, message.mid] = known
        sock.sendto(known, peer)

    def _answer(self, number: int, message: Message) -> Message:
        kind = ACK if message.type == CON else NON
        if not any(option == _OSCORE for option, _ in message.options):  # a POST of the peer, as long as ours
            return Message(kind, _CHANGED, message.mid, message.token, _CPNS, message.payload)
        context = self._contexts[number]
        _, _, payload, request = context.unprotect_request(message.options, message.payload)
        code, fields = messages.decode(payload, _MESSAGE_MAX)
        answer = {messages.RESULT: numbers.RESULT_SUCCESS, messages.SG_ID: fields[messages.SG_ID]}
        if code == numbers.GROUP_KEY_DELIVERY_REQUEST:
            answer[messages.VERSION] = fields[messages.VERSION]
            self._versions.setdefault(fields[messages.SG_ID], {})[number] = fields[messages.VERSION]
            self._reached_at = time.monotonic()
        encoded = bytes(messages.encode(code + 1, answer))
        code, options, payload = context.protect_response(request, _CHANGED, _CPNS, encoded)
        return Message(kind, code, message.mid, message.token, options, payload)


def serve(link: Connection, keys: list[GatewayKeys], port: int) -> None:
    """Run the process: answer as all these PN GWs, and for each `Expect` send the moment of its fulfilment."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(keys) + _FILES_ELSE, most))
    gateways = _PnGateways(keys, port)
    with selectors.DefaultSelector() as selector:
        selector.register(link, selectors.EVENT_READ, None)
        for number, sock in enumerate(gateways.sockets):
            selector.register(sock, selectors.EVENT_READ, number)
        link.send("there")
        while True:
            for ready, _ in selector.select():
                if ready.data is not None:
                    gateways.read(ready.data)
                    continue
                said = link.recv()
                if not isinstance(said, Expect):
                    return
                gateways.expect(said)
            if (moment := gateways.reached_at()) is not None:
                link.send(moment)
