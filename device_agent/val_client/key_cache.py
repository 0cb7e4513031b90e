"""The cache that a board keeps in its flash of one RSK: pairing functions and a comb. A message then costs a third.

The comb is that of [b]P + Z, with which a decapsulation is verified. There is one file for each key period: `magic ‖
fingerprint (16) ‖ comb ‖ functions`. Each record ends with 8 octets of SHA-256(place in the file ‖ record), so that
reading finds damage. The file is made under another name, and renamed when it is whole and the RSK was checked with it:
after a power cut there is the old one, the new one, or none. `mikey_sakke` computes the numbers. A tool on the host
writes the same file much faster.

A file system does not clear what it deletes. So the coefficients of the functions, which come from the RSK, are
encrypted under a key made of the RSK: with the RSK gone from the key store, they are of no use. The comb is public.
"""

import hashlib
import os

from mikey_sakke.curve import INFINITY
from mikey_sakke.integers import bits, from_octets, to_octets
from mikey_sakke.pairing import COEFFICIENTS_MAX, FUNCTIONS, evaluate, functions
from mikey_sakke.sakke import CURVE, BadKey, G

# not `cpns.crypto`, with which the whole agent would come into the heap
try:
    from cryptolib import aes as _aes

    def _encryptor(key):
        return _aes(key, 2, bytes(16)).encrypt  # AES-CBC

    def _decryptor(key):
        return _aes(key, 2, bytes(16)).decrypt

except ImportError:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    def _encryptor(key):
        return _in_place(Cipher(algorithms.AES(key), modes.CBC(bytes(16))).encryptor())

    def _decryptor(key):
        return _in_place(Cipher(algorithms.AES(key), modes.CBC(bytes(16))).decryptor())

    def _in_place(context):
        def update(octets, to):
            to[:] = context.update(octets)

        return update


TEETH = 8
COLUMNS = (bits(int(CURVE.q)) + TEETH - 1) // TEETH
_MAGIC = b"KCV2"
_HEAD = 20
_SIZE = 128
_CHECK = 8
_POINT = 2 * _SIZE + _CHECK
_FUNCTIONS_AT = _HEAD + ((1 << TEETH) - 1) * _POINT
_BATCH = 4


class Damaged(ValueError):
    """The file is not whole, or not of this key: it must be made anew."""


def fingerprint(identifier, z_octets, rsk):
    """Return 16 octets that identify the key of a file, and reveal nothing of it."""
    return hashlib.sha256(b"keycast/key-cache/1" + identifier + z_octets + rsk).digest()[:16]


def _key(rsk):
    return hashlib.sha256(b"keycast/key-cache/2" + rsk).digest()[:16]


def erase(path):
    """Overwrite and remove a file, as far as the medium allows, without an error if there is none."""
    for name in (path, path + "~"):
        try:
            length = os.stat(name)[6]
        except OSError:
            continue
        zeros = bytes(512)
        with open(name, "r+b") as file:
            for _ in range(0, length, 512):
                file.write(zeros)
        os.remove(name)


def build_steps(path, identifier, z_octets, rsk):
    """Make the file of `rsk` (257 octets) for `identifier`, in steps that yield the percentage done.

    Raises BadKey if the RSK is not that of identifier and Z (RFC 6508 section 6.1.2), OSError if the medium fails. Then
    nothing has changed but the file that is not whole, `path~`.
    """
    buffer = _buffer()  # before the heap is in pieces
    name = fingerprint(identifier, z_octets, rsk)
    public = yield from _public(identifier, z_octets)
    with open(path + "~", "w+b") as file:
        file.write(_MAGIC + name)
        for entry in _comb(file, public):
            yield 40 * entry >> TEETH
        place, count, encrypt = _FUNCTIONS_AT, 0, _encryptor(_key(rsk))
        try:
            for function in functions(CURVE, CURVE.decode(rsk)):
                if function is not None:
                    a, b = function
                    buffer[0] = len(a) << 4 | len(b)
                    end = 1
                    for part in function:
                        for c in part:
                            buffer[end : end + _SIZE] = to_octets(c, _SIZE)
                            end += _SIZE
                    encrypt(buffer[1:end], buffer[1:end])  # no piece of the heap is as long as the result
                    buffer[end : end + _CHECK] = _check(place, buffer[:end])
                    end += _CHECK
                    file.write(buffer[:end])
                    place += end
                    count += 1
                yield 40 + 50 * count // FUNCTIONS
        except (ValueError, ZeroDivisionError):
            raise BadKey("RSK: no point of order q") from None
        file.flush()
        steps = evaluate(CURVE, _functions(file, rsk, buffer), public)
        w = yield from _share(steps, 90)
        if w != G:
            raise BadKey("RSK does not belong to this identifier and Z")
    os.rename(path + "~", path)
    if hasattr(os, "sync"):
        os.sync()


def _share(steps, percent):
    # Return the value of `steps`, and yield `percent` at each of its yields
    try:
        while True:
            next(steps)
            yield percent
    except StopIteration as end:
        return end.value


def _public(identifier, z_octets):
    # Return [b]P + Z, affine
    total = yield from _share(CURVE.multiply(from_octets(identifier) % CURVE.q, CURVE.base), 0)
    return CURVE.affine(CURVE.add_affine(total, CURVE.decode(z_octets)))


def _comb(file, point):
    # Write the records in order, as each needs earlier ones: entry 2**i + j is the sum of the i-th power and entry j
    power = point
    for tooth in range(TEETH):
        first = 1 << tooth
        for start in range(0, first, _BATCH):
            sums = []
            for j in range(start, min(start + _BATCH, first)):
                entry = (power[0], power[1], INFINITY[0])
                sums.append(CURVE.add_affine(entry, _entry(file, j)) if j else entry)
                yield first
            file.seek(_HEAD + (first + start - 1) * _POINT)
            for x, y in CURVE.all_affine(sums):
                record = to_octets(x, _SIZE) + to_octets(y, _SIZE)
                file.write(record + _check(file.tell(), record))
            yield first
        if tooth < TEETH - 1:
            doubled = (power[0], power[1], INFINITY[0])
            for i in range(COLUMNS):
                doubled = CURVE.double(doubled)
                if not i & 3:
                    yield first
            power = CURVE.affine(doubled)


def _check(place, record):
    digest = hashlib.sha256(place.to_bytes(4, "big"))
    digest.update(record)
    return digest.digest()[:_CHECK]


def _entry(file, index):
    place = _HEAD + (index - 1) * _POINT
    file.seek(place)
    octets = file.read(_POINT)
    record = octets[: 2 * _SIZE]
    if octets[2 * _SIZE :] != _check(place, record):
        raise Damaged("the comb is damaged")
    return from_octets(record[:_SIZE]), from_octets(record[_SIZE:])


def _buffer():
    return memoryview(bytearray(1 + COEFFICIENTS_MAX * _SIZE + _CHECK))


def _functions(file, rsk, buffer):
    decrypt = _decryptor(_key(rsk))
    place = _FUNCTIONS_AT
    for _ in range(FUNCTIONS):
        file.seek(place)
        got = file.readinto(buffer)
        count = buffer[0] >> 4
        total = count + (buffer[0] & 15)
        end = 1 + total * _SIZE
        if total > COEFFICIENTS_MAX or got < end + _CHECK or buffer[end : end + _CHECK] != _check(place, buffer[:end]):
            raise Damaged("a pairing function is damaged")
        place += end + _CHECK
        decrypt(buffer[1:end], buffer[1:end])
        found = [from_octets(bytes(buffer[at : at + _SIZE])) for at in range(1, end, _SIZE)]
        yield found[:count], found[count:]


class KeyCache:
    """The file at `path`, open for one message, in place of `sakke.Community` and the functions of `DecryptionKey`.

    Raises OSError if there is none, Damaged if it is not of this key; reading raises Damaged too. It must be closed.
    """

    teeth = TEETH
    columns = COLUMNS

    def __init__(self, path, identifier, z_octets, rsk):
        self._file = open(path, "rb")  # noqa: SIM115 - closed by `close`
        self._rsk = rsk
        if self._file.read(_HEAD) != _MAGIC + fingerprint(identifier, z_octets, rsk):
            self._file.close()
            raise Damaged("the file is of another key")

    def close(self):
        """Close the file."""
        self._file.close()

    @property
    def table(self):
        """The comb's table, of which each entry is read from the file."""
        return self

    def __getitem__(self, index):
        return _entry(self._file, index)

    def __iter__(self):
        return _functions(self._file, self._rsk, _buffer())

    def point_steps(self, r, identifier):
        """Return, in steps, [r]([b]P + Z), affine, for the identifier of the file."""
        total = yield from CURVE.sum_of_multiples([(self, r)])
        return CURVE.affine(total)
