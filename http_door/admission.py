"""Decides which connections a server holds, and which one is ended when there is no room. Without socket and clock.

A connection that has shown no valid token yet is a stranger. Strangers share one small pool. A new stranger is always
let in, and the oldest stranger of the address that holds most places is ended, so that neither silence nor number keeps
others out. With its first valid token a connection becomes a member, the user's, and strangers cannot displace it any
more; a user that opens too many displaces its own.
"""

import ipaddress
from collections.abc import Hashable
from typing import Annotated, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field

C = TypeVar("C", bound=Hashable)  # a connection

IPV6_PREFIX = 64
"""Bits of an IPv6 address that are not its holder's to choose."""


class Limits(BaseModel):
    """The limits of a server: numbers of connections, and times."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    strangers: Annotated[int, Field(ge=1, description="connections without a valid token yet, in all")] = 512
    strangers_of_one_address: Annotated[int, Field(ge=1, description="of them, from one address")] = 256
    members: Annotated[int, Field(ge=1, description="connections of users with a valid token, in all")] = 16_384
    members_of_one_user: Annotated[int, Field(ge=1, description="of them, of one user")] = 16
    first_request_s: Annotated[float, Field(gt=0, description="seconds from accept to the first valid request")] = 10.0
    idle_s: Annotated[float, Field(gt=0, description="seconds a user's connection may wait for its next request")] = (
        60.0
    )

    @property
    def connections(self) -> int:
        """The largest number of connections in all."""
        return self.strangers + self.members

    def within(self, descriptors: int) -> Self:
        """Return these limits, or smaller ones of the same shape that need at most that many file descriptors."""
        if self.connections <= descriptors:
            return self
        strangers = max(1, min(self.strangers, descriptors // 4))
        return self.model_copy(
            update={
                "strangers": strangers,
                "strangers_of_one_address": min(self.strangers_of_one_address, max(1, strangers // 2)),
                "members": max(1, descriptors - strangers),
            }
        )


def holder(address: str) -> str:
    """Return the text that limits count as one address: an IPv4 address, or the /64 network of an IPv6 address."""
    try:
        read = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(read, ipaddress.IPv6Address):
        return str(read.ipv4_mapped or ipaddress.ip_network((read, IPV6_PREFIX), strict=False))
    return str(read)


class Admission(Generic[C]):
    """The table of connections.

    A connection that a method returns as displaced has left the table and must be ended.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._strangers: dict[str, dict[C, None]] = {}  # of each address, oldest first
        self._address_of: dict[C, str] = {}  # of strangers
        self._members: dict[str, dict[C, None]] = {}  # of each user, oldest first
        self._user_of: dict[C, str] = {}  # of members
        self._idle: dict[C, None] = {}  # members without a request, longest first

    @property
    def strangers(self) -> int:
        """The number of connections without a valid token."""
        return len(self._address_of)

    @property
    def members(self) -> int:
        """The number of connections of users."""
        return len(self._user_of)

    def arrived(self, connection: C, address: str) -> C | None:
        """Add a new stranger. Return the connection that must be ended for it, if any."""
        own = self._strangers.get(address, {})
        gone: C | None = None
        if len(own) >= self._limits.strangers_of_one_address:
            gone = next(iter(own))
            self.left(gone)
        elif len(self._address_of) >= self._limits.strangers:
            gone = self.oldest_stranger()
        self._strangers.setdefault(address, {})[connection] = None
        self._address_of[connection] = address
        return gone

    def oldest_stranger(self) -> C | None:
        """Take the oldest stranger of the address that holds most places out of the table; None if there is none."""
        if not self._strangers:
            return None
        gone = next(iter(self._strangers[max(self._strangers, key=lambda each: len(self._strangers[each]))]))
        self.left(gone)
        return gone

    def proved(self, connection: C, user: str) -> tuple[bool, C | None]:
        """Note that a request of `connection` showed a token of `user`. Return (may it stay, which one must be ended).

        It may not stay if every place is taken by a request that is being answered.
        """
        if connection in self._user_of:
            self._idle.pop(connection, None)
            return True, None
        if connection not in self._address_of:
            return False, None  # it was ended meanwhile
        own = self._members.get(user, {})
        gone: C | None = None
        if len(own) >= self._limits.members_of_one_user:
            gone = next((each for each in own if each in self._idle), next(iter(own)))
        elif len(self._user_of) >= self._limits.members:
            gone = next(iter(self._idle), None)
            if gone is None:
                return False, None
        if gone is not None:
            self.left(gone)
        self.left(connection)
        self._members.setdefault(user, {})[connection] = None
        self._user_of[connection] = user
        return True, gone

    def is_member(self, connection: C) -> bool:
        """Return True once the connection has shown a valid token and has a place."""
        return connection in self._user_of

    def answered(self, connection: C) -> None:
        """Note that the request of a member has its answer."""
        if connection in self._user_of:
            self._idle[connection] = None

    def left(self, connection: C) -> None:
        """Remove a connection; one that is not in the table is ignored."""
        self._idle.pop(connection, None)
        for of, table in ((self._address_of, self._strangers), (self._user_of, self._members)):
            key = of.pop(connection, None)
            if key is not None:
                del table[key][connection]
                if not table[key]:
                    del table[key]
