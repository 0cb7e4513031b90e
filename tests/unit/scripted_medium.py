"""A broadcast medium that a test controls: slow, refusing, raising, going down and coming up."""

import asyncio
from collections.abc import Callable
from typing import Any

from gateway_agent.radios.medium import Airing, Health, Heard, HomeOnAir, News, Repetition, Step
from message_plane.links.link import Link


class ScriptedHome:
    """The names and keys of a PN, as a medium asks for them: `generations` maps each generation to its frame key."""

    pn_alias = 0x01020304

    def __init__(self, generations: dict[int, bytes] | None = None) -> None:
        self.generations = {1: bytes(range(16))} if generations is None else generations

    def frame_keys(self, generation: int | None = None) -> list[bytes]:
        return [key for each, key in sorted(self.generations.items(), reverse=True) if generation in (None, each)]


class ScriptedMedium:
    """`on_air` is called with each datagram at the moment its last octet leaves, `airtime` seconds after `air`.

    `left` keeps (moment, datagram) of those that have left, `begun` all that were begun, `taken_back` those that were
    stopped. `fault` is raised by `air` where it is set; `refuses` lets each airing end in vain; `stalls` lets none end.
    """

    def __init__(
        self,
        on_air: Callable[[bytes], None] = lambda datagram: None,
        *,
        name: str = "scripted",
        airtime: float = 0.0,
        gap: float = 0.0,
        loss: float = 0.0,
        unicast_s: float = 0.0,
    ) -> None:
        self.name = name
        self.repetition = Repetition(gap, loss)
        self.unicast_s = unicast_s
        self.steps: tuple[Step, ...] = ()
        self.links: tuple[Link[Any], ...] = ()
        self.radio = None
        self.refuses = self.stalls = False
        self.fault: Exception | None = None
        self.begun: list[bytes] = []
        self.taken_back: list[bytes] = []
        self.left: list[tuple[float, bytes]] = []
        self.heard: Heard = lambda datagram: None
        self.is_closed = False
        self._airtime = airtime
        self.on_air = on_air
        self._news: News = lambda: None
        self._up = True

    @property
    def up(self) -> bool:
        return self._up

    @up.setter
    def up(self, up: bool) -> None:
        self._up = up
        self._news()

    def open(self, news: News, heard: Heard, home: HomeOnAir) -> None:
        self._news, self.heard = news, heard

    def airtime_s(self, octets: int) -> float:
        return self._airtime or 0.001

    def air(self, datagram: bytes) -> Airing:
        self.begun.append(datagram)
        if self.fault is not None:
            raise self.fault
        if self.refuses or not self._up:
            airing = Airing()
            airing.end(False)
        elif self._airtime or self.stalls:
            delay = 1e6 if self.stalls else self._airtime
            leaving = asyncio.get_running_loop().call_later(delay, lambda: self._leave(datagram, airing))
            airing = Airing(lambda: (leaving.cancel(), self.taken_back.append(datagram)))
        else:
            airing = Airing()
            self._leave(datagram, airing)
        return airing

    def networks(self) -> list[str]:
        return [self.name] if self._up else []

    def health(self) -> list[Health]:
        return [Health(self.name, "-", len(self.left), problem="" if self._up and not self.refuses else "scripted")]

    async def close(self) -> None:
        self.is_closed = True

    def _leave(self, datagram: bytes, airing: Airing) -> None:
        self.left.append((asyncio.get_running_loop().time(), datagram))
        airing.end(True)
        self.on_air(datagram)
