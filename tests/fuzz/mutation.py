"""Small changes to good inputs, for machines without a coverage-guided fuzzer."""

import random

_EDGES = (b"\x00", b"\xff", b"\x7f", b"\x80", b"\x1b", b"\x9f", b"\xbf", b"\xa0", b"<", b"&", b'"')


def mutated(seed: bytes, dice: random.Random) -> bytes:
    """`seed` with one to four changes: octets replaced, inserted, removed, repeated, bits flipped, or cut short."""
    data = bytearray(seed)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(data) + 1)
        kind = dice.randrange(6)
        if kind == 0:
            data[at:at] = dice.choice(_EDGES) * dice.choice((1, 1, 1, 9))
        elif kind == 1:
            data[at : at + dice.randint(1, 8)] = b""
        elif kind == 2:
            data[at : at + 1] = bytes([dice.randrange(256)])
        elif kind == 3 and at < len(data):
            data[at] ^= 1 << dice.randrange(8)
        elif kind == 4:
            data[at:at] = data[at : at + dice.randint(1, 16)]
        else:
            del data[at:]
    return bytes(data)


def spliced(head: bytes, tail: bytes, dice: random.Random) -> bytes:
    """The beginning of `head` and the end of `tail`."""
    return head[: dice.randint(0, len(head))] + tail[dice.randint(0, len(tail)) :]
