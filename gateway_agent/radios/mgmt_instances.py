"""The advertising instances of the sender `mgmt` on one adapter: each shows one payload after the other, in turns.

The kernel keeps an instance when the process that added it dies, and does not say whose an instance is. Each one is
therefore added with a timeout, which is renewed: what a killed process has left behind ends by itself within TIMEOUT_S,
and nothing is ever removed that this process has not added.
"""

import asyncio
import contextlib
import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet

from gateway_agent.radios import mgmt_packets as packets
from gateway_agent.radios.ble_sender import Take
from gateway_agent.radios.mgmt_socket import COMMAND_MAX_S, MgmtError, MgmtSocket

_log = logging.getLogger(__name__)

INTERVAL_MS = 20.0
"""The least that Bluetooth allows; the controller adds 0 to 10 ms at random to each event."""
TIMEOUT_S, RENEW_S = 30, 20.0
"""The life of an instance that is not renewed, and the age at which it is."""
SPACING_S, SPACING_LEGACY_S = 0.025, 0.040
"""Least seconds from one payload to the next, for all instances together."""
FRAME_S = 0.027
"""Seconds from one payload to the next in truth, as a command takes its time."""
ON_AIR_S, ON_AIR_LEGACY_S = 0.035, 0.010
"""Least time on the air: an event of an extended instance begins within 30 ms, that of a 4.x controller at once.

An event, on all three channels, takes up to 10 ms.
"""
ROTATION_S = 2.0
"""How long a 4.x controller stays with the instance of another program before it comes to a new one."""
TRIES, AGAIN_S = 3, 0.1
"""How often a payload is tried before the adapter counts as failed, and the seconds between two tries."""


async def prove(link: MgmtSocket, index: int, instance: int, payload: bytes) -> None:
    """Show one payload on a free instance for a moment. Raises MgmtError if the adapter does not accept that."""
    parameters = packets.advertising_parameters(instance, INTERVAL_MS, TIMEOUT_S)
    await link.ask(packets.ADD_ADVERTISING_PARAMETERS, index, parameters)
    await link.ask(packets.ADD_ADVERTISING_DATA, index, packets.advertising_data(instance, payload))
    await link.ask(packets.REMOVE_ADVERTISING, index, packets.remove_advertising(instance))


class _Place:
    """One instance. `is_added`: the kernel may have it; `renewed_at`: loop time of its last parameters.

    `withdrawals`: how often it was taken off the air while something may have been under way for it; `removal`: the
    answer to the last command that did so.
    """

    def __init__(self, instance: int) -> None:
        self.instance = instance
        self.is_added = False
        self.renewed_at = 0.0
        self.withdrawals = 0
        self.removal: asyncio.Future[bytes] | None = None


class Instances:
    """Some instances of one controller. They call `take` until it returns None, and again after `wake`."""

    def __init__(
        self,
        link: MgmtSocket,
        index: int,
        is_extended: bool,
        numbers: Sequence[int],
        others: AbstractSet[int],
        take: Take,
        failed: Callable[[str], None],
        counters: Counter[str],
    ) -> None:
        """Begin to send on the instances with these numbers, which must be free.

        `is_extended`: they are on the air at the same time; `others`: the instances of other programs at each moment.
        `failed` is called with the reason in words if the adapter does not accept payloads any more; it must call
        `stop`. `counters` counts `ble_sent`, payloads on the air, and `ble_refused`, commands that failed.
        """
        self._link = link
        self._index = index
        self._is_extended = is_extended
        self._others = others
        self._take = take
        self._failed = failed
        self._counters = counters
        self._places = [_Place(number) for number in numbers]
        self._is_stopped = False
        # If the data of an instance are refused, Linux drops each instance that has none yet, without an answer to its
        # parameters.
        self._one_at_a_time = asyncio.Lock()
        self._awake = asyncio.Event()
        self._awake.set()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._serve(place, turn)) for turn, place in enumerate(self._places)]

    @property
    def count(self) -> int:
        """How many payloads are on the air at the same time."""
        return len(self._places)

    @property
    def frame_s(self) -> float:
        """Seconds from one payload to the next."""
        return max(FRAME_S, ON_AIR_S / self.count) if self._is_extended else SPACING_LEGACY_S

    def wake(self) -> None:
        """Call `take` again, as there are payloads again."""
        self._awake.set()

    def withdraw(self) -> None:
        """Remove all instances; the commands are written before this call returns (SEC-38). Raises OSError."""
        for place in self._places:
            place.withdrawals += 1
            if place.is_added:
                parameters = packets.remove_advertising(place.instance)
                place.removal = self._link.write(packets.REMOVE_ADVERTISING, self._index, parameters)
            place.is_added = False

    def __contains__(self, instance: int) -> bool:
        """Return whether an instance is one of these."""
        return any(place.instance == instance for place in self._places)

    def removed(self, instance: int) -> None:
        """Note that an instance was removed, by another program or by its timeout. One of these is added again."""
        for place in self._places:
            if place.instance == instance:
                place.is_added = False
                self._link.give_up(self._index, instance)

    async def removed_all(self) -> None:
        """Wait until the kernel has answered all commands of `withdraw`.

        It does not answer the parameters of an instance that it is about to remove.
        """
        removals = [place.removal for place in self._places if place.removal is not None]
        if removals:
            await asyncio.wait(removals, timeout=COMMAND_MAX_S)

    def stop(self) -> list[int]:
        """Send nothing any more and remove all instances; return the numbers of those that could not be removed."""
        self._is_stopped = True
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()
        with contextlib.suppress(OSError):
            self.withdraw()
        return [place.instance for place in self._places if place.is_added]

    async def _serve(self, place: _Place, turn: int) -> None:
        """Show payloads on one instance. `turn`: its number among all, from 0."""
        loop = asyncio.get_running_loop()
        spacing_s, on_air_s = (SPACING_S, ON_AIR_S) if self._is_extended else (SPACING_LEGACY_S, ON_AIR_LEGACY_S)
        try:
            while True:
                if not self._awake.is_set():
                    await self._rest(place)
                    await self._awake.wait()
                    await asyncio.sleep(turn * spacing_s)
                payload = self._take()
                if payload is None:
                    self._awake.clear()
                    continue
                began, is_new = loop.time(), not place.is_added
                await self._put(place, payload)
                waits_for_others = is_new and not self._is_extended and self._others
                least_s = ROTATION_S if waits_for_others else on_air_s
                await asyncio.sleep(max(began + self.count * spacing_s - loop.time(), least_s))
        except (MgmtError, OSError) as error:
            if not self._is_stopped:
                self._failed(str(error))
        except Exception as fault:  # noqa: BLE001 - `take` is not ours, and a task would hide what it raises
            _log.exception("KC1119 no payload for an advertising instance")
            self._failed(str(fault) or type(fault).__name__)

    async def _rest(self, place: _Place) -> None:
        """Take an instance off the air, as there is nothing for it."""
        if place.is_added:
            try:
                await self._ask(packets.REMOVE_ADVERTISING, packets.remove_advertising(place.instance))
            except MgmtError as error:
                if error.is_lost:
                    raise  # otherwise another program has removed it just now
            place.is_added = False

    async def _put(self, place: _Place, payload: bytes) -> None:
        """Show one payload, in several tries if need be, until it is withdrawn. Raises MgmtError, OSError."""
        withdrawals = place.withdrawals
        for left in range(TRIES - 1, -1, -1):
            try:
                await self._try(place, payload)
                return
            except MgmtError as error:
                self._counters["ble_refused"] += 1
                place.renewed_at = -math.inf  # the kernel may have dropped it
                if error.is_lost or not left:
                    raise
                await asyncio.sleep(AGAIN_S)
                if place.withdrawals != withdrawals:
                    return

    async def _try(self, place: _Place, payload: bytes) -> None:
        withdrawals, now = place.withdrawals, asyncio.get_running_loop().time()
        data = packets.advertising_data(place.instance, payload)
        # On a 4.x controller the kernel takes the time of each update from the life of an instance.
        if place.is_added and self._is_extended and now - place.renewed_at < RENEW_S:
            await self._ask(packets.ADD_ADVERTISING_DATA, data)
        else:
            async with self._one_at_a_time:
                await self.removed_all()
                if place.withdrawals != withdrawals:
                    return
                place.is_added, place.renewed_at = True, now
                parameters = packets.advertising_parameters(place.instance, INTERVAL_MS, TIMEOUT_S)
                await self._ask(packets.ADD_ADVERTISING_PARAMETERS, parameters)
                if place.withdrawals != withdrawals:
                    return
                await self._ask(packets.ADD_ADVERTISING_DATA, data)
        self._counters["ble_sent"] += 1

    async def _ask(self, opcode: int, parameters: bytes) -> None:
        await self._link.ask(opcode, self._index, parameters)
