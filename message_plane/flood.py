"""Who may start a handshake now: limits against floods of message_1 (SEC-21, RFC 9175).

A stranger's address is believed only once it has sent back an Echo value, so a forged address can neither use up
the limits of the one it names nor make us compute.
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from enum import Enum, auto

from cpns.crypto.compare import equal
from message_plane import tuning
from message_plane.rate import Bucket, Buckets

_MAC_LEN = 12


class Verdict(Enum):
    """What to do with a message_1."""

    PROCEED = auto()
    CHALLENGE = auto()  # answer 4.01 with an Echo value, compute nothing
    REFUSE = auto()  # answer 4.29, compute nothing


class FloodGuard:
    """Pure: gets addresses and `now` (seconds, monotonic). `key`: 32 random octets, fresh for each run."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._free = Bucket(*tuning.HANDSHAKES_FREE)
        self._all = Bucket(*tuning.HANDSHAKES_MAX)
        self._unproven = Buckets(*tuning.HANDSHAKES_PER_ADDRESS, tuning.ADDRESSES_REMEMBERED)
        self._proven = Buckets(*tuning.HANDSHAKES_PER_ADDRESS, tuning.ADDRESSES_REMEMBERED)
        self._penalties: OrderedDict[str, float] = OrderedDict()
        self._all_challenged_until = 0.0

    def judge(self, host: str, port: int, echo: bytes | None, crowded: bool, now: float) -> Verdict:
        """Judge a message_1 from `host`, `port` that carries `echo`. `crowded`: many handshakes are half open."""
        if self._penalties.get(host, 0.0) > now:
            return Verdict.REFUSE
        if self.is_proven(host, port, echo, now):
            return Verdict.PROCEED if self._proven.take(host, now) and self._all.take(now) else Verdict.REFUSE
        if (
            crowded
            or now < self._all_challenged_until
            or not self._unproven.take(host, now)
            or not self._free.take(now)
        ):
            return Verdict.CHALLENGE
        return Verdict.PROCEED

    def echo(self, host: str, port: int, now: float) -> bytes:
        """The Echo value for this address: time and a MAC over both; nothing is remembered."""
        when = int(now).to_bytes(4, "big")
        return when + self._mac(host, port, when)

    def is_proven(self, host: str, port: int, echo: bytes | None, now: float) -> bool:
        """True if `echo` shows that who sends gets answers at this address."""
        if echo is None:
            return False
        when, mac = echo[:4], echo[4:]
        age = int(now) - int.from_bytes(when, "big")
        return equal(mac, self._mac(host, port, when)) and 0 <= age <= tuning.ECHO_LIFE_S

    def punish(self, host: str, now: float, *, proven: bool = True) -> None:
        """Refuse handshakes from `host` for a while; if it may be a forged address, challenge everybody instead."""
        if not proven:
            self._all_challenged_until = now + tuning.PENALTY_S
            return
        self._penalties[host] = now + tuning.PENALTY_S
        self._penalties.move_to_end(host)
        if len(self._penalties) > tuning.ADDRESSES_REMEMBERED:
            self._penalties.popitem(last=False)

    def _mac(self, host: str, port: int, when: bytes) -> bytes:
        return hmac.digest(self._key, b"%b\0%d\0%b" % (host.encode(), port, when), "sha256")[:_MAC_LEN]
