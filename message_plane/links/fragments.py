"""The fragments of a datagram on a link whose packets are shorter, as GATT values are (docs/protocol.md, "GATT").

    fragment = 00 (more follow) or 01 (the last one) ‖ 1 or more octets of the datagram

The fragments of a datagram arrive in order, each whole or not at all, and those of two datagrams never mix.
"""

from __future__ import annotations

MORE, LAST = 0, 1


def cut(datagram: bytes, value_max: int) -> list[bytes]:
    """Return the fragments of `datagram` (1 octet or more), none of which is longer than `value_max` (2 or more)."""
    room = value_max - 1
    pieces = [datagram[at : at + room] for at in range(0, len(datagram), room)]
    return [bytes([LAST if piece is pieces[-1] else MORE]) + piece for piece in pieces]


class Joiner:
    """The datagrams of one sender, joined from their fragments. It holds at most one datagram.

    `dropped` counts the fragments that were dropped. A fragment with an unknown first octet, without content or of the
    wrong length drops its datagram: everything up to the next fragment that is marked as the last one.
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
        if not 2 <= len(fragment) <= room or fragment[0] not in (MORE, LAST):
            self._skipping = True
        else:
            self._pieces += fragment[1:]
        if self._skipping:
            self.dropped += 1
            self._pieces.clear()
            self._skipping = fragment[:1] != bytes([LAST])
            return None
        if fragment[0] == MORE:
            return None
        datagram = bytes(self._pieces)
        self._pieces.clear()
        return datagram
