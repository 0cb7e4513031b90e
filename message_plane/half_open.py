"""The table of handshakes between message_2 and message_3, each bound to the address of its sender (SEC-21, SEC-35).

Handshakes whose address is proven by an Echo value count against that address. The others share one small pool, so a
forged address does not harm its true owner. Registered peers that their link vouches for have room of their own, one
handshake for each. If there is no room a new handshake displaces an old one. Therefore no
sender, with however many addresses, can keep others out for longer than a handshake may last (SEC-35).
"""

from __future__ import annotations

from dataclasses import dataclass

from message_plane import tuning
from message_plane.edhoc import Responder
from message_plane.links.link import Address


@dataclass(frozen=True, slots=True)
class _Entry:
    responder: Responder
    place: str
    counted_as: str
    ends: float


class HalfOpen:
    """The table of handshakes, by C_R. `now` is monotonic seconds."""

    def __init__(self) -> None:
        self._entries: dict[bytes, _Entry] = {}  # in the order of their ends
        self._proven: dict[bytes, str] = {}  # C_R -> `Address.counted_as`, oldest first
        self._per_sender: dict[str, list[bytes]] = {}  # `Address.counted_as` of proven addresses -> C_R, oldest first
        self._unproven: dict[bytes, None] = {}  # C_R, oldest first
        self._known: dict[str, bytes] = {}  # `Address.counted_as` of peers that their link vouches for -> C_R

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, c_r: bytes) -> bool:
        return c_r in self._entries

    @property
    def crowded(self) -> bool:
        """True if new peers should prove their address first."""
        return len(self._proven) >= tuning.HALF_OPEN_MAX // 4 or len(self._unproven) >= tuning.HALF_OPEN_UNPROVEN // 4

    def add(self, responder: Responder, address: Address, now: float, *, proven: bool, known: bool = False) -> None:
        """Add a handshake. If there is no room it displaces the oldest of its address, or of its kind.

        `proven`: an Echo value has proven `address`; `known`: its link vouches that a registered entity sends from it.
        """
        c_r = responder.c_r
        if known:
            if address.counted_as in self._known:
                self._remove(self._known[address.counted_as])
            elif len(self._known) >= tuning.HALF_OPEN_KNOWN:
                self._remove(next(iter(self._known.values())))
            self._known[address.counted_as] = c_r
        elif proven:
            sender = address.counted_as
            neighbours = self._per_sender.get(sender, [])
            if len(neighbours) >= tuning.HALF_OPEN_PER_ADDRESS:
                self._remove(neighbours[0])
            elif len(self._proven) >= tuning.HALF_OPEN_MAX:
                self._remove(next(iter(self._proven)))
            self._proven[c_r] = sender
            self._per_sender.setdefault(sender, []).append(c_r)
        else:
            if len(self._unproven) >= tuning.HALF_OPEN_UNPROVEN:
                self._remove(next(iter(self._unproven)))
            self._unproven[c_r] = None
        self._entries[c_r] = _Entry(responder, address.place, address.counted_as, now + tuning.HALF_OPEN_S)

    def take(self, c_r: bytes, address: Address) -> Responder | None:
        """Remove and return the handshake that waits for message_3 with `c_r` from this address, None if there is none.

        A message_3 from another address does not end the handshake.
        """
        entry = self._entries.get(c_r)
        if entry is None or entry.place != address.place:
            return None
        self._remove(c_r)
        return entry.responder

    def expire(self, now: float) -> int:
        """Remove the handshakes that have waited too long. Returns their number."""
        late = []
        for c_r, entry in self._entries.items():
            if entry.ends > now:
                break
            late.append(c_r)
        for c_r in late:
            self._remove(c_r)
        return len(late)

    def _remove(self, c_r: bytes) -> None:
        counted_as = self._entries.pop(c_r).counted_as
        if self._known.get(counted_as) == c_r:
            del self._known[counted_as]
        self._unproven.pop(c_r, None)
        sender = self._proven.pop(c_r, None)
        if sender is not None:
            self._per_sender[sender].remove(c_r)
            if not self._per_sender[sender]:
                del self._per_sender[sender]
