"""The fragments of a datagram on a link whose packets are shorter, as GATT values are (docs/protocol.md, "GATT").

    fragment = 00 (more follow) or 01 (the last one) ‖ octets of the datagram; 01 alone says nothing

The fragments of a datagram arrive in order, each whole or not at all, and those of two datagrams never mix.
"""

from __future__ import annotations

MORE, LAST = 0, 1
NOTHING = bytes([LAST])
"""The last fragment of an empty datagram, which is no datagram."""


def cut(datagram: bytes, value_max: int) -> list[bytes]:
    """Return the fragments of `datagram` (1 octet or more), none of which is longer than `value_max` (2 or more)."""
    room = value_max - 1
    pieces = [datagram[at : at + room] for at in range(0, len(datagram), room)]
    return [bytes([LAST if piece is pieces[-1] else MORE]) + piece for piece in pieces]


class Joiner:
    """The datagrams of one sender, joined from their fragments. It holds at most one datagram.

    `dropped` counts the fragments that were dropped. A fragment with an unknown first octet or of the wrong length, or
    one that is not the last and has no content, drops its datagram: everything up to the next last fragment.
    """

    def __init__(self, datagram_max: int, value_max: int) -> None:
        """`datagram_max`, `value_max`: largest numbers of octets in a datagram and in one of its fragments."""
        self.dropped = 0
        self._datagram_max = datagram_max
        self._value_max = value_max
        self._pieces = bytearray()
        self._skipping = False

    def take(self, fragment: bytes) -> bytes | None:
        """Take the next fragment. Return the datagram if it is complete now, else None."""
        room = min(self._value_max, 1 + self._datagram_max - len(self._pieces))
        if not 1 <= len(fragment) <= room or fragment[0] not in (MORE, LAST) or fragment == bytes([MORE]):
            self._skipping = True
        else:
            self._pieces += fragment[1:]
        if self._skipping:
            self.dropped += 1
            self._pieces.clear()
            self._skipping = fragment[:1] != NOTHING
            return None
        if fragment[0] == MORE:
            return None
        datagram = bytes(self._pieces)
        self._pieces.clear()
        return datagram or None
