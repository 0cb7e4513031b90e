"""The MIKEY message (RFC 3830, RFC 6043, RFC 6509): header and payloads, as values, to and from octets.

`parse` accepts the payloads in any order with SIGN last, as products of several vendors send them; `encode` writes
them in the order given. Payload values are plain tuples: what they mean is decided elsewhere.
"""

from collections import namedtuple

from mikey_sakke.errors import Malformed

MESSAGE_MAX = 4096  # octets; a GMK message has some 700
VERSION = 1
DATA_TYPE_SAKKE = 26
PRF_HMAC_SHA_256 = 1
MAP_SRTP, MAP_EMPTY, MAP_GENERIC = 0, 1, 2

LAST, SIGN, T, SP, RAND, IDR, EXTENSION, SAKKE = 0, 4, 5, 10, 11, 14, 21, 26
NAMES = {SIGN: "SIGN", T: "T", SP: "SP", RAND: "RAND", IDR: "IDR", EXTENSION: "GENERAL_EXTENSION", SAKKE: "SAKKE"}

ROLE_INITIATOR, ROLE_RESPONDER, ROLE_INITIATOR_KMS, ROLE_RESPONDER_KMS = 1, 2, 6, 7
ROLE_INITIATOR_UID, ROLE_RESPONDER_UID = 8, 9
ROLES = {
    1: "IDRi",
    2: "IDRr",
    3: "IDRkms",
    4: "IDRpsk",
    5: "IDRapp",
    6: "IDRkmsi",
    7: "IDRkmsr",
    8: "IDRuidi",
    9: "IDRuidr",
}
ID_URI = 1

EXTENSION_SAKKE_TO_SELF, EXTENSION_KEY_PARAMETERS = 6, 7
SIGN_ECCSI = 2
PARAMETER_SET_1 = 1
SCHEME_UID = 2
TS_NTP_UTC = 0

Timestamp = namedtuple("Timestamp", ("kind", "seconds", "fraction"))  # type T; NTP seconds since 1900 for kinds 0, 1
Rand = namedtuple("Rand", ("octets",))
Identity = namedtuple("Identity", ("role", "kind", "octets"))
Policy = namedtuple("Policy", ("number", "protocol", "parameters"))  # parameters: list of (type, octets)
Encapsulated = namedtuple("Encapsulated", ("parameter_set", "scheme", "octets"))
Extension = namedtuple("Extension", ("kind", "octets"))
Signature = namedtuple("Signature", ("kind", "octets"))
Other = namedtuple("Other", ("octets",))

# crypto session ID map entries
SrtpSession = namedtuple("SrtpSession", ("policy", "ssrc", "roc"))
GenericSession = namedtuple("GenericSession", ("cs_id", "protocol", "signalled", "policies", "data", "spi"))

_KINDS = {
    Timestamp: T,
    Rand: RAND,
    Identity: IDR,
    Policy: SP,
    Encapsulated: SAKKE,
    Extension: EXTENSION,
    Signature: SIGN,
}


class Message:
    """A parsed or to be encoded message. `payloads` holds the values in order; `places` their (offset, length)."""

    def __init__(self, csb_id, map_type=MAP_EMPTY, sessions=(), payloads=(), v=0, prf=PRF_HMAC_SHA_256):
        self.csb_id = csb_id
        self.map_type = map_type
        self.sessions = list(sessions)
        self.payloads = list(payloads)
        self.places = []
        self.header_len = 0
        self.v = v
        self.prf = prf
        self.signed = b""

    def all(self, kind):
        """Return the payload values of one tuple type, in order."""
        return [payload for payload in self.payloads if isinstance(payload, kind)]

    def one(self, kind):
        """Return the only payload of a type. Raises Malformed when there is none or more than one."""
        found = self.all(kind)
        if len(found) != 1:
            raise Malformed("%d payloads of type %s in place of one" % (len(found), NAMES[_KINDS[kind]]))
        return found[0]

    def identity(self, *roles):
        """Return the only identity that has one of `roles`, or None. Raises Malformed when there are more."""
        found = [payload for payload in self.all(Identity) if payload.role in roles]
        if len(found) > 1:
            raise Malformed("identity %s is repeated" % ROLES[found[0].role])
        return found[0] if found else None


def kind_of(payload):
    """Return the payload number of a payload value, for `NAMES`."""
    return _KINDS[type(payload)]


class _Reader:
    def __init__(self, octets):
        self.octets = octets
        self.at = 0

    def take(self, count):
        end = self.at + count
        if end > len(self.octets):
            raise Malformed("truncated at octet %d" % len(self.octets))
        found = self.octets[self.at : end]
        self.at = end
        return found

    def number(self, count):
        return int.from_bytes(self.take(count), "big")

    def block(self, count):
        """Octets with their length before them, in `count` octets."""
        return self.take(self.number(count))


def parse(octets):
    """Return the Message in `octets`; `signed` is what the signature covers.

    Raises Malformed for anything that is not one.
    """
    if len(octets) > MESSAGE_MAX:
        raise Malformed("%d octets, at most %d are accepted" % (len(octets), MESSAGE_MAX))
    reader = _Reader(bytes(octets))
    version, data_type, kind, prf = reader.take(4)
    if version != VERSION or data_type != DATA_TYPE_SAKKE:
        raise Malformed("not a SAKKE message of MIKEY version 1")
    message = Message(reader.take(4), v=prf >> 7, prf=prf & 0x7F)
    count = reader.number(1)
    message.map_type = reader.number(1)
    message.sessions = [_parse_session(reader, message.map_type) for _ in range(count)]
    message.header_len = reader.at
    while kind != LAST:
        start = reader.at
        following = LAST if kind == SIGN else reader.number(1)
        payload = _parse_payload(reader, kind)
        message.payloads.append(payload)
        message.places.append((start, reader.at - start))
        if kind == SIGN:
            message.signed = reader.octets[: start + 2]
        kind = following
    if reader.at != len(reader.octets):
        raise Malformed("%d octets after the last payload" % (len(reader.octets) - reader.at))
    if not message.signed:
        raise Malformed("the last payload is not SIGN")
    return message


def _parse_session(reader, map_type):
    if map_type == MAP_SRTP:
        return SrtpSession(reader.number(1), reader.take(4), reader.take(4))
    if map_type != MAP_GENERIC:
        raise Malformed("a map of type %d has no entries" % map_type)
    cs_id, protocol, flags = reader.take(3)
    policies = list(reader.take(flags & 0x7F))
    return GenericSession(cs_id, protocol, flags >> 7, policies, reader.block(2), reader.block(1))


def _parse_payload(reader, kind):
    if kind == T:
        stamp = reader.number(1)
        if stamp > 2:
            raise Malformed("unknown kind of timestamp")
        return Timestamp(stamp, reader.number(4), 0 if stamp == 2 else reader.number(4))
    if kind == RAND:
        return Rand(reader.block(1))
    if kind == IDR:
        return Identity(reader.number(1), reader.number(1), reader.block(2))
    if kind == SP:
        number, protocol = reader.take(2)
        inner = _Reader(reader.block(2))
        parameters = []
        while inner.at < len(inner.octets):
            parameters.append((inner.number(1), inner.block(1)))
        return Policy(number, protocol, parameters)
    if kind == SAKKE:
        return Encapsulated(reader.number(1), reader.number(1), reader.block(2))
    if kind == EXTENSION:
        return Extension(reader.number(1), reader.block(2))
    if kind == SIGN:
        head = reader.number(2)
        return Signature(head >> 12, reader.take(head & 0x0FFF))
    raise Malformed("payload of unknown type %d" % kind)


def encode(message, signature_len=129):
    """Return the octets to be signed: everything up to and including the head of SIGN. Append the signature to send.

    `message.payloads` must not hold a Signature.
    """
    kinds = [_KINDS[type(payload)] for payload in message.payloads] + [SIGN]
    out = bytes([VERSION, DATA_TYPE_SAKKE, kinds[0], message.v << 7 | message.prf]) + message.csb_id
    out += bytes([len(message.sessions), message.map_type])
    for session in message.sessions:
        out += _encode_session(session, message.map_type)
    for payload, following in zip(message.payloads, kinds[1:]):
        out += bytes([following]) + _encode_payload(payload)
    return out + (SIGN_ECCSI << 12 | signature_len).to_bytes(2, "big")


def _block(octets, count):
    return len(octets).to_bytes(count, "big") + octets


def _encode_session(session, map_type):
    if map_type == MAP_SRTP:
        return bytes([session.policy]) + session.ssrc + session.roc
    head = bytes([session.cs_id, session.protocol, session.signalled << 7 | len(session.policies)])
    return head + bytes(session.policies) + _block(session.data, 2) + _block(session.spi, 1)


def _encode_payload(payload):
    if isinstance(payload, Timestamp):
        out = bytes([payload.kind]) + payload.seconds.to_bytes(4, "big")
        return out if payload.kind == 2 else out + payload.fraction.to_bytes(4, "big")
    if isinstance(payload, Rand):
        return _block(payload.octets, 1)
    if isinstance(payload, Policy):
        inner = b"".join([bytes([kind]) + _block(octets, 1) for kind, octets in payload.parameters])
        return bytes([payload.number, payload.protocol]) + _block(inner, 2)
    if isinstance(payload, Extension):
        return bytes([payload.kind]) + _block(payload.octets, 2)
    return bytes([payload[0], payload[1]]) + _block(payload.octets, 2)  # Identity, Encapsulated
