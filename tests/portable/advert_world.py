"""A PN GW that shows signed broadcasts as adverts, and a board that hears some of them, on both Pythons."""

from cpns import advert, advert_build, cborlite, erasure_code
from cpns.broadcast_object import FRAME_HEAD, SIGNATURE_HEAD
from cpns.crypto import keywrap

KEY = bytes(range(16))
PN = 0xA1B2C3D4


def signed_object(entries=bytes(18), names=(7, 1, 7, 0), signature=bytes(range(64))):
    """Return octets of the shape of a broadcast object, with a signature of no meaning.

    `names` are SG alias, generation, version and activation. One entry and these names make 6 rows.
    """
    items = (3, PN) + names + (2, bytes(16), entries)
    return FRAME_HEAD + cborlite.encode(cborlite.encode(items)) + SIGNATURE_HEAD + signature


def of_version(version):
    """Return an object of 6 rows."""
    return signed_object(names=(7, 1, version, 0))


def decoded(source, indexes):
    """Return what the decoder makes of these rows of an object, of which it needs no more than k."""
    rows = bytearray()
    for i in indexes[: len(source)]:
        rows += source[i] if i < len(source) else erasure_code.repair(source, i)
    return run(erasure_code.decode(rows, bytes(indexes[: len(source)])))


def run(steps):
    """Return the value of a generator."""
    try:
        while True:
            next(steps)
    except StopIteration as stop:
        return stop.value


def adverts(signed, indexes, key=KEY):
    """Return the adverts with these indexes of a signed object."""
    rows = advert_build.rows_of(advert_build.to_air(signed, PN))
    return [advert_build.row_advert(key, advert.identification(signed), rows, index) for index in indexes]


def forged(signed, index, row=bytes(19)):
    """Return the advert of a member that shows another row of an object."""
    k = len(advert_build.rows_of(advert_build.to_air(signed, PN)))
    return keywrap.encipher(KEY, bytes((0, k - 1)) + advert.identification(signed) + bytes((index,)) + row)


def take(receiver, octets, now=0, key=KEY):
    """Give one advert to the receiver; return the assembly that is whole with it, or None."""
    heard = advert.opened(key, octets)
    return receiver.take(heard[1], now) if heard and heard[0] == advert.ROW else None


def hear(receiver, octets, now=0, key=KEY):
    """Give adverts to the receiver; return the first object that is whole, or None."""
    for each in octets:
        whole = take(receiver, each, now, key)
        if whole:
            found = run(receiver.finish(whole, PN))
            if found:
                return found
    return None
