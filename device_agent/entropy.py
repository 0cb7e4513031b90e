"""Random octets that do not depend on the machine's generator alone (SEC-17).

A board's `os.urandom` is truly random only while a radio is on. The seed in the store, renewed at each start before
it is used, carries the randomness of earlier starts over: octets = HMAC(seed, fresh ‖ counter).
"""

from cpns.crypto.hmac import Hmac

RECORD = "seed"


class Entropy:
    """The generator: `entropy(n)` returns n octets. `machine_random` is the machine's one, used while a radio is on.

    The stored seed is replaced before the first octet is returned, so no octet comes again after a power cut.
    """

    def __init__(self, store, machine_random):
        self._random = machine_random
        self._counter = 0
        mix = Hmac(store.load(RECORD) or machine_random(32))
        fresh = machine_random(32)
        store.save(RECORD, mix.digest(b"seed", fresh))
        self._hmac = Hmac(mix.digest(b"use", fresh))

    def __call__(self, n):
        out = b""
        while len(out) < n:
            self._counter += 1
            out += self._hmac.digest(self._random(32), self._counter.to_bytes(4, "big"))
        return out[:n]
