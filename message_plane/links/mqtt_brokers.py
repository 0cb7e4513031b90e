"""The brokers of one end: a connection to each of them, or to any one of them, which is made again when it is lost."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace

from message_plane import tuning
from message_plane.clock import monotonic
from message_plane.errors import BrokerFilesRefused
from message_plane.links.mqtt_client import Means
from message_plane.links.mqtt_connection import BrokerConnection
from message_plane.links.mqtt_section import Broker
from message_plane.links.mqtt_trouble import BrokerTrouble
from message_plane.rate import Bucket

_CANCEL_AGAIN_S = 1.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BrokerState:
    """The connection to one broker: whether there is one, since when (monotonic seconds), and what is wrong with it.

    `problem` is a sentence with the next step, "" if nothing is known to be wrong.
    """

    url: str
    connected: bool
    since_s: float
    problem: str


class Brokers:
    """The connections to brokers that are independent of each other. `connections` has those that can be used now."""

    def __init__(
        self,
        brokers: Collection[Broker],
        means: Callable[[], Means],
        *,
        version: str,
        counters: Counter[str],
        arrived: Callable[[Broker, str, bytes, bool], None],
        begin: Callable[[BrokerConnection], Awaitable[None]],
        use: Callable[[BrokerConnection], Awaitable[None]],
    ) -> None:
        """`means` is called in a thread, as it reads files. `version`: "5" or "3.1.1". `arrived` is called with the
        broker of a message and what `mqtt_client.Arrived` has.

        `begin` is awaited with each new connection, and subscribes. `use` is awaited after that and returns when this
        end should leave the broker. Both raise BrokerTrouble.
        """
        self.connections: dict[Broker, BrokerConnection] = {}
        self._means = means
        self._version = version
        self._counters = counters
        self._arrived = arrived
        self._begin = begin
        self._use = use
        self._states = {broker: BrokerState(str(broker), False, 0.0, "") for broker in brokers}
        self._lines = {broker: Bucket(*tuning.MQTT_LOG_LINES) for broker in brokers}
        self._without_5: set[Broker] = set()
        self._left_at: dict[Broker, float] = {}  # monotonic seconds
        self._keepers: list[asyncio.Task[None]] = []

    @property
    def states(self) -> list[BrokerState]:
        """The states of all brokers, in the order in which they were named."""
        return list(self._states.values())

    async def open(self, *, any_one: bool) -> None:
        """Begin to connect to all brokers, or with `any_one` to the first that can be used.

        Returns when each was tried once, or with `any_one` when one is connected. Raises BrokerFilesRefused.
        """
        means = await asyncio.get_running_loop().run_in_executor(None, self._means)
        for broker, state in self._states.items():
            self._states[broker] = replace(state, since_s=monotonic())
        rounds = [list(self._states)] if any_one else [[broker] for broker in self._states]
        pauses = tuning.MQTT_AGAIN_S if any_one else tuning.MQTT_SERVER_AGAIN_S
        tried = [asyncio.Event() for _ in rounds]
        self._keepers = [
            asyncio.create_task(self._keep(brokers, means, pauses, done), name=f"MQTT, {brokers[0]}")
            for brokers, done in zip(rounds, tried, strict=True)
        ]
        for done in tried:
            await done.wait()

    async def close(self) -> None:
        """End all connections."""
        while self._keepers:
            for keeper in self._keepers:
                keeper.cancel()
            # Below, `asyncio.wait_for` of Python 3.11 loses a cancellation that comes together with its result.
            _, unfinished = await asyncio.wait(self._keepers, timeout=_CANCEL_AGAIN_S)
            self._keepers = list(unfinished)

    # Private

    async def _keep(
        self, brokers: Sequence[Broker], means: Means, pauses: tuple[float, float], tried: asyncio.Event
    ) -> None:
        """Keep a connection to any of `brokers`. `tried` is set when one of them is connected, or all were tried.

        `pauses`: the longest after the first failure, which is doubled, up to the second. All ends of a broker lose it
        at once, so each pause is random.
        """
        least, most = pauses
        pause = least
        while True:
            has_paused = False
            for broker in brokers:
                lasted_s = await self._hold(broker, means, tried)
                has_paused = lasted_s is not None
                if lasted_s is not None:
                    pause = least if lasted_s >= tuning.MQTT_STABLE_S else min(2 * pause, most)
                    await asyncio.sleep(random.uniform(0, pause))
            tried.set()
            if not has_paused:
                await asyncio.sleep(random.uniform(0, pause))
                pause = min(2 * pause, most)
            means = await self._renewed(brokers, means)

    async def _renewed(self, brokers: Sequence[Broker], means: Means) -> Means:
        """Read the files of this end again if a broker has refused them, because a person may have replaced them."""
        if not any(self._states[broker].problem and broker.tls for broker in brokers):
            return means
        try:
            return await asyncio.get_running_loop().run_in_executor(None, self._means)
        except BrokerFilesRefused:
            return means  # it is told what the broker says about the ones before

    async def _hold(self, broker: Broker, means: Means, connected: asyncio.Event) -> float | None:
        """Connect to a broker and stay until the connection is lost or `use` returns.

        Returns how many seconds the connection has lasted, None if there was none.
        """
        is_5 = self._version == "5" and broker not in self._without_5
        since_s: float | None = None
        connection = self._connection(broker, means, is_5=is_5)
        try:
            if not is_5:
                await self._clear(broker, means)
            await connection.open()
            self.connections[broker] = connection
            await self._begin(connection)
            since_s = monotonic()
            self._note(broker, is_connected=True)
            if self._lines[broker].take(monotonic()):
                _log.info("connected to the broker %s", broker)
            connected.set()
            await self._use(connection)
        except BrokerTrouble as trouble:
            self._choose_version(trouble)
            self._say(trouble)
        except Exception:  # noqa: BLE001 - the other brokers, and this one the next time, may do better
            _log.exception("KC3103 the connection to the broker %s ended in a fault of this program", broker)
        finally:
            self.connections.pop(broker, None)
            self._note(broker, is_connected=False, problem=self._states[broker].problem)
            if since_s is not None:
                self._left_at[broker] = monotonic()
                self._without_5.discard(broker)  # it may have been another fault, and brokers are brought up to date
            await connection.close()
        return None if since_s is None else monotonic() - since_s

    async def _clear(self, broker: Broker, means: Means) -> None:
        """Make a broker forget what it has kept, if this end was away for long. In MQTT 5 each message has its expiry.

        Raises BrokerTrouble.
        """
        if monotonic() - self._left_at.get(broker, -tuning.MQTT_EXPIRES_S) < tuning.MQTT_EXPIRES_S:
            return
        connection = self._connection(broker, means, is_5=False, clean=True)
        try:
            await connection.open()
        finally:
            await connection.close()

    def _connection(self, broker: Broker, means: Means, *, is_5: bool, clean: bool = False) -> BrokerConnection:
        def arrived(topic: str, payload: bytes, retained: bool) -> None:
            if not clean:
                self._arrived(broker, topic, payload, retained)

        return BrokerConnection(broker, means, arrived, self._say, self._counters, is_5=is_5, clean=clean)

    def _choose_version(self, trouble: BrokerTrouble) -> None:
        """Try 3.1.1 next if the broker has no MQTT 5; if it only may have none, the other version next."""
        if trouble.of_version and self._version == "5":
            self._without_5 ^= {trouble.broker}

    def _say(self, trouble: BrokerTrouble) -> None:
        """Log what is wrong with a broker, once for as long as it is the same.

        A broker may let this end in and drop it as often as it likes.
        """
        state, problem = self._states[trouble.broker], str(trouble)
        if state.problem != problem and self._lines[trouble.broker].take(monotonic()):
            _log.warning("KC3105 %s", problem)
        self._states[trouble.broker] = replace(state, problem=problem)

    def _note(self, broker: Broker, *, is_connected: bool, problem: str = "") -> None:
        state = self._states[broker]
        since_s = state.since_s if state.connected == is_connected else monotonic()
        self._states[broker] = replace(state, connected=is_connected, since_s=since_s, problem=problem)
