"""EDHOC (RFC 9528), the initiator: method 3, cipher suite 2, credentials are CCS, message_4 required.

One object is one handshake, and a failure ends it for good. Messages are those of RFC 9528; the caller puts `f5`
before message_1 and `prefix_3` before message_3 (docs/protocol.md section 3).
"""

from hashlib import sha256

from cpns.cborlite import decode_prefix, encode
from cpns.crypto import ccm, hkdf
from cpns.crypto.compare import equal
from cpns.errors import MalformedMessage, NotAllowed, NotAuthentic, Unknown
from device_agent.cose import Credential, encrypt0_aad
from device_agent.crypto import p256

SUITES = b"\x02"  # SUITES_I, encoded
MESSAGE_MAX = 256  # octets; our longest, with a credential by value, has 180
_NEW, _WAIT_2, _WAIT_4, _DONE, _FAILED = 0, 1, 2, 3, 4


class Initiator:
    """One handshake. `own` is our cose.Credential, `private` its key (32 octets), `ephemeral` a fresh private key.

    `c_i` has 1..2 octets. `peer` is the pinned Credential of the responder; None while pairing, when the responder must
    send it by value. With `by_value` our own credential is sent by value.
    """

    def __init__(self, own, private, ephemeral, c_i, peer=None, by_value=False):
        self.peer = peer
        self.c_r = self.prefix_3 = None
        self._own = own
        self._private = private
        self._x = ephemeral
        self._c_i = c_i
        self._by_value = by_value
        self._state = _NEW

    def message_1(self):
        """Return message_1, in steps (5.2.1)."""
        self._enter(_NEW)
        g_x = (yield from p256.public_key(self._x))[:32]
        message = b"\x03" + SUITES + encode(g_x) + _identifier(self._c_i)
        self._h_1 = sha256(message).digest()
        self._state = _WAIT_2
        return message

    def message_3(self, message_2):
        """Check message_2 and return message_3, in steps (5.3.3, 5.4.2).

        Raises NotAuthentic, MalformedMessage, Unknown for a responder that is not `peer`, NotAllowed if it sent an
        EDHOC error or demands an extension that is not known here.
        """
        self._enter(_WAIT_2)
        octets = _octets(message_2)
        g_y = octets[:32]
        g_rx = None
        if self.peer is not None:  # computed first, as a small heap has room for the sums of one point only
            g_rx = yield from p256.ecdh(self._x, (yield from p256.table(self.peer.x)))
        th = sha256(encode(g_y) + encode(self._h_1)).digest()
        point = yield from p256.table(g_y)
        prk = hkdf.extract(th, (yield from p256.ecdh(self._x, point)))  # PRK_2e
        size = len(octets) - 32
        key = int.from_bytes(_kdf(prk, 0, th, size), "big")
        plain = (int.from_bytes(octets[32:], "big") ^ key).to_bytes(size, "big")

        # only a credential by value may be nested: before the peer is known, no octet may cost much heap
        c_r, offset = decode_prefix(plain, 0, 0)
        peer, id_cred, offset = self._find(plain, offset)
        mac, offset = decode_prefix(plain, offset, 0)
        self.c_r = _identified(c_r)
        _refuse_critical(plain, offset)
        if not 0 < len(self.c_r) < 8 or self.c_r == self._c_i or peer.x == self._own.x or not isinstance(mac, bytes):
            raise MalformedMessage("EDHOC: message_2")

        if g_rx is None:
            g_rx = yield from p256.ecdh(self._x, (yield from p256.table(peer.x)))
        prk = hkdf.extract(_kdf(prk, 1, th, 32), g_rx)  # PRK_3e2m
        context = _identifier(self.c_r) + id_cred + encode(th) + peer.ccs + plain[offset:]
        if not equal(mac, _kdf(prk, 2, context, 8)):
            raise NotAuthentic("EDHOC: message_2")
        self.peer = peer

        th = sha256(encode(th) + plain + peer.ccs).digest()
        g_iy = yield from p256.ecdh(self._private, point)
        point = None  # frees a kilobyte
        self._prk = hkdf.extract(_kdf(prk, 5, th, 32), g_iy)  # PRK_4e3m
        own = self._own
        if self._by_value:
            id_cred = short = b"\xa1\x0e" + own.ccs
        else:
            id_cred, short = encode({4: own.kid}), _identifier(own.kid)
        plain = short + encode(_kdf(self._prk, 6, id_cred + encode(th) + own.ccs, 8))
        message = ccm.seal(_kdf(prk, 3, th, 16), _kdf(prk, 4, th, 13), encrypt0_aad(b"", th), plain)
        self._th_4 = sha256(encode(th) + plain + own.ccs).digest()
        self._x = self._private = None
        self.prefix_3 = _identifier(self.c_r)
        self._state = _WAIT_4
        return encode(message)

    def finish(self, message_4):
        """Check message_4 (5.5.3). Then `peer`, `c_r`, `export` and `oscore` are valid. Raises as message_3 does."""
        self._enter(_WAIT_4)
        th = self._th_4
        aad = encrypt0_aad(b"", th)
        plain = ccm.open_(_kdf(self._prk, 8, th, 16), _kdf(self._prk, 9, th, 13), aad, _octets(message_4))
        _refuse_critical(plain, 0)
        self._prk = _kdf(_kdf(self._prk, 7, th, 32), 10, b"", 32)  # PRK_exporter
        self._state = _DONE

    def export(self, label, context, length):
        """Return EDHOC_Exporter(label, context, length) as octets (4.2.1). Raises RuntimeError before `finish`."""
        if self._state != _DONE:
            raise RuntimeError("EDHOC: not finished")
        return _kdf(self._prk, label, context, length)

    def oscore(self):
        """Return (master secret, master salt, sender ID, recipient ID) for oscore.Context (RFC 9528, A.1)."""
        return self.export(0, b"", 16), self.export(1, b"", 8), self.c_r, self._c_i

    def _enter(self, state):
        if self._state != state:  # one try for each handshake (SEC-21)
            raise RuntimeError("EDHOC: out of order, or the handshake has failed")
        self._state = _FAILED  # until the message is done

    def _find(self, plain, offset):
        # Return (the responder's Credential, its ID_CRED_R, the offset behind it). If one is pinned, only that one is
        # accepted (SEC-16). While one board pairs, the PN GW sends its credential by value to all boards.
        peer = self.peer
        if peer is None:
            item, end = decode_prefix(plain, offset, 4)
            if isinstance(item, dict) and list(item) == [14]:
                return Credential.parse(encode(item[14])), plain[offset:end], end
        else:
            by_value = b"\xa1\x0e" + peer.ccs
            end = offset + len(by_value)
            if plain[offset:end] == by_value:
                return peer, by_value, end
            if plain[offset : offset + 1] != b"\xa1":
                item, end = decode_prefix(plain, offset, 0)
                if peer.kid == _identified(item):
                    return peer, encode({4: peer.kid}), end
        raise Unknown("EDHOC: not the expected responder")


def _kdf(prk, label, context, length):
    # EDHOC_KDF (4.1.2)
    return hkdf.expand(prk, encode(label) + encode(context) + encode(length), length)


def _identifier(octets):
    # 3.3.2: octets that are the encoding of an integer -24..23 are sent as that integer
    if len(octets) == 1 and octets[0] & 0xDF < 0x18:
        return octets
    return encode(octets)


def _identified(item):
    if isinstance(item, int) and -25 < item < 24:
        return encode(item)
    if not isinstance(item, bytes):
        raise MalformedMessage("EDHOC: identifier")
    return item


def _octets(message):
    # Return the content of the byte string that each message is. Raises NotAllowed for the peer's error message (6).
    item, end = decode_prefix(message, 0, 0)
    if isinstance(item, int):
        raise NotAllowed("EDHOC error %d from the responder" % item)
    if not isinstance(item, bytes) or end != len(message) or end > MESSAGE_MAX:
        raise MalformedMessage("EDHOC: message")
    return item


def _refuse_critical(plain, offset):
    # 3.8: External Authorization Data is a label and perhaps a byte string; a negative label must be understood
    while offset < len(plain):
        label, offset = decode_prefix(plain, offset, 0)
        if not isinstance(label, int):
            raise MalformedMessage("EDHOC: EAD")
        if label < 0:
            raise NotAllowed("EDHOC: critical EAD")
        if offset < len(plain) and plain[offset] >> 5 == 2:
            _, offset = decode_prefix(plain, offset, 0)
