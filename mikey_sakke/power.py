"""Powers of one element of PF_p (RFC 6508 section 2.1) for many exponents: what encapsulation needs of g."""

from mikey_sakke.integers import bits, comb_digits, inverse, wide


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
