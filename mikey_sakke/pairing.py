"""The Tate-Lichtenbaum pairing of RFC 6508 section 3.2, with the distortion map (x, y) -> (-x, iy).

Its Miller loop touches the first argument only through functions on the curve. Here the lines of every two digits of
the loop are multiplied once into one function, A(x) + y*B(x), kept for a fixed key (`functions`), and evaluated at each
second argument (`evaluate`): that halves the reductions against line by line. Values of F_p2 are pairs (u, v) for
u + v*i; factors from F_p are free, since they vanish in PF_p. That removes the vertical lines, and allows signed digits
of q - 1 and the division of each function by its leading coefficient of B.
"""

from mikey_sakke.integers import inverse, inverses, non_adjacent_form, wide

FUNCTIONS = 511  # of one point: the pairs of digits of q - 1 in parameter set 1
COEFFICIENTS_MAX = 6  # of one function: A has up to four, B up to two
_TOGETHER = 2  # functions that share their two inversions


def functions(curve, point):
    """Yields the loop's functions for the affine `point` of order q, in order: (A, B), coefficients from x^0 upward.

    B's leading coefficient is 1 and left out. In between it yields None, where others may run. ZeroDivisionError for a
    point of another order.
    """
    p = curve.p
    digits = non_adjacent_form(curve.q - 1)
    left = len(digits) - 1
    jacobian = (point[0], point[1], wide(1))
    here = point
    while left:
        # every step of the loop in Jacobian coordinates: (an addition, numerator of the slope, point behind it)
        steps, ends = [], []
        while left and len(ends) < _TOGETHER:
            for _ in range(2 - (left & 1)):
                left -= 1
                for step in _steps(p, jacobian, point, digits[left]):
                    steps.append(step)
                    jacobian = step[2]
            ends.append(len(steps))
            yield None
        found, before = [], 0
        inverted = inverses([step[2][2] for step in steps], p)
        for end in ends:
            function = None
            for i in range(before, end):
                added, slope, (x, y, _) = steps[i]
                inv = inverted[i]
                slope = slope * inv % p
                line = ([(slope * here[0] - here[1]) % p, -slope % p], [wide(1)])
                if function is None:
                    function = line
                else:
                    # the vertical line through `here` divides the product with a line through `here`, each time
                    grown = _without(p, _times(p, function, line), here[0])
                    function = grown if added else _without(p, _times(p, function, grown), here[0])
                square = inv * inv % p
                here = (x * square % p, y * square * inv % p)
            before = end
            found.append(function)
            yield None
        for (a, b), inv in zip(found, inverses([b[-1] for _, b in found], p)):
            yield [c * inv % p for c in a], [c * inv % p for c in b[:-1]]
        jacobian = (here[0], here[1], wide(1))


def _steps(p, a, point, digit):
    # The doubling of a Jacobian point, and the addition of `digit` times `point`
    x, y, z = a
    zz = z * z % p
    yy = y * y % p
    alpha = 3 * (x - zz) * (x + zz) % p
    beta = x * yy % p
    x = (alpha * alpha - 8 * beta) % p
    z = 2 * y * z % p
    y = (alpha * (4 * beta - x) - 8 * yy * yy) % p
    yield False, alpha, (x, y, z)
    if digit:
        px, py = point
        zz = z * z % p
        h = (px * zz - x) % p
        r = (digit * py * zz * z - y) % p
        z = z * h % p
        hh = h * h % p
        hhh = h * hh % p
        x, v = (r * r - hhh - 2 * x * hh) % p, x * hh
        yield True, r, (x, (r * (v - x) - y * hhh) % p, z)


def _product(p, a, b):
    found = [0] * (len(a) + len(b) - 1)
    for i, c in enumerate(a):
        for j, d in enumerate(b):
            found[i + j] += c * d
    return [c % p for c in found]


def _times(p, f, g):
    # (A + yB)(C + yD) = AC + (x^3 - 3x)BD + y(AD + BC)
    a = _product(p, f[0], g[0])
    bd = _product(p, f[1], g[1])
    a += [0] * (len(bd) + 3 - len(a))
    for i, c in enumerate(bd):
        a[i + 1] -= 3 * c
        a[i + 3] += c
    b, other = _product(p, f[0], g[1]), _product(p, f[1], g[0])
    if len(b) < len(other):
        b, other = other, b
    for i, c in enumerate(other):
        b[i] += c
    return [c % p for c in a], [c % p for c in b]


def _without(p, f, x):
    # f / (X - x), which divides it
    found = []
    for part in f:
        quotient, carry = [], 0
        for c in reversed(part[1:]):
            carry = (carry * x + c) % p
            quotient.append(carry)
        quotient.reverse()
        found.append(quotient)
    return found


def evaluate(curve, some_functions, point):
    """<R, Q> for the functions of R and Q = `point`, as one element of F_p (RFC 6508 section 3.2).

    A generator; returns None where the pairing value has no representative (Q of small order). What is None among the
    functions is passed over.
    """
    p = curve.p
    x, y = point
    if not y:
        return None
    # at the distorted point a function is A(-x) + y*B(-x)*i; divided by y
    t = -x
    e0 = inverse(y, p)
    e1 = e0 * t % p
    e2 = e1 * t % p
    e3 = e2 * t % p
    square = t * t % p
    u, v = wide(1), wide(0)
    for function in some_functions:
        if function is not None:
            a, b = function
            u, v = (u + v) * (u - v) % p, 2 * u * v % p
            u, v = (u + v) * (u - v) % p, 2 * u * v % p
            c = a[0] * e0 + a[1] * e1
            if len(a) > 2:
                c += a[2] * e2
                if len(a) > 3:
                    c += a[3] * e3
            c %= p
            if not b:
                d = 1
            elif len(b) == 1:
                d = b[0] + t
            else:
                d = (b[0] + b[1] * t + square) % p
            real, imaginary = u * c, v * d
            u, v = (real - imaginary) % p, ((u + v) * (c + d) - real - imaginary) % p
        yield
    for _ in range(2):  # the final exponent, the cofactor 4
        u, v = (u + v) * (u - v) % p, 2 * u * v % p
    if not u:
        return None
    return v * inverse(u, p) % p
