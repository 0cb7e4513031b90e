"""Curves y^2 = x^3 - 3x + b over F_p with p = 3 modulo 4: P-256 for ECCSI and the curve of SAKKE parameter set 1.

A point is (x, y), the point at infinity None. Inside, Jacobian triples (X, Y, Z) stand for (X/Z^2, Y/Z^3), Z = 0 for
infinity. Long operations are generator functions that yield now and then, so that a board can do other things; `run`
drains one.
"""

from mikey_sakke.integers import (
    bits,
    comb_digits,
    from_octets,
    inverse,
    inverses,
    non_adjacent_form,
    to_octets,
    wide,
)

INFINITY = (wide(1), wide(1), wide(0))
_WINDOW = 5


def run(steps):
    """Drain the generator `steps` and give its value."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


class NotOnCurve(ValueError):
    """Octets or coordinates that are no point of the curve."""


class Curve:
    """Field prime `p`, coefficient `b`, order `q` of the base point `base`; `size` octets a coordinate."""

    def __init__(self, p, b, q, x, y):
        self.p = wide(p)
        self.b = wide(b)
        self.q = wide(q)
        self.base = (wide(x), wide(y))
        self.size = (bits(p) + 7) // 8
        self.yield_every = 2048 // bits(p)  # doublings and additions: at most some 40 ms on an ESP32

    def holds(self, point):
        """Return True for an affine point with both coordinates in 0..p-1 that fulfils the equation."""
        x, y = point
        p = self.p
        return 0 <= x < p and 0 <= y < p and (y * y - (x * x - 3) * x - self.b) % p == 0

    def encode(self, point):
        """Return 04 and both coordinates: 1 + 2 * size octets."""
        return b"\x04" + to_octets(point[0], self.size) + to_octets(point[1], self.size)

    def decode(self, octets):
        """Return the point in 1 + 2 * size octets. Raises NotOnCurve for anything else."""
        size = self.size
        if len(octets) != 1 + 2 * size or octets[0] != 4:
            raise NotOnCurve("not an uncompressed point of %d octets" % (1 + 2 * size))
        point = (from_octets(octets[1 : 1 + size]), from_octets(octets[1 + size :]))
        if not self.holds(point):
            raise NotOnCurve("the point does not lie on the curve")
        return point

    def double(self, a):
        """Return 2a, Jacobian (dbl-2001-b, a = -3)."""
        p = self.p
        x, y, z = a
        delta = z * z % p
        gamma = y * y % p
        beta = x * gamma % p
        alpha = 3 * (x - delta) * (x + delta) % p
        x3 = (alpha * alpha - 8 * beta) % p
        return x3, (alpha * (4 * beta - x3) - 8 * gamma * gamma) % p, 2 * y * z % p

    def add_affine(self, a, b):
        """a + b for a Jacobian and b affine, all cases."""
        p = self.p
        x, y, z = a
        if not z:
            return b[0], b[1], wide(1)
        zz = z * z % p
        h = (b[0] * zz - x) % p
        r = (b[1] * z * zz - y) % p
        if not h:
            return self.double(a) if not r else INFINITY
        hh = h * h % p
        hhh = h * hh % p
        v = x * hh % p
        x3 = (r * r - hhh - 2 * v) % p
        return x3, (r * (v - x3) - y * hhh) % p, z * h % p

    def affine(self, a):
        """Return the affine point of a Jacobian one, None for infinity."""
        if not a[2]:
            return None
        p = self.p
        inv = inverse(a[2], self.p)
        square = inv * inv % p
        return a[0] * square % p, a[1] * square * inv % p

    def all_affine(self, points):
        """`affine` of many points, none of them infinity, with one inversion."""
        p = self.p
        found = []
        for (x, y, _), inv in zip(points, inverses([point[2] for point in points], self.p)):
            square = inv * inv % p
            found.append((x * square % p, y * square * inv % p))
        return found

    def multiply(self, k, point):
        """Return [k]point as a Jacobian triple, k >= 0, `point` affine of order q. A generator."""
        return self.sum_of_multiples((), [(point, k)])

    def sum_of_multiples(self, fixed, free=()):
        """Return the sum of [k]base over `fixed`, a list of (FixedBase, k), and of [k]point over `free`.

        `free` is a list of (point, k), k >= 0, with affine points of order q. All share their doublings. The sum is a
        Jacobian triple. A generator.
        """
        combs, tables = [], []
        for base, k in fixed:
            kept = bytes if base.teeth <= 8 else list
            combs.append((base.table, base.columns, kept(comb_digits(k, base.teeth, base.columns))))
        places = max([columns for _, columns, _ in combs] + [0])
        for point, k in free:
            digits = non_adjacent_form(k, _WINDOW)
            tables.append((self._odd_multiples(point), digits))
            places = max(places, len(digits))
            yield
        total = INFINITY
        for place in range(places - 1, -1, -1):
            total = self.double(total)
            for table, columns, digits in combs:
                if place < columns and digits[columns - 1 - place]:
                    total = self.add_affine(total, table[digits[columns - 1 - place]])
            for table, digits in tables:
                digit = digits[place] if place < len(digits) else 0
                if digit > 0:
                    total = self.add_affine(total, table[digit >> 1])
                elif digit:
                    x, y = table[-digit >> 1]
                    total = self.add_affine(total, (x, -y))
            if place % self.yield_every == 0:
                yield
        return total

    def _odd_multiples(self, point):
        start = (point[0], point[1], wide(1))
        twice = self.affine(self.double(start))
        odd = [start]
        for _ in range((1 << (_WINDOW - 2)) - 1):
            odd.append(self.add_affine(odd[-1], twice))
        return self.all_affine(odd)


class FixedBase:
    """Multiples of one point for many scalars: a comb of `teeth` (Lim and Lee), 2**teeth - 1 points in memory."""

    def __init__(self, curve, point, teeth=8):
        self.columns = (bits(int(curve.q)) + teeth - 1) // teeth
        powers = [(point[0], point[1], wide(1))]
        for _ in range(teeth - 1):
            power = powers[-1]
            for _ in range(self.columns):
                power = curve.double(power)
            powers.append(power)
        powers = curve.all_affine(powers)
        combined = [None]
        for power in powers:
            start = (power[0], power[1], wide(1))
            combined += [start] + [curve.add_affine(each, power) for each in combined[1:]]
        self.table = curve.all_affine(combined[1:])
        self.table.insert(0, None)
        self.teeth = teeth
