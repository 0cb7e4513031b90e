"""OSCORE (RFC 8613) with AES-CCM-16-64-128 and HKDF-SHA-256: POST and its answers, no Observe, no ID context.

Messages are (code, options, payload), as in `coap.message`. Failures raise NotAuthentic, Stale or MalformedMessage;
docs/protocol.md section 3 says how the caller then answers.
"""

from cpns.cborlite import encode
from cpns.crypto import ccm, hkdf
from cpns.crypto.compare import equal
from cpns.errors import MalformedMessage, NotAuthentic, Stale, TooMany
from device_agent.coap.message import decode_body, encode_body, option
from device_agent.cose import encrypt0_aad

OSCORE, ECHO = 9, 252
NUMBERS_STEP = 64  # messages for each write to the store (SEC-22)
NUMBERS_MAX = 1 << 21  # the keys are used no further; sessions are renewed at half of it
_CLASS_U = (3, 7, 35, 39)  # Uri-Host, Uri-Port, Proxy-Uri, Proxy-Scheme: the only ones outside of the encryption


class WindowLost(Stale):
    """An authentic request came before the replay window is known (after a reboot): answer it with challenge()."""

    def __init__(self, request):
        Stale.__init__(self, "replay window not known")
        self.request = request


class Context:
    """One security context, for both directions.

    Sequence numbers below `ceiling` may have been used. `reserve(n)` must make n the stored ceiling, in all copies,
    before it returns (SEC-22); it is called before the first number of each step of 64 is used, and if it raises,
    nothing is sent. `fresh` is True if the keys are new, so that no request can have been seen. Otherwise `echo`,
    8 random octets drawn at boot, protects against a replay of the first request (B.1.2).
    """

    def __init__(self, secret, salt, sender_id, recipient_id, ceiling, reserve, fresh=False, echo=b""):
        self.sender_id = sender_id
        self.recipient_id = recipient_id
        prk = hkdf.extract(salt, secret)  # section 3.2.1
        self._sender_key = hkdf.expand(prk, encode([sender_id, None, 10, "Key", 16]), 16)
        self._recipient_key = hkdf.expand(prk, encode([recipient_id, None, 10, "Key", 16]), 16)
        self._iv = int.from_bytes(hkdf.expand(prk, encode([b"", None, 10, "IV", 13]), 13), "big")
        self._next = self._ceiling = ceiling
        self._reserve = reserve
        self._echo = echo
        self._top = -1 if fresh else None  # highest number received; None: not known
        self._seen = 0  # bit i: number _top - i was received

    def protect_request(self, code, options, payload):
        """Return (code, options, payload, request); `unprotect_response` needs the `request`. Raises TooMany."""
        request = [self.sender_id, self._number(), False]
        options, payload = self._seal(request, code, options, payload, self.sender_id, request[1], 8)
        return 0x02, options, payload, request

    def unprotect_response(self, request, options, payload):
        """Return (code, options, payload). After a 4.01 with Echo the caller repeats the request with that option."""
        number, _ = _parse(option(options, OSCORE))
        nonce = (self.sender_id, request[1]) if number is None else (self.recipient_id, number)
        return self._open(request, self._nonce(*nonce), options, payload)

    def unprotect_request(self, options, payload):
        """Return (code, options, payload, request). Raises WindowLost, Stale for a replay, NotAuthentic."""
        number, kid = _parse(option(options, OSCORE))
        if number is None or kid != self.recipient_id:
            raise NotAuthentic("OSCORE: not for this context")
        top = self._top
        if top is not None and number <= top and (number + 32 <= top or self._seen >> top - number & 1):
            raise Stale("OSCORE: replayed")
        request = [kid, number, True]
        message = self._open(request, self._nonce(kid, number), options, payload)
        if top is None:
            if not self._echo or not equal(option(message[1], ECHO) or b"", self._echo):
                request[2] = False  # perhaps a replay, whose number was used as a nonce
                raise WindowLost(request)
            self._top, self._seen = number, 0xFFFFFFFF
        elif number > top:
            self._top, self._seen = number, (self._seen << min(number - top, 32) | 1) & 0xFFFFFFFF
        else:
            self._seen |= 1 << top - number
        code, options, payload = message
        return code, options, payload, request

    def protect_response(self, request, code, options, payload):
        """Return (code, options, payload). Raises TooMany, but never for the first answer to a request."""
        kid, number, unused = request
        if unused:
            request[2] = False  # the request's nonce may be used for one answer only
            options, payload = self._seal(request, code, options, payload, kid, number, None)
        else:
            options, payload = self._seal(request, code, options, payload, self.sender_id, self._number(), 0)
        return 0x44, options, payload

    def challenge(self, request):
        """Return (code, options, payload) of the protected 4.01 with Echo that answers a WindowLost."""
        return self.protect_response(request, 0x81, [(ECHO, self._echo)], b"")

    def _number(self):
        number = self._next
        if number >= self._ceiling:
            if number >= NUMBERS_MAX:
                raise TooMany("OSCORE: sequence numbers used up")
            self._reserve(number + NUMBERS_STEP)
            self._ceiling = number + NUMBERS_STEP
        self._next = number + 1
        return number

    def _seal(self, request, code, options, payload, piv_id, number, flags):
        # `flags` of the OSCORE option: 8 for kid and number, 0 for the number, None for neither (the request's counts)
        plain = bytes((code,)) + encode_body([pair for pair in options if pair[0] not in _CLASS_U], payload)
        header = b""
        if flags is not None:
            header = _piv(number)
            header = bytes((flags | len(header),)) + header + (self.sender_id if flags else b"")
        outer = [pair for pair in options if pair[0] in _CLASS_U]
        outer.append((OSCORE, header))
        return outer, ccm.seal(self._sender_key, self._nonce(piv_id, number), _aad(request), plain)

    def _open(self, request, nonce, options, payload):
        plain = ccm.open_(self._recipient_key, nonce, _aad(request), payload)
        if not plain:
            raise MalformedMessage("OSCORE: empty plaintext")
        inner, payload = decode_body(plain, 1)
        return plain[0], inner + [pair for pair in options if pair[0] in _CLASS_U], payload

    def _nonce(self, piv_id, number):
        # section 5.2: length and ID of the end that chose the number, the number, all XORed with the common IV
        bits = len(piv_id) << 96 | int.from_bytes(piv_id, "big") << 40 | number
        return (bits ^ self._iv).to_bytes(13, "big")


def kid_of(options):
    """Return the kid of a request's OSCORE option, which names the context, or None. Raises MalformedMessage."""
    value = option(options, OSCORE)
    return None if value is None else _parse(value)[1]


def _parse(value):
    # Return (Partial IV as a number or None, kid or None) of an OSCORE option (section 6.1); a kid context is skipped.
    if value is None:
        raise NotAuthentic("OSCORE: message is not protected")
    if not value:
        return None, None
    flags = value[0]
    end = 1 + (flags & 7)
    kid_at = end
    if flags & 16 and end < len(value):
        kid_at += 1 + value[end]
    if flags & 0xE0 or flags & 7 > 5 or kid_at > len(value) or (flags & 16 and end == len(value)):
        raise MalformedMessage("OSCORE: option")
    kid = value[kid_at:] if flags & 8 else None
    return (int.from_bytes(value[1:end], "big") if end > 1 else None), kid


def _piv(number):
    size = 1
    while number >> 8 * size:
        size += 1
    return number.to_bytes(size, "big")


def _aad(request):
    # section 5.4: version 1, AES-CCM-16-64-128, the asking end, the request's number, no Class I options
    return encrypt0_aad(b"", encode([1, [10], request[0], _piv(request[1]), b""]))
