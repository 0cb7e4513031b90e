"""P-256 for boards: ECDH and ECDSA verification in steps, on big integers.

Every long operation is a generator that yields at least every 5 ms of ESP32 time (240 MHz) and returns its
value, so that an agent can serve its links in between: `value = yield from ecdh(...)`, or `run(ecdh(...))`.
"""


def run(steps):
    """Drain the generator `steps` in one go and return its value."""
    raise NotImplementedError


def private_key(random):
    """-> private key, 32 octets in 1..N-1, from at least 40 uniform octets (FIPS 186-5, A.2.1)."""
    raise NotImplementedError


def public_key(private):
    """Steps -> the public point of a 32-octet private key: 64 octets x ‖ y."""
    raise NotImplementedError


def table(x, y=None):
    """Steps -> multiples of the point that make `ecdh` fast; keep it while the point is in use (1.8 KB).

    `x` and `y` are 32 octets each; without `y` one of the two points with that x is taken, which ECDH by
    x coordinate cannot tell apart. Raises MalformedMessage for what is no point of the curve.
    """
    raise NotImplementedError


def ecdh(private, point):
    """Steps -> shared secret, 32 octets: the x coordinate of `private` times the point of `table`."""
    raise NotImplementedError


class VerifyingKey:
    """An ECDSA public key, 64 octets x ‖ y. Keeps its table from the first verification on."""

    def __init__(self, octets):
        raise NotImplementedError

    def verify(self, digest, signature):
        """Steps -> None. `digest` is SHA-256 of the message, `signature` r ‖ s, 64 octets. Raises NotAuthentic."""
        raise NotImplementedError
