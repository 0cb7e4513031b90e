"""Thousands of simulated PN GWs in one process: what they answer, apart from any network.

They accept all requests of their CPNS Server and answer at once, as a PN GW does, with the portable CoAP and OSCORE,
and begin handshakes with the EDHOC of the product. They do nothing with the keys. Some may be told to be silent: they
read their datagrams and do not answer.
"""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass

from cpns import messages, numbers, uplink_form
from device_agent import oscore
from device_agent.coap.message import ACK, CON, NON, Message, decode, option
from message_plane.credentials import Credential
from message_plane.edhoc import C_I_LEN, LABEL_MASTER_SALT, LABEL_MASTER_SECRET, Initiator
from message_plane.identity import OwnIdentity
from tools.bench.fleet import GatewayKeys

BARE = b"\xff"
"""The first octet of what an MQTT peer sends, which is none of CoAP; it is sent back as it is."""

_POST, _CHANGED = 0x02, 0x44
_URI_PATH, _CONTENT_FORMAT, _OSCORE = 11, 12, 9
_EDHOC = [
    (_URI_PATH, b".well-known"),
    (_URI_PATH, b"edhoc"),
    (_CONTENT_FORMAT, bytes([numbers.CONTENT_CID_EDHOC])),
]
_FORMATS = {uplink_form.CBOR: numbers.CONTENT_CBOR, uplink_form.XML: numbers.CONTENT_XML}
_REPEATS_KNOWN = 20_000
_CPNS = [(_URI_PATH, b"cpns")]
_MESSAGE_1, _MESSAGE_3, _ALIVE = b"\x01", b"\x03", b"\x05"  # tokens


@dataclass(frozen=True)
class Expect:
    """A request to the process, to report as `Reached` when `count` PN GWs hold `version` or newer of a Service Group.

    The first `silent` of them answer nothing from now on.
    """

    sg_id: str
    version: int
    count: int
    silent: int = 0


@dataclass(frozen=True)
class Reached:
    """The moment (monotonic seconds) at which an `Expect` was fulfilled, and the octets of the datagram that did it."""

    at: float
    octets: int


class PnGateways:
    """The PN GWs of one process, each known by its number, from 0 on."""

    def __init__(self, keys: Sequence[GatewayKeys]) -> None:
        self._keys = keys
        self._contexts = [
            oscore.Context(each.secret, each.salt, each.sender_id, each.recipient_id, 0, lambda _: None, fresh=True)
            for each in keys
        ]
        self._sent: dict[tuple[int, int], bytes] = {}
        self._versions: dict[str, dict[int, int]] = {}
        self._expected: Expect | None = None
        self._missing = 0
        self._silent = 0
        self._payload = b""
        self._taken = ("", 0, b"")
        self._reached = Reached(0.0, 0)
        self._initiators: list[Initiator] = []
        self._alive: dict[int, object] = {}  # by number, the request whose answer is awaited
        self._mid = 2  # the last message ID of requests
        self._shaking = 0
        self.shaken_at = 0.0  # the end of the last handshake

    def expect(self, wanted: Expect) -> None:
        held = self._versions.get(wanted.sg_id, {})
        self._expected = wanted
        self._missing = wanted.count - sum(version >= wanted.version for version in held.values())
        self._silent = wanted.silent

    def reached(self) -> Reached | None:
        """Return when the `Expect` was fulfilled, once, or None."""
        if self._expected is None or self._missing > 0:
            return None
        self._expected = None
        return self._reached

    def shake_hands(self, server: Credential) -> list[bytes]:
        """Return the datagrams, one for each PN GW, with which they begin a handshake with the Server."""
        own = [OwnIdentity.from_octets(each.identity, each.gateway_id) for each in self._keys]
        self._initiators = [Initiator(each, server, secrets.token_bytes(C_I_LEN)) for each in own]
        self._shaking = len(own)
        return [
            Message(NON, _POST, 1, _MESSAGE_1, _EDHOC, b"\xf5" + each.message_1).encode() for each in self._initiators
        ]

    @property
    def have_shaken(self) -> bool:
        """True once all handshakes are done, and the Server uses the sessions: it has answered a sign of life."""
        return self._shaking == 0

    def take(self, number: int, datagram: bytes) -> bytes | None:
        """Return what PN GW `number` sends when it gets a datagram, None for nothing."""
        if number < self._silent:
            return None
        if datagram[:1] == BARE:
            return datagram
        message = decode(datagram)
        if message.type == NON and message.code == _CHANGED:
            return self._handshake(number, message)
        if message.type not in (CON, NON) or message.code != _POST:
            return None
        known = self._sent.get((number, message.mid))
        if known is None:
            known = self._answer(number, message, len(datagram)).encode()
            if len(self._sent) >= _REPEATS_KNOWN:
                self._sent.clear()
            self._sent[number, message.mid] = known
        return known

    def _handshake(self, number: int, message: Message) -> bytes | None:
        """Go on with the handshake of a PN GW, or with nothing if the message is the answer to a sign of life."""
        if message.token == _ALIVE:
            code, _, _ = self._contexts[number].unprotect_response(
                self._alive[number], message.options, message.payload
            )
            if code != _CHANGED:  # the Server has no room now
                return self._sign_of_life(number)
            self._shaking -= 1
            return None
        initiator = self._initiators[number]
        if message.token == _MESSAGE_1:
            return bytes(Message(NON, _POST, 2, _MESSAGE_3, _EDHOC, initiator.message_3(message.payload)).encode())
        made = initiator.finish(message.payload)
        secret, salt = made.export(LABEL_MASTER_SECRET, 16), made.export(LABEL_MASTER_SALT, 8)
        context = oscore.Context(secret, salt, made.sender_id, made.recipient_id, 0, lambda _: None, fresh=True)
        self._contexts[number] = context
        self.shaken_at = time.monotonic()
        return self._sign_of_life(number)

    def _sign_of_life(self, number: int) -> bytes:
        """Return an empty message: the Server uses a new session once a request on it has verified."""
        code, options, payload, self._alive[number] = self._contexts[number].protect_request(_POST, _CPNS, b"")
        self._mid = self._mid % 0xFFFF + 1
        return bytes(Message(NON, code, self._mid, _ALIVE, options, payload).encode())

    def _answer(self, number: int, message: Message, octets: int) -> Message:
        kind = ACK if message.type == CON else NON
        if option(message.options, _OSCORE) is None:  # a POST of the peer, as long as ours
            options = [(_CONTENT_FORMAT, bytes([numbers.CONTENT_CBOR]))]
            return Message(kind, _CHANGED, message.mid, message.token, options, message.payload)
        context = self._contexts[number]
        _, _, payload, request = context.unprotect_request(message.options, message.payload)
        form = uplink_form.form_of(payload)
        if payload != self._payload:  # what all of them get is taken apart once, as each has a processor of its own
            self._payload, self._taken = payload, _taken(payload, form)
        sg_id, version, encoded = self._taken
        if version:
            self._note(number, sg_id, version, octets)
        options = [(_CONTENT_FORMAT, bytes([_FORMATS[form]]))]
        code, options, payload = context.protect_response(request, _CHANGED, options, encoded)
        return Message(kind, code, message.mid, message.token, options, payload)

    def _note(self, number: int, sg_id: str, version: int, octets: int) -> None:
        held = self._versions.setdefault(sg_id, {})
        before, held[number] = held.get(number, 0), version
        wanted = self._expected
        if wanted is not None and sg_id == wanted.sg_id and before < wanted.version <= version:
            self._missing -= 1
        self._reached = Reached(time.monotonic(), octets)


def _taken(payload: bytes, form: str) -> tuple[str, int, bytes]:
    """Return the SG ID, the version of the key (0 for none), and the answer, of a message in a form."""
    code, fields = uplink_form.decode(payload)
    answer = {messages.RESULT: numbers.RESULT_SUCCESS, messages.SG_ID: fields[messages.SG_ID]}
    if code == numbers.GROUP_KEY_DELIVERY_REQUEST:
        answer[messages.VERSION] = fields[messages.VERSION]
    return fields[messages.SG_ID], answer.get(messages.VERSION, 0), uplink_form.encode(code + 1, answer, form)
