"""All broadcast media of the PN GW together (CPNS-GKM-71), and all repetition on them.

A datagram is sent on each medium that is up, as many times as that medium requires. A medium that comes up during an
airing joins it. A medium that refuses a datagram, raises an exception or never ends does not affect the others: the
failure is counted and the recovery of that medium begins.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from typing import Any

from cpns.tuning import BROADCAST_OBJECT_MAX
from gateway_agent.core.ports import Cost
from gateway_agent.radios.airing import OnAllMedia
from gateway_agent.radios.care import Care
from gateway_agent.radios.medium import Health, Heard, HomeOnAir, Medium, Radio, Repetition
from message_plane.links.link import Link

DELETE_COPIES = 3
"""Copies of a signed delete, which PNEs do not confirm. A PNE that receives none of them is told when it pulls."""
DELETE_GAP_S = 1.0
BEACON_GAP_S = 1.0
"""Least time between two beacons of one Service Group, however many members cannot be reached."""
QUICK_S = 0.1
"""A medium that is occupied longer by one datagram is no medium for updates, which have hundreds of them."""
UPDATES_IN_GAP = 4
"""Datagrams of an update in the time that a medium leaves between two copies of a key."""


class AllMedia:
    """Implements `core.ports.Air` over any number of media, which cannot disturb each other."""

    def __init__(self, media: Sequence[Medium], counters: Counter[str] | None = None) -> None:
        """`counters` is passed to the `Care` of each medium."""
        counted = Counter[str]() if counters is None else counters
        self._cares = [Care(medium, self._medium_is_back, counted) for medium in media]
        self._airings: set[OnAllMedia] = set()
        self._updates: set[OnAllMedia] = set()
        self._followers: list[Callable[[], None]] = []
        self._beacons_at: dict[str, float] = {}

    @property
    def links(self) -> list[Link[Any]]:
        """The links that the media bring on their radios."""
        return self._of_all(lambda medium: medium.links)

    def open(self, heard: Heard, home: HomeOnAir) -> None:
        """Open all media, which begin to watch their radios; `heard` is called with each datagram that one receives.

        `home` is asked by media that encipher what they send.
        """
        for care in self._cares:
            care.open(heard, home)

    @property
    def names(self) -> list[str]:
        """Names of all media, whether they are up or not."""
        return [care.medium.name for care in self._cares]

    def costs(self, sizes: Sequence[int]) -> list[Cost]:
        """Return what it costs to air datagrams of these sizes (octets) once, for each medium that is up."""
        costs = []
        for care in filter(lambda each: each.is_up, self._cares):
            with care.guarded():
                costs.append(Cost(sum(map(care.medium.airtime_s, sizes)), care.medium.unicast_s))
        return costs

    def air(self, datagrams: Sequence[bytes], listeners: int, ended: Callable[[], None]) -> OnAllMedia:
        """Begin to air datagrams, on each medium as many times as it requires for so many listeners; return the airing.

        `ended` is called once all media are done, unless the airing was stopped.
        """
        return self._begin(datagrams, lambda repetition: repetition.copies(listeners), ended=ended)

    async def delete(self, datagram: bytes) -> None:
        """Air a signed delete a few times; return when that is done."""
        done = asyncio.Event()
        airing = self._begin([datagram], lambda repetition: DELETE_COPIES, DELETE_GAP_S, done.set)
        try:
            await done.wait()
        finally:
            airing.stop()

    def beacon(self, sg_id: str, make: Callable[[], bytes]) -> bool:
        """Air the beacon of a Service Group, which `make` returns.

        Returns False, and airs nothing, within BEACON_GAP_S of the group's last beacon, while that is still on the air,
        and while no medium is up.
        """
        now = asyncio.get_running_loop().time()
        if now < self._beacons_at.get(sg_id, now) or not self.costs([]):
            return False
        self._beacons_at[sg_id] = inf
        self._begin([make()], lambda repetition: 1, ended=partial(self._beacon_ended, sg_id, now + BEACON_GAP_S))
        return True

    def pace_s(self, octets: int) -> float | None:
        """Return the seconds from one datagram of an update, of so many octets, to the next.

        None if no medium is up that sends it within QUICK_S.
        """
        gaps = []
        for care in self._quick(octets):
            with care.guarded():
                gaps.append(max(care.medium.repetition.gap_s / UPDATES_IN_GAP, care.medium.airtime_s(octets)))
        return max(gaps, default=None)

    @property
    def is_taken(self) -> bool:
        """True while a key, a delete or a beacon is on the air on a medium that updates use."""
        quick = self._quick() if self._airings else []
        return any(airing.is_on(care) for airing in self._airings for care in quick)

    def once(self, datagram: bytes, ended: Callable[[], None]) -> OnAllMedia:
        """Begin to send a datagram of an update once, on each medium that is quick enough for it.

        `ended` is called when these are done, unless it is stopped.
        """
        return self._begin([datagram], lambda repetition: 1, ended=ended, only=self._quick(len(datagram)))

    def follow(self, medium_is_back: Callable[[], None]) -> None:
        """Call `medium_is_back` whenever a medium that could not send may be able to again."""
        self._followers.append(medium_is_back)

    def networks(self) -> list[str]:
        """Return descriptions, for people, of the networks that all media reach now."""
        return self._of_all(lambda medium: medium.networks())

    def health(self) -> list[Health]:
        """Return figures and problems of each network of all media."""
        return self._of_all(lambda medium: medium.health())

    def radios(self) -> list[Radio]:
        """Return, for people, the radio of each medium that has one."""
        return self._of_all(lambda medium: [] if medium.radio is None else [medium.radio])

    def told(self) -> dict[str, str]:
        """Return, by name of each medium, a sentence for a person if all steps of its recovery have failed, else ""."""
        return {care.medium.name: care.told for care in self._cares}

    async def close(self) -> None:
        """Stop all airings and close all media."""
        for airing in [*self._airings, *self._updates]:
            airing.stop()
        for care in self._cares:
            await care.close()

    def _beacon_ended(self, sg_id: str, next_at: float) -> None:
        self._beacons_at[sg_id] = next_at

    def _begin(
        self,
        datagrams: Sequence[bytes],
        copies: Callable[[Repetition], int],
        gap_s: float = 0.0,
        ended: Callable[[], None] = lambda: None,
        only: Sequence[Care] | None = None,
    ) -> OnAllMedia:
        """Begin an airing; one on these media `only` is of an update, which no other medium joins."""
        under_way = self._airings if only is None else self._updates

        def forget(airing: OnAllMedia, was_stopped: bool) -> None:
            under_way.discard(airing)
            if not was_stopped:
                ended()

        airing = OnAllMedia(datagrams, copies, gap_s, forget)
        under_way.add(airing)
        airing.begin((care for care in self._cares if care.is_up) if only is None else only)
        return airing

    def _quick(self, octets: int = BROADCAST_OBJECT_MAX) -> list[Care]:
        """Return the media that are up and send a datagram of so many octets within QUICK_S."""
        quick = []
        for care in filter(lambda each: each.is_up, self._cares):
            with care.guarded():
                if care.medium.airtime_s(octets) <= QUICK_S:
                    quick.append(care)
        return quick

    def _medium_is_back(self, care: Care) -> None:
        for airing in list(self._airings):
            airing.join(care)
        for follower in self._followers:
            follower()

    def _of_all(self, ask: Callable[[Medium], Sequence[Any]]) -> list[Any]:
        found: list[Any] = []
        for care in self._cares:
            with care.guarded():
                found += ask(care.medium)
        return found
