"""Bluetooth LE as a broadcast medium: each datagram as a burst of adverts, sent by one sender (SEC-10).

    datagram -> air form -> rows -> adverts under the frame keys (`cpns.advert_build`) -> the sender, when it asks

A Group Key goes out under the frame key of its generation. Deletes and beacons go out under that of each generation
that boards may hold.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Sequence
from math import ceil
from typing import Any

from cpns import advert, advert_build, broadcast_object, numbers
from cpns.errors import MalformedMessage
from gateway_agent.radios.ble_reception import BleReception
from gateway_agent.radios.ble_scanner import Scanner
from gateway_agent.radios.ble_schedule import Adverts, Schedule, burst
from gateway_agent.radios.ble_sender import BleSender, radio_of
from gateway_agent.radios.medium import Airing, Health, Heard, HomeOnAir, News, Radio, Repetition, Step
from message_plane.links.link import Link

_log = logging.getLogger(__name__)

LEFT_OUT = 17
"""Octets of a signed object that are not on air (docs/protocol.md, "Adverts")."""
_BEACON_OCTETS = 19
_FRAME_S = 0.2  # of the slowest sender, while none is there
_MANUFACTURER_DATA = 0xFF

Choose = Callable[[], tuple[BleSender | None, dict[str, str]]]
ScannerOf = Callable[[BleSender | None], Scanner | None]


class Unsendable(Exception):
    """A datagram that cannot go out by adverts. The text says why."""


class BleMedium:
    """Implements `Medium` over one sender, which is chosen when the medium is made, or later if there was none."""

    name = "ble"
    repetition = Repetition(gap_s=0.0, loss=0.05)
    """A burst reaches 95 of 100 boards that miss half of all adverts. The next copy is made of other adverts."""
    unicast_s = 1.0
    """Time of a connection by GATT, from 0.4 s up to a second."""

    def __init__(
        self,
        *,
        choose: Choose,
        scanner_of: ScannerOf,
        reception: BleReception,
        links: Sequence[Link[Any]],
        company_id: int,
        counters: Counter[str],
    ) -> None:
        """`choose` returns the sender, or None, and the reasons against others (`ble_sender.choose`). `scanner_of`
        returns the scanner that is used beside a sender, None if there is none yet.

        `counters` counts `broadcast_sent` and `broadcast_failed`, for each datagram, and `ble_adverts_sent`.
        """
        self.links = links
        self._choose = choose
        self._scanner_of = scanner_of
        self._reception = reception
        self._head = bytes((3 + advert.SIZE, _MANUFACTURER_DATA)) + company_id.to_bytes(2, "little")
        self._counters = counters
        self._sent = self._failed = 0
        self._taken = 0  # adverts, by the sender
        self._fault = ""  # why the sender could not be started, or a datagram could not be sent
        self._news: News = lambda: None
        self._home: HomeOnAir | None = None
        self._has_started = False
        self._schedule = Schedule()
        self._under_way: dict[int, Airing] = {}
        self.sender, self._reasons = choose()
        self._on_air: deque[int | None] = deque()  # airings of the payloads that may be on the air

    @property
    def up(self) -> bool:
        """True if the sender was started and can send."""
        return self.sender is not None and self._has_started and self.sender.up

    @property
    def steps(self) -> Sequence[Step]:
        """Choose and start a sender if none is running; then the steps of the sender."""
        own = () if self.sender is None else tuple(self.sender.steps)
        return Step("start the sender of adverts", self._start), *own

    @property
    def radio(self) -> Radio:
        """The sender in use, and why others are not."""
        return radio_of(self.sender, self._reasons)

    def open(self, news: News, heard: Heard, home: HomeOnAir) -> None:
        """Begin to listen and to send. Raises the exceptions of the sender; `steps` try again."""
        self._news, self._home = news, home
        self._reception.open(heard, home)
        self._start()

    def airtime_s(self, octets: int) -> float:
        """Return the seconds that the adverts of one datagram are on the air, under one frame key."""
        rows = 1 if octets == _BEACON_OCTETS else max(1, ceil((octets - LEFT_OUT) / advert.ROW_SIZE))
        return burst(rows) * (_FRAME_S if self.sender is None else self.sender.frame_s)

    def air(self, datagram: bytes) -> Airing:
        """Begin to send one burst of the adverts of a datagram.

        The airing ends when the last advert has had its time on the air. It ends as not sent if the medium is down or
        goes down, and for a datagram that no adverts can be made of, with the reason in `health`. Raises the exceptions
        of the sender; nothing is sent then.
        """
        try:
            adverts = self._adverts(datagram)
        except Unsendable as refusal:
            self._fault = str(refusal)
            return self._not_sent()
        sender = self.sender
        if sender is None or not self.up:
            return self._not_sent()
        number = self._schedule.begin(adverts)
        airing = self._under_way[number] = Airing(lambda: self._stop(number), lambda: self._taken)
        try:
            sender.wake()
        except BaseException:  # the caller gets no airing that it could stop
            self._schedule.stop(number)
            del self._under_way[number]
            raise
        return airing

    def networks(self) -> list[str]:
        """Return the name of the adapter, if it can send now."""
        return [f"{self._interface} BLE"] if self.up else []

    def health(self) -> list[Health]:
        """Return the figures and problems of the one network there is, all listeners in range."""
        sender, problem = self.sender, self._fault
        if sender is None:
            problem = "; ".join(f"{name}: {reason}" for name, reason in self._reasons.items())
        elif not self.up:
            problem = sender.problem or self._fault or ("it is about to start" if self._home else "")
        return [Health(self._interface, "BLE", self._sent, self._failed, problem, deaf=self._reception.problem)]

    async def close(self) -> None:
        """End all airings, and release scanner and sender."""
        self._end_all()
        self._has_started = False
        try:
            await self._reception.close()
        finally:
            if self.sender is not None:
                await self.sender.close()

    @property
    def _interface(self) -> str:
        return (self.sender.adapter if self.sender is not None else "") or "bluetooth"

    def _start(self) -> None:
        """Choose a sender unless there is one, and start scanner and sender unless that was done."""
        if self.sender is None:
            self.sender, self._reasons = self._choose()
        self._reception.listen(self._scanner_of(self.sender))
        if self.sender is not None and not self._has_started:
            try:
                self.sender.start(self._take, self._changed)
            except Exception as fault:
                self._fault = str(fault) or type(fault).__name__
                raise
            self._has_started, self._fault = True, ""
            self._news()

    def _changed(self) -> None:
        if self.up:
            self._reception.listen(self._scanner_of(self.sender))
        else:
            self._end_all()
        self._news()

    def _end_all(self) -> None:
        """End all airings as not sent: the sender is down, so nothing of them is on the air."""
        self._schedule.clear()
        self._on_air.clear()
        for number in list(self._under_way):
            self._end(number, has_gone_out=False)

    def _not_sent(self) -> Airing:
        self._failed += 1
        self._counters["broadcast_failed"] += 1
        airing = Airing()
        airing.end(False)
        return airing

    def _adverts(self, datagram: bytes) -> Adverts:
        """Return the adverts of a datagram. Raises Unsendable."""
        home = self._home
        if home is None:
            raise Unsendable("the medium is not open")
        if len(datagram) == _BEACON_OCTETS and datagram[0] == numbers.FRAME_BEACON:
            keys = _some(home.frame_keys())
            return Adverts(datagram, 1, len(keys), lambda key, index: advert_build.beacon_advert(keys[key], datagram))
        try:
            received = broadcast_object.parse(datagram)
            rows = advert_build.rows_of(advert_build.to_air(datagram, home.pn_alias))
        except (MalformedMessage, ValueError) as refusal:
            raise Unsendable(f"a datagram of {len(datagram)} octets has no adverts: {refusal}") from None
        keys = _some(home.frame_keys(getattr(received, "generation", None)))
        name = advert.identification(datagram)
        return Adverts(
            datagram,
            len(rows),
            len(keys),
            lambda key, index: advert_build.row_advert(keys[key], name, rows, index),
        )

    def _take(self) -> bytes | None:
        """Return the next payload for the sender, None if there is none."""
        found = self._schedule.next()
        self._on_air.append(None if found is None else found[0])
        while self.sender is not None and len(self._on_air) > max(1, self.sender.instances):
            self._on_air.popleft()
        if found is None:
            return None
        number, octets, is_last = found
        self._counters["ble_adverts_sent"] += 1
        self._taken += 1
        if is_last and self.sender is not None:
            on_air_s = self.sender.frame_s * self.sender.instances
            asyncio.get_running_loop().call_later(on_air_s, self._end, number, True)
        return self._head + octets

    def _end(self, number: int, has_gone_out: bool) -> None:
        airing = self._under_way.pop(number, None)
        if airing is None:
            return
        if has_gone_out:
            self._fault = ""
            self._sent += 1
            self._counters["broadcast_sent"] += 1
        else:
            self._failed += 1
            self._counters["broadcast_failed"] += 1
        airing.end(has_gone_out)

    def _stop(self, number: int) -> None:
        """Stop an airing before this method returns (SEC-38). Raises the exceptions of the sender."""
        self._schedule.stop(number)
        if number in self._on_air and self.sender is not None:
            self.sender.withdraw()
            self._on_air.clear()
        self._under_way.pop(number, None)


def _some(keys: list[bytes]) -> list[bytes]:
    if not keys:
        raise Unsendable("no board has the keys of its adverts")
    return keys
