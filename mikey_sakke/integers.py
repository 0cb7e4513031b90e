"""Integers of cryptographic size: gmpy2 where it is installed, plain int elsewhere, the same results.

`wide(n)` gives the fast kind; arithmetic between wide and plain integers stays wide. MicroPython's
`pow(x, -1, p)` silently returns 0, so an inverse always comes from here.
"""

from array import array

try:
    from gmpy2 import invert as _invert
    from gmpy2 import mpz as wide
except ImportError:
    wide = int
    _invert = None


def inverse(x, modulus):
    """Return the y in 1..modulus-1 with x * y = 1 modulo the odd prime `modulus`.

    Raises ZeroDivisionError if there is none.
    """
    x %= modulus
    if not x:
        raise ZeroDivisionError("no inverse of 0")
    if _invert is not None:
        return _invert(x, modulus)
    # extended Euclid: on MicroPython some ten times faster than x ** (modulus - 2)
    a, b, u, v = x, modulus, 1, 0
    while a != 1:
        quotient, rest = divmod(b, a)
        if not rest:
            raise ZeroDivisionError("not invertible")
        a, b, u, v = rest, a, v - quotient * u, u
    return u % modulus


def inverses(values, modulus):
    """`inverse` of each value, at the price of one inverse and three products each (Montgomery's trick)."""
    products = []
    running = wide(1)
    for value in values:
        products.append(running)
        running = running * value % modulus
    running = inverse(running, modulus)
    found = [None] * len(products)
    for i in range(len(products) - 1, -1, -1):
        found[i] = running * products[i] % modulus
        running = running * values[i] % modulus
    return found


def to_octets(n, length):
    """`n` (0 <= n < 256**length) as exactly `length` octets, big-endian: I2OSP; OverflowError if it does not fit."""
    return int(n).to_bytes(length, "big")


def from_octets(octets):
    """Return the non-negative integer in `octets`, big-endian: O2I."""
    return wide(int.from_bytes(octets, "big"))


def bits(n):
    """Number of bits of n >= 0 (MicroPython's int has no bit_length)."""
    return len(bin(n)) - 2 if n else 0


def non_adjacent_form(n, width=2):
    """Signed digits of n > 0, least significant first: each 0 or odd, below 2**(width-1) in size (wNAF); an array."""
    n = int(n)
    full, half = 1 << width, 1 << (width - 1)
    digits = array("b", bytes(bits(n) + 1))
    place = 0
    while n:
        if n & 1:
            digit = n & (full - 1)
            if digit >= half:
                digit -= full
            n -= digit
            digits[place] = digit
        n >>= 1
        place += 1
    return digits[:place]


def comb_digits(k, teeth, columns):
    """Yields the indexes of k < 2**(teeth * columns) into a comb's table, most significant column first."""
    text = bin(int(k))[2:]
    text = "0" * (teeth * columns - len(text)) + text
    for column in range(columns):
        digit = 0
        for place in range(column, len(text), columns):
            digit = digit << 1 | (text[place] == "1")
        yield digit
