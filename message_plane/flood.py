"""Limits against floods of message_1 (SEC-21, RFC 9175): which peer may start a handshake now.

The address of an unknown peer counts only after the peer has sent back an Echo value. Therefore a forged address can
neither use up the limits of its true owner nor make this end compute.
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from enum import Enum, auto

from cpns.crypto.compare import equal
from message_plane import tuning
from message_plane.links.link import Address
from message_plane.rate import Bucket, Buckets

_MAC_LEN = 12


class Verdict(Enum):
    """The decision about a message_1."""

    PROCEED = auto()
    CHALLENGE = auto()  # answer 4.01 with an Echo value, compute nothing
    REFUSE = auto()  # answer 4.29, compute nothing


class FloodGuard:
    """The limits, without I/O. `now` is monotonic seconds; `key` is 32 random octets, fresh for each run."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._free = Bucket(*tuning.HANDSHAKES_FREE)
        self._all = Bucket(*tuning.HANDSHAKES_MAX)
        self._unproven = Buckets(*tuning.HANDSHAKES_PER_ADDRESS, tuning.ADDRESSES_REMEMBERED)
        self._proven = Buckets(*tuning.HANDSHAKES_PER_ADDRESS, tuning.ADDRESSES_REMEMBERED)
        self._carried = Buckets(*tuning.HANDSHAKES_PER_CARRIER, tuning.ADDRESSES_REMEMBERED)
        self._penalties: OrderedDict[str, float] = OrderedDict()
        self._all_challenged_until = 0.0

    def judge(self, address: Address, echo: bytes | None, crowded: bool, now: float, *, known: bool = False) -> Verdict:
        """Return the verdict on a message_1 from `address` that carries `echo`, and count it.

        `crowded`: many handshakes are half open. `known`: the link vouches that a registered entity sends from this
        address. Of such there are as many as were registered, and each has a limit, so all together need none: after a
        failure all of them may come back at once.
        """
        counted_as = address.counted_as
        if self._penalties.get(counted_as, 0.0) > now:
            return Verdict.REFUSE
        if known:
            return Verdict.PROCEED if self._proven.take(counted_as, now) else Verdict.REFUSE
        if self.is_proven(address, echo, now):
            return Verdict.PROCEED if self._take_proven(address, now) else Verdict.REFUSE
        if (
            crowded
            or now < self._all_challenged_until
            or not self._unproven.take(counted_as, now)
            or not self._free.take(now)
        ):
            return Verdict.CHALLENGE
        return Verdict.PROCEED

    def echo(self, address: Address, now: float) -> bytes:
        """Return the Echo value for this address: the time, and a MAC over time and address. Nothing is stored."""
        when = int(now).to_bytes(4, "big")
        return when + self._mac(address, when)

    def is_proven(self, address: Address, echo: bytes | None, now: float) -> bool:
        """Return True if `echo` proves that the sender receives at this address, or the link itself vouches for it."""
        if not address.echo_proves:
            return True
        if echo is None:
            return False
        when, mac = echo[:4], echo[4:]
        age = int(now) - int.from_bytes(when, "big")
        return equal(mac, self._mac(address, when)) and 0 <= age <= tuning.ECHO_LIFE_S

    def punish(self, address: Address, now: float, *, proven: bool = True) -> None:
        """Refuse handshakes from `address` for PENALTY_S; if it is not proven, challenge all unproven ones."""
        if not proven:
            self._all_challenged_until = now + tuning.PENALTY_S
            return
        self._penalties[address.counted_as] = now + tuning.PENALTY_S
        self._penalties.move_to_end(address.counted_as)
        if len(self._penalties) > tuning.ADDRESSES_REMEMBERED:
            self._penalties.popitem(last=False)

    def _take_proven(self, address: Address, now: float) -> bool:
        if not self._proven.take(address.counted_as, now):
            return False
        carrier = address.carrier  # checked before the limit of all, which a carrier with made-up names must not use up
        return (not carrier or self._carried.take(carrier, now)) and self._all.take(now)

    def _mac(self, address: Address, when: bytes) -> bytes:
        return hmac.digest(self._key, when + address.place.encode(), "sha256")[:_MAC_LEN]
