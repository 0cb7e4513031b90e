"""A whole kind of broadcast medium in one file: a drum that airs a datagram in ten beats, for three seconds.

With the line `"drum": "tests.unit.toy_medium"` in `by_kind.KINDS` a configuration may have a section [drum].
"""

import asyncio
from collections import Counter
from collections.abc import Callable

from pydantic import Field

from gateway_agent.config.section import Section
from gateway_agent.radios.medium import Airing, Health, Heard, HomeOnAir, News, Repetition

BEATS = 10


class DrumSection(Section):
    """A drum in the yard."""

    beat_s: float = Field(0.3, gt=0, description="time of one beat")


class Drum:
    """`beats` keeps (moment, datagram) of every beat that was heard; `on_air` is called with a whole datagram."""

    name = "drum"
    repetition = Repetition(gap_s=0.5, loss=0.1)
    unicast_s = 1.0
    steps = ()
    links = ()
    radio = None

    def __init__(self, beat_s: float = 0.3) -> None:
        self.on_air: Callable[[bytes], None] = lambda datagram: None
        self.beats: list[tuple[float, bytes]] = []
        self._beat_s = beat_s
        self._under_way: set[Airing] = set()
        self._up = True
        self._news: News = lambda: None
        self.heard: Heard = lambda frame: None

    @property
    def up(self) -> bool:
        return self._up

    @up.setter
    def up(self, up: bool) -> None:
        """The drum is taken away, in the middle of a datagram too, or put back."""
        self._up = up
        if not up:
            for airing in list(self._under_way):
                airing.end(False)
        self._news()

    def open(self, news: News, heard: Heard, home: HomeOnAir) -> None:
        self._news, self.heard = news, heard

    def airtime_s(self, octets: int) -> float:
        return BEATS * self._beat_s

    def air(self, datagram: bytes) -> Airing:
        sending = asyncio.get_running_loop().create_task(self._send(datagram))
        airing = Airing(sending.cancel)
        self._under_way.add(airing)
        airing.ended.add_done_callback(lambda _: (sending.cancel(), self._under_way.discard(airing)))
        sending.add_done_callback(lambda task: airing.end(not task.cancelled()))
        return airing

    def networks(self) -> list[str]:
        return ["drum"] if self._up else []

    def health(self) -> list[Health]:
        return [Health("drum", "-", len(self.beats) // BEATS, problem="" if self._up else "it was taken away")]

    async def close(self) -> None:
        for airing in list(self._under_way):
            airing.stop()

    async def _send(self, datagram: bytes) -> None:
        for _ in range(BEATS):
            await asyncio.sleep(self._beat_s)
            self.beats.append((asyncio.get_running_loop().time(), datagram))
        self.on_air(datagram)


SECTION = DrumSection
made: list[Drum] = []
"""What was made for configurations, newest last: the test's hand on the drum."""


def open_medium(section: DrumSection, counters: Counter[str]) -> Drum:
    made.append(Drum(section.beat_s))
    return made[-1]
