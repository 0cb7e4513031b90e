"""A BLE sender, a scanner and an air that a test controls: what is on the air is what a board in range receives."""

import asyncio
from collections import Counter
from collections.abc import Callable, Generator

from cpns import advert
from gateway_agent.radios.ble_medium import BleMedium
from gateway_agent.radios.ble_reception import BleReception
from gateway_agent.radios.ble_scanner import Advert
from gateway_agent.radios.ble_sender import Take
from gateway_agent.radios.medium import News, Step

COMPANY = 0x0BAD


class ScriptedSender:
    """Takes a payload each `frame_s` seconds while it is up. `sent` keeps (moment, payload) of all, `on_air` is called
    with the advert in each.

    `places` are the payloads on the air now; `withdrawn` counts calls of `withdraw`. `start_fault` and `withdraw_fault`
    are raised where they are set; while `deaf` it never takes anything.
    """

    name = "scripted"
    adapter = "hci7"
    interval_ms = 20.0
    scanner = carrier = None

    def __init__(self, frame_s: float = 0.025, instances: int = 4) -> None:
        self.frame_s, self.instances = frame_s, instances
        self.problem = ""
        self.steps: tuple[Step, ...] = ()
        self.on_air: Callable[[bytes], None] = lambda advert: None
        self.sent: list[tuple[float, bytes]] = []
        self.places: list[bytes] = []
        self.withdrawn = 0
        self.start_fault: Exception | None = None
        self.withdraw_fault: Exception | None = None
        self.deaf = self.is_closed = False
        self._up = True
        self._take: Take = lambda: None
        self._news: News = lambda: None
        self._turn: asyncio.TimerHandle | None = None

    @property
    def up(self) -> bool:
        return self._up

    @up.setter
    def up(self, up: bool) -> None:
        self._up, self.problem = up, "" if up else "the adapter was pulled out"
        if not up:
            self._rest()
            self.places.clear()
        self._news()
        if up:
            self.wake()

    def start(self, take: Take, news: News) -> None:
        if self.start_fault is not None:
            raise self.start_fault
        self._take, self._news = take, news
        self.wake()

    def wake(self) -> None:
        if self._turn is None and self._up and not self.deaf:
            self._turn = asyncio.get_running_loop().call_soon(self._next)

    def withdraw(self) -> None:
        self.withdrawn += 1
        if self.withdraw_fault is not None:
            raise self.withdraw_fault
        self.places.clear()

    async def close(self) -> None:
        self._rest()
        self.is_closed = True

    def _rest(self) -> None:
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def _next(self) -> None:
        self._turn = None
        payload = self._take()
        if payload is None:
            self.places.clear()
            return
        loop = asyncio.get_running_loop()
        self.sent.append((loop.time(), payload))
        self.places = [*self.places, payload][-self.instances :]
        self._turn = loop.call_later(self.frame_s, self._next)
        self.on_air(payload[4:])


class ScriptedScanner:
    """A scanner whose adverts a test says."""

    def __init__(self) -> None:
        self.problem = ""
        self.fault: Exception | None = None
        self.heard: Callable[[Advert], None] | None = None

    def open(self, heard: Callable[[Advert], None]) -> None:
        if self.fault is not None:
            raise self.fault
        self.heard = heard

    async def close(self) -> None:
        self.heard = None

    def hears(self, octets: bytes | None, *, offers: bool = False, wants: bool = False) -> None:
        """An advert of a device in range, with this manufacturer data of our company id."""
        assert self.heard is not None
        self.heard(Advert("AA:BB:CC:DD:EE:FF", octets, offers, wants, -60))


class BleRadio:
    """A whole BLE radio of a gateway: `medium` over `sender` and `scanner`. `advertised`: boards to connect to.

    Without `sender` the medium finds none, for the `reasons`.
    """

    def __init__(self, sender: ScriptedSender | None = None, *, missing: bool = False) -> None:
        self.sender = sender or ScriptedSender()
        self.scanner = ScriptedScanner()
        self.advertised: list[tuple[str, bool]] = []
        self.counters: Counter[str] = Counter()
        self.missing = missing
        self.reasons: dict[str, str] = {}
        self.medium = BleMedium(
            choose=lambda: (None, self.reasons) if self.missing else (self.sender, {}),
            scanner_of=lambda sender: self.scanner,
            reception=BleReception(lambda *found: self.advertised.append(found), self.counters),
            links=(),
            company_id=COMPANY,
            counters=self.counters,
        )


class Ear:
    """A receiver of adverts that has the frame keys `keys` of a PN; `heard` is called with each whole datagram."""

    def __init__(self, keys: Callable[[], list[bytes]], pn_alias: int, heard: Callable[[bytes], None]) -> None:
        self._keys = keys
        self._pn_alias = pn_alias
        self._heard = heard
        self._assembled: dict[bytes, advert.Reassembly] = {}

    def take(self, octets: bytes) -> None:
        """Take one advert, 24 octets."""
        for key in self._keys():
            found = advert.opened(key, octets)
            if found is not None and found[0] == advert.BEACON:
                self._heard(found[1])
            elif found is not None:
                reassembly = self._assembled.setdefault(key, advert.Reassembly())
                whole = reassembly.take(found[1], asyncio.get_running_loop().time())
                if whole is not None:
                    self._finish(reassembly.finish(whole, self._pn_alias))

    def _finish(self, steps: Generator[None, None, bytes | None]) -> None:
        while True:
            try:
                next(steps)
            except StopIteration as end:
                if end.value is not None:
                    self._heard(end.value)
                return
