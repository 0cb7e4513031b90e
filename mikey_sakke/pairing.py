"""The Tate-Lichtenbaum pairing of RFC 6508 section 3.2, with the distortion map (x, y) -> (-x, iy).

Its Miller loop touches the first argument only through lines; they are computed once (`lines`), kept for a fixed
key, and evaluated at each second argument (`evaluate`). Values of F_p2 are pairs (a, b) for a + b*i; factors from F_p
are free, since they vanish in PF_p. That also allows signed digits of q - 1: the vertical lines of a subtraction lie
in F_p.
"""

from mikey_sakke.integers import bits, comb_digits, inverse, inverses, non_adjacent_form, wide

_YIELD_EVERY = 2


def lines(curve, point):
    """Yields the lines (doubling, a, b, d) of the loop over affine `point` of order q, in order.

    At Q = (x, y) a line has the value (a*x + b) + (d*y)*i.
    """
    p = curve.p
    px, py = point
    x, y, z = px, py, wide(1)
    digits = non_adjacent_form(curve.q - 1)
    for place in range(len(digits) - 2, -1, -1):
        zz = z * z % p
        yy = y * y % p
        alpha = 3 * (x - zz) * (x + zz) % p
        z3 = 2 * y * z % p
        yield True, alpha * zz % p, (alpha * x - 2 * yy) % p, z3 * zz % p
        beta = x * yy % p
        x = (alpha * alpha - 8 * beta) % p
        y = (alpha * (4 * beta - x) - 8 * yy * yy) % p
        z = z3
        if digits[place]:
            qy = py if digits[place] > 0 else -py
            zz = z * z % p
            h = (px * zz - x) % p
            r = (qy * z * zz - y) % p
            z = z * h % p
            yield False, r, (r * px - qy * z) % p, z
            hh = h * h % p
            hhh = h * hh % p
            v = x * hh % p
            x = (r * r - hhh - 2 * v) % p
            y = (r * (v - x) - y * hhh) % p


def normalised(curve, some_lines):
    """The same lines with d = 1, a list of (doubling, a, b): a third less to keep, one product less to evaluate."""
    p = curve.p
    every = list(some_lines)
    return [
        (doubling, a * inv % p, b * inv % p)
        for (doubling, a, b, _), inv in zip(every, inverses([line[3] for line in every], p))
    ]


def evaluate(curve, some_lines, point):
    """<R, Q> for the lines of R, normalised or not, and Q = `point`, as one element of F_p (RFC 6508 section 3.2).

    A generator; returns None where the pairing value has no representative (Q of small order).
    """
    p = curve.p
    x, y = point
    u, v = wide(1), wide(0)
    for count, line in enumerate(some_lines):
        if line[0]:
            u, v = (u + v) * (u - v) % p, 2 * u * v % p
        c = line[1] * x + line[2]
        d = y if len(line) == 3 else line[3] * y
        c %= p
        u, v = (u * c - v * d) % p, (u * d + v * c) % p
        if count % _YIELD_EVERY == 0:
            yield
    for _ in range(2):  # the final exponent, the cofactor 4
        u, v = (u + v) * (u - v) % p, 2 * u * v % p
    if not u:
        return None
    return v * inverse(u, p) % p


class FixedPower:
    """Powers of one element of PF_p for many exponents below 2**(teeth * columns): a comb, as `curve.FixedBase`."""

    def __init__(self, curve, g, teeth=8):
        self.p = curve.p
        self.columns = (bits(int(curve.q)) + teeth - 1) // teeth
        self.teeth = teeth
        powers = [(wide(1), wide(g))]
        for _ in range(teeth - 1):
            power = powers[-1]
            for _ in range(self.columns):
                power = self._square(power)
            powers.append(power)
        self.table = [(wide(1), wide(0))]
        for power in powers:
            self.table += [self._times(power, each) for each in self.table]

    def _square(self, a):
        u, v = a
        return (u + v) * (u - v) % self.p, 2 * u * v % self.p

    def _times(self, a, b):
        return (a[0] * b[0] - a[1] * b[1]) % self.p, (a[0] * b[1] + a[1] * b[0]) % self.p

    def power(self, k):
        """g^k as one element of F_p, k > 0."""
        total = self.table[0]
        for digit in comb_digits(k, self.teeth, self.columns):
            total = self._square(total)
            total = self._times(total, self.table[digit])
        return total[1] * inverse(total[0], self.p) % self.p
