"""The choice of the boards that a GATT link connects to, without I/O: which board is next, and which one makes room.

A Bluetooth address costs its sender nothing, so an attacker may have any number of them. Therefore a board whose
address is known, because a message of a session has verified from there, goes before all strangers,
and one place is never given to a stranger. Among strangers the choice is random, so that an attacker with many
addresses delays a new board but cannot keep it out. A connection of a stranger has a short life while others wait.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from dataclasses import dataclass

from message_plane import tuning
from message_plane.rate import Bucket


@dataclass(slots=True)
class _Board:
    heard_at: float = float("-inf")
    wants_until: float = float("-inf")
    has_mail: bool = False  # datagrams for it wait at this end
    begun_at: float = float("-inf")  # when the last connection to it was begun
    failures: int = 0
    not_before: float = float("-inf")

    def waits(self, now: float) -> bool:
        """Return True if it can and should be connected to now."""
        asked = self.has_mail or self.wants_until > now
        return asked and self.heard_at + tuning.GATT_HEARD_S > now and self.not_before <= now


@dataclass(slots=True)
class Hold:
    """One connection, also while it is being made or ended, as the choice sees it. Times are monotonic seconds.

    `proven`: a message of a session has verified on it. `used_at`: when a datagram went over it last, or when it was
    made. `is_busy`: datagrams wait to be sent. `is_made`: it can be used, and nobody is ending it.
    """

    board: str
    since: float
    used_at: float
    proven: bool = False
    is_busy: bool = False
    is_made: bool = False
    is_ending: bool = False


class BoardChoice:
    """All boards that were heard, by Bluetooth address, and the connections to them. `now`: monotonic seconds."""

    def __init__(self, connections_max: int, chance: random.Random | None = None) -> None:
        """`connections_max`: how many connections there may be, 1 or more. `chance` chooses among strangers."""
        self.holds: dict[str, Hold] = {}
        self._connections_max = connections_max
        self._chance = chance or random.SystemRandom()
        self._preferred: OrderedDict[str, _Board] = OrderedDict()  # the board that was proven last is the last one
        self._strangers: dict[str, _Board] = {}
        self._all = Bucket(*tuning.GATT_CONNECTS)
        self._of_strangers = Bucket(*tuning.GATT_CONNECTS_STRANGERS)

    def __len__(self) -> int:
        return len(self._preferred) + len(self._strangers)

    def advertised(self, address: str, wants: bool, now: float) -> None:
        """Note an advert of a board, and whether the board asks to be connected to."""
        board = self._board(address)
        board.heard_at = now
        board.wants_until = now + tuning.GATT_WANTS_S if wants else now

    def mail(self, address: str, there_is: bool) -> None:
        """Note whether datagrams for a board wait at this end."""
        if there_is or address in self._preferred or address in self._strangers:
            self._board(address).has_mail = there_is

    def prefer(self, address: str) -> None:
        """Note that a board has, or had in an earlier run, a session at this address."""
        board = self._preferred.pop(address, None) or self._strangers.pop(address, None) or _Board()
        self._preferred[address] = board
        if len(self._preferred) > tuning.GATT_PREFERRED_MAX:
            self._preferred.popitem(last=False)

    def prove(self, address: str) -> None:
        """Note that a message of a session has verified, which came from this address."""
        self.prefer(address)
        self._preferred[address].failures = 0
        if address in self.holds:
            self.holds[address].proven = True

    def begin(self, now: float) -> Hold | None:
        """Return the hold of the next connection to be made, which is in `holds` now, None if none is to be made."""
        address = self._next(now)
        if address is None:
            return None
        board = self._board(address)
        board.begun_at = now
        board.not_before = now + tuning.GATT_AGAIN_S
        hold = self.holds[address] = Hold(address, now, now)
        return hold

    def end(self, hold: Hold, now: float) -> None:
        """Remove a connection that has ended, or could not be made.

        If no message of a session has verified on it, the next one to this board has to wait longer than this one.
        """
        del self.holds[hold.board]
        board = self._board(hold.board)
        if not hold.proven:
            pause_s = min(tuning.GATT_AGAIN_S * 2**board.failures, tuning.GATT_AGAIN_MAX_S)
            board.not_before = max(board.not_before, now + pause_s)
            board.failures = min(board.failures + 1, 16)
        if hold.is_made:
            board.wants_until = now  # if it wants anything more, its adverts say so

    def useless(self, now: float) -> list[Hold]:
        """Return the connections that must end now: idle ones, and one that makes room for a board that waits."""
        made = [hold for hold in self.holds.values() if hold.is_made]
        idle = [hold for hold in made if not hold.is_busy and now - hold.used_at >= tuning.GATT_IDLE_S]
        if idle or any(hold.is_ending for hold in self.holds.values()):
            return idle
        full = len(self.holds) >= self._connections_max
        enough_strangers = self._strangers_held() >= self._strangers_max
        may_end = [hold for hold in made if _makes_room(hold, now)]
        if not (full and self._waiting(self._preferred, now)):
            if not ((full or enough_strangers) and self._waiting(self._strangers, now)):
                return []
            if enough_strangers:
                may_end = [hold for hold in may_end if not hold.proven]
        return sorted(may_end, key=lambda hold: (hold.proven, hold.used_at))[:1]

    def is_calm(self, now: float) -> bool:
        """Return True if nothing changes by the passing of time alone."""
        boards = (*self._preferred.values(), *self._strangers.values())
        return not self.holds and not any(board.has_mail or board.wants_until > now for board in boards)

    @property
    def _strangers_max(self) -> int:
        return max(1, self._connections_max - 1)

    def _strangers_held(self) -> int:
        return sum(not hold.proven and hold.board not in self._preferred for hold in self.holds.values())

    def _board(self, address: str) -> _Board:
        """Return the board with this address. One that is new takes the place of a random stranger if there is none."""
        board = self._preferred.get(address) or self._strangers.get(address)
        if board is None:
            if len(self._strangers) >= tuning.GATT_STRANGERS_MAX:
                del self._strangers[self._chance.choice(list(self._strangers))]
            board = self._strangers[address] = _Board()
        return board

    def _waiting(self, boards: dict[str, _Board], now: float) -> list[str]:
        return [address for address, board in boards.items() if address not in self.holds and board.waits(now)]

    def _next(self, now: float) -> str | None:
        being_made = [hold for hold in self.holds.values() if not (hold.is_made or hold.is_ending)]
        if len(self.holds) >= self._connections_max or len(being_made) >= tuning.GATT_CONNECTING_MAX:
            return None
        preferred = self._waiting(self._preferred, now)
        if preferred:
            next_one = min(preferred, key=lambda address: self._preferred[address].begun_at)
            return next_one if self._all.take(now) else None
        strangers = self._waiting(self._strangers, now)
        is_one_being_made = any(hold.board in self._strangers for hold in being_made)
        if not strangers or is_one_being_made or self._strangers_held() >= self._strangers_max:
            return None
        return self._chance.choice(strangers) if self._of_strangers.take(now) and self._all.take(now) else None


def _makes_room(hold: Hold, now: float) -> bool:
    """Return True if a connection may end because another board waits."""
    if not hold.proven:  # a board that computes its part of a handshake is silent for seconds
        return now - hold.since >= tuning.GATT_STRANGER_S
    return now - hold.since >= tuning.GATT_HOLD_S or (
        not hold.is_busy and now - hold.used_at >= tuning.GATT_MAKES_ROOM_S
    )
