"""What the PN GW receives by Bluetooth LE: reports of boards, and boards that can be connected to.

Everybody in range can send adverts, and a recorded report can be sent again. So nothing in here changes any state of
the gateway: what is not made under a frame key of the home is counted, and what is goes to the core, which proves it
(SEC-14).
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable

from cpns import advert
from gateway_agent.radios.ble_scanner import Advert, Scanner
from gateway_agent.radios.medium import Heard, HomeOnAir

REPEATED_S = 15.0
"""A board sends its report many times, for up to a minute. So long after one was passed on, the same octets are a
repetition; the later ones of a thousand boards are then fewer than the core accepts in a second."""
DEAF_S = 10.0
"""A scanner may be starting, or starting again, for so long before that is a problem to tell of."""
REPORTS_REMEMBERED_MAX = 2048
"""More than all boards of a tree at their largest number."""
_KEYS_S = 1.0  # how long frame keys are used before the home is asked again

Advertised = Callable[[str, bool], None]
"""A function of (Bluetooth address, whether it asks for a connection) for each advert of a board."""


class BleReception:
    """Listens with one scanner. The scanner may be set after `open`, and set again."""

    def __init__(self, advertised: Advertised, counters: Counter[str]) -> None:
        """`counters` gets `ble_adverts_foreign` (not made under a frame key), `ble_adverts_of_gateways` (rows and
        beacons), `ble_reports_repeated` and `ble_adverts_unread` (the home could not say its keys)."""
        self._advertised = advertised
        self._counters = counters
        self._scanner: Scanner | None = None
        self._fault = ""  # why the scanner could not be opened
        self._well_at = 0.0  # loop time
        self._heard: Heard = lambda frame: None
        self._home: HomeOnAir | None = None
        self._keys: list[bytes] = []
        self._keys_until = 0.0
        self._passed_on: OrderedDict[bytes, float] = OrderedDict()  # advert -> when it is no repetition any more

    @property
    def problem(self) -> str:
        """Why nothing is heard, in words; "" if nothing is wrong, or if that has lasted for less than DEAF_S.

        It must be asked every few seconds, as the watch over the machine does.
        """
        problem = self._fault if self._scanner is None else self._scanner.problem
        now = asyncio.get_running_loop().time()
        if not problem:
            self._well_at = now
        return problem if now - self._well_at >= DEAF_S else ""

    def open(self, heard: Heard, home: HomeOnAir) -> None:
        """Begin to pass on what the scanner hears: `heard` is called with the 21 octets of a report (`cpns.report`)."""
        self._heard, self._home = heard, home
        self._well_at = asyncio.get_running_loop().time()

    def listen(self, scanner: Scanner | None) -> None:
        """Listen with this scanner, unless one is open already. If that fails, `problem` says why."""
        if scanner is None or self._scanner is not None:
            return
        try:
            scanner.open(self.take)
        except Exception as fault:  # noqa: BLE001 - a gateway that hears nothing sends all the same
            self._fault = str(fault) or type(fault).__name__
        else:
            self._scanner = scanner

    def take(self, found: Advert) -> None:
        """Process one advert of a board, or of anybody else."""
        if found.offers:
            self._advertised(found.address, found.wants)
        elif found.company is not None and self._home is not None:
            self._take(bytes(found.company), self._home)

    async def close(self) -> None:
        """Stop listening."""
        scanner, self._scanner, self._home = self._scanner, None, None
        if scanner is not None:
            await scanner.close()

    def _take(self, octets: bytes, home: HomeOnAir) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._passed_on.get(octets, 0.0):
            self._counters["ble_reports_repeated"] += 1
            return
        if now >= self._keys_until:
            try:
                self._keys, self._keys_until = home.frame_keys(), now + _KEYS_S
            except Exception:  # noqa: BLE001 - such as a store that cannot be read, for which there is an alarm
                self._counters["ble_adverts_unread"] += 1
                return
        found = next(filter(None, (advert.opened(key, octets) for key in self._keys)), None)
        if found is None:
            self._counters["ble_adverts_foreign"] += 1
        elif found[0] != advert.REPORT:
            self._counters["ble_adverts_of_gateways"] += 1
        else:
            self._passed_on.pop(octets, None)
            self._passed_on[octets] = now + REPEATED_S
            if len(self._passed_on) > REPORTS_REMEMBERED_MAX:
                self._passed_on.popitem(last=False)
            self._heard(found[1])
