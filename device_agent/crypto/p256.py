"""P-256 (FIPS 186-5, SP 800-186) for boards: ECDH and ECDSA verification in steps, on big integers.

Every long operation runs in steps (`device_agent`), which yield about every 3 ms of ESP32 time (240 MHz) so that the
agent serves its links in between: `value = yield from ecdh(...)`, or without pause `run(ecdh(...))`.

Scalars are cut into 5 teeth of 52 signed bits (a signed comb): one scalar costs 52 doublings and 52 additions
once the 16 sums of a point's teeth are known. Those cost 208 doublings, so a point that is used twice is
cheaper than with any window method, and the sequence of operations does not depend on the scalar. The big
integers themselves are not constant time: a person who can time or probe a board closely has its key (accepted risk).
"""

import gc
import sys

from cpns.errors import MalformedMessage, NotAuthentic
from device_agent.crypto.p256_base_point import SUMS

P = 2**256 - 2**224 + 2**192 + 2**96 - 1
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
_COLUMNS = 52
_TEETH = 5
_under_way = [False]  # True while a computation holds the collector off


def run(steps):
    """Run `steps` to their end without a pause and return their value."""
    try:
        while True:
            next(steps)
    except StopIteration as stop:
        return stop.value


def private_key(random):
    """Return a new private key, 32 octets in 1..N-1. `random(n)` returns n uniform octets (FIPS 186-5, A.2.1)."""
    return (int.from_bytes(random(40), "big") % (N - 1) + 1).to_bytes(32, "big")


def public_key(private):
    """Return, in steps, the public point of a 32-octet private key: 64 octets x ‖ y."""
    return (yield from _multiply(((SUMS, private),)))


def table(x, y=None):
    """Return, in steps, the sums of the point's teeth for `ecdh`: a list of 16 times 64 octets.

    `x` and `y` have 32 octets each. Without `y` it is the table of one of the two points with that x; for ECDH, which
    uses only the x coordinate, they are the same. Raises MalformedMessage if there is no such point on the curve.
    """
    if len(x) != 32:
        raise MalformedMessage("a coordinate has 32 octets")
    x = int.from_bytes(x, "big")
    square = (x * x * x - 3 * x + _B) % P
    if y is not None:
        y = int.from_bytes(y, "big")
    else:
        y = 1
        for i in range(253, -1, -1):  # square ** ((P + 1) / 4): the root, if there is one
            y = y * y % P
            if (P + 1) >> i + 2 & 1:
                y = y * square % P
            if not i & 31:
                yield
    if not (x < P and y < P and y * y % P == square):
        raise MalformedMessage("no point of P-256")
    return (yield from _table(x, y))


def ecdh(private, point):
    """Return, in steps, the shared secret, 32 octets: the x coordinate of `private` times the point of a `table`."""
    return (yield from _multiply(((point, private),)))[:32]


def unhurried(steps):
    """Run `steps` in steps and return their value; meanwhile a board collects garbage only when the heap is full.

    Collecting as usual would cost as much time as the arithmetic itself. But objects that other tasks make meanwhile,
    and keep, are scattered over the heap: use it for EDHOC and signatures, which take a second or two, not for long
    work. Computations wait for each other, as a small heap has no room for two.
    """
    if sys.implementation.name != "micropython":
        return (yield from steps)
    while _under_way[0]:
        yield
    _under_way[0] = True
    threshold = gc.threshold()
    gc.threshold(-1)
    try:
        return (yield from steps)
    finally:
        gc.threshold(threshold)
        _under_way[0] = False


class VerifyingKey:
    """An ECDSA public key, 64 octets x ‖ y, which keeps its table from the first verification on."""

    def __init__(self, octets):
        if len(octets) != 64:
            raise MalformedMessage("a public key has 64 octets")
        self.octets = bytes(octets)
        self._table = None

    def prepare(self):
        """Make the table, in steps, ahead of the first verification, which then takes half of the time.

        Raises MalformedMessage if the key is no point of the curve.
        """
        if self._table is None:
            self._table = yield from table(self.octets[:32], self.octets[32:])

    def verify(self, digest, signature):
        """Verify a signature in steps. `digest` is SHA-256 of the message, `signature` r ‖ s, 64 octets.

        Raises NotAuthentic, or MalformedMessage if the key is no point of the curve (FIPS 186-5, 6.4.2).
        """
        r = int.from_bytes(signature[:32], "big")
        s = int.from_bytes(signature[32:], "big")
        if len(signature) != 64 or not (0 < r < N and 0 < s < N):
            raise NotAuthentic("signature out of range")
        yield from self.prepare()
        w = _invert(s, N)
        u1 = (int.from_bytes(digest, "big") * w % N).to_bytes(32, "big")
        u2 = (r * w % N).to_bytes(32, "big")
        point = yield from _multiply(((SUMS, u1), (self._table, u2)))
        if int.from_bytes(point[:32], "big") % N != r:
            raise NotAuthentic("signature does not fit")


def _table(x, y):
    # Entry j sums all teeth 2**(52 t) * point: the top one plus, tooth t plus if bit t of j is set, otherwise minus.
    point = (x, y, 1)
    teeth = [_packed(point)]
    for i in range(1, _COLUMNS * (_TEETH - 1) + 1):
        point = _double(point)
        if not i % _COLUMNS:
            teeth.append(_packed(point))
        if not i & 3:
            yield
    teeth = yield from _affine(teeth)
    x, y = _entry(teeth, _TEETH - 1)
    sums = [_packed((x, y, 1))]
    for t in range(_TEETH - 1):
        x, y = _entry(teeth, t)
        for j in range(1 << t):
            point = _unpacked(sums[j])
            sums[j] = _packed(_add(point, x, P - y))
            sums.append(_packed(_add(point, x, y)))
            yield
    return (yield from _affine(sums))


def _packed(point):
    # x ‖ y ‖ z takes a third of the memory of three integers on MicroPython
    x, y, z = point
    octets = bytearray(96)
    octets[:32] = x.to_bytes(32, "big")
    octets[32:64] = y.to_bytes(32, "big")
    octets[64:] = z.to_bytes(32, "big")
    return octets


def _unpacked(octets):
    return [int.from_bytes(octets[i : i + 32], "big") for i in (0, 32, 64)]


def _entry(sums, j):
    # `sums` is a list if made here, as a kilobyte in one piece is hard to find; those of the base point lie in flash
    octets = sums[j] if isinstance(sums, list) else sums[64 * j : 64 * j + 64]
    return int.from_bytes(octets[:32], "big"), int.from_bytes(octets[32:], "big")


def _multiply(terms):
    # Return, in steps, x ‖ y of the sum of scalar times point over `terms`, which are pairs (table, 32 octets).
    scalars = []
    for _, octets in terms:
        k = int.from_bytes(octets, "big")
        if not k & 1:
            k += N  # an odd k below 2**260 is a sum of 260 signed bits: those of (k + 2**260 - 1) / 2, where 0 means -1
        scalars.append((k + (1 << _COLUMNS * _TEETH)) >> 1)
    point = (0, 1, 0)
    for column in range(_COLUMNS - 1, -1, -1):
        point = _double(point)
        for i in range(len(scalars)):
            bits = scalars[i] >> column
            j = 0
            for t in range(_TEETH):
                j |= (bits >> t * _COLUMNS & 1) << t
            if j & 16:
                x, y = _entry(terms[i][0], j & 15)
            else:
                x, y = _entry(terms[i][0], ~j & 15)
                y = P - y
            point = _add(point, x, y)
        yield
    if not point[2]:
        raise NotAuthentic("point at infinity")
    return (yield from _affine([_packed(point)]))[0]


def _double(point):
    x, y, z = point
    zz = z * z % P
    yy = y * y % P
    s = x * yy * 4 % P
    m = 3 * (x - zz) * (x + zz) % P  # a = -3
    x = (m * m - 2 * s) % P
    return x, (m * (s - x) - 8 * yy * yy) % P, 2 * y * z % P


def _add(point, x2, y2):
    # Jacobian plus affine, for all points; z = 0 is the point at infinity.
    x, y, z = point
    if not z:
        return x2, y2, 1
    zz = z * z % P
    h = (x2 * zz - x) % P
    r = (y2 * (z * zz % P) - y) % P
    if not h:
        return (0, 1, 0) if r else _double(point)
    hh = h * h % P
    v = x * hh % P
    hhh = h * hh % P
    x = (r * r - hhh - 2 * v) % P
    return x, (r * (v - x) - y * hhh) % P, z * h % P


def _affine(points):
    # Return, in steps, the list `points`, each now 64 octets x ‖ y, with one inversion for all (Montgomery's trick).
    products = [1]
    for octets in points:
        products.append(products[-1] * int.from_bytes(octets[64:], "big") % P | 0)  # | 0: a copy in half the memory
    inverse = _invert(products.pop(), P)
    for i in range(len(points) - 1, -1, -1):
        x, y, z = _unpacked(points[i])
        w = products.pop() * inverse % P
        inverse = inverse * z % P
        ww = w * w % P
        points[i] = (x * ww % P).to_bytes(32, "big") + (y * (w * ww % P) % P).to_bytes(32, "big")
        yield
    return points


def _invert(a, modulus):
    # Extended Euclid: on MicroPython 6 times as fast as pow(a, modulus - 2, modulus); it has no pow(a, -1, modulus).
    u, v, r, s = 1, 0, a, modulus
    while s:
        q = r // s
        r, s = s, r - q * s
        u, v = v, u - q * v
    return u % modulus
