"""Shows a gateway in Home Assistant, from `start` to `close`: connects, publishes what changes, and takes commands."""

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn, cast

from cpns.errors import CpnsError
from cpns.in_words import reason_text, version_text
from gateway_agent.control import Command
from gateway_agent.core import alarms
from gateway_agent.core.events import KeyArrived, KeyDelivered
from gateway_agent.errors import GatewayError
from gateway_agent.home_assistant import documents, left_behind, seen
from gateway_agent.home_assistant.documents import DELIVERED, RE_KEYED
from gateway_agent.home_assistant.home_broker import HomeBroker, files_in_words, in_words, means_of
from gateway_agent.home_assistant.naming import COMMAND, MqttNames
from gateway_agent.home_assistant.orders import GivenOrder, OrderDesk
from gateway_agent.home_assistant.publisher import Publisher
from gateway_agent.home_assistant.section import HomeAssistantSection
from gateway_agent.observe.event_stream import Stamped
from gateway_agent.observe.sight import Sight
from gateway_agent.store.errors import StoreFailed
from message_plane import tuning
from message_plane.clock import monotonic
from message_plane.errors import BrokerFilesRefused, PlaneError
from message_plane.links.mqtt_trouble import BrokerTrouble
from message_plane.rate import Bucket
from private_store.errors import PrivateStoreError

ASKED_BY = "MQTT"
"""Who has given a command that came over MQTT, for the records of the CPNS Server."""
HEALTH_EVERY_S = 600.0
LOOK_EVERY_S, LOOK_OFTEN_S = 60.0, 5.0
"""Without an event: when a board was heard is none, and how far one is with an update that it is offered."""
TOGETHER_S = 1.0
"""What happens in this time is told together."""
STATES_AT_ONCE, STATES_PAUSE_S = 50, 0.5
"""At most so many states go out without such a pause, so that a home of 1,000 boards does not flood its broker."""
JITTER_S = 5.0
"""Home Assistant has started: not every gateway of a home announces its devices in the same moment."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Wishes:
    """What the publishing task is to do next."""

    look: asyncio.Event = field(default_factory=asyncio.Event)
    announcing: asyncio.TimerHandle | None = None


class HomeAssistant:
    """The gateway in Home Assistant. A broker that is away or refuses is an alarm, and is tried again."""

    commands: Mapping[str, Command] = {}

    def __init__(self, section: HomeAssistantSection, sight: Sight) -> None:
        self._section = section
        self._sight = sight
        self._names = MqttNames(section.prefix, section.discovery, sight.config.gateway.id)
        self._counters = cast("Counter[str]", sight.counters)
        self._desk = OrderDesk(section.allow, self._counters)
        self._wishes = _Wishes()
        self._release = seen.installed()
        self._publisher: Publisher | None = None
        self._orders: set[asyncio.Task[None]] = set()
        self._group_of: dict[str, str] = {}
        self._lines = Bucket(*tuning.MQTT_LOG_LINES)
        self._is_5 = True
        self._is_refused = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin; it does not wait for the broker."""
        self._task = asyncio.create_task(self._run(), name="Home Assistant")

    async def close(self) -> None:
        """Say that the gateway is gone, and end the connection. Commands that run are cancelled."""
        tasks = [task for task in (self._task, *self._orders) if task is not None]
        while tasks:
            for task in tasks:
                task.cancel()
            # Below, `asyncio.wait_for` of Python 3.11 loses a cancellation that comes together with its result.
            _, unfinished = await asyncio.wait(tasks, timeout=1.0)
            tasks = list(unfinished)
        self._task = None

    # Private

    async def _run(self) -> None:
        least, most = tuning.MQTT_AGAIN_S
        pause = least
        while True:
            lasted_s = await self._hold()
            pause = least if lasted_s >= tuning.MQTT_STABLE_S else min(2 * pause, most)
            await asyncio.sleep(random.uniform(pause / 2, pause))

    async def _hold(self) -> float:
        """Connect, and serve until the connection is lost. Return for how many seconds there was one."""
        begin_s: float | None = None
        connection: HomeBroker | None = None
        try:
            means = await asyncio.to_thread(means_of, self._section, self._names)
            connection = HomeBroker(self._section, self._names, means, self._arrived, self._say, is_5=self._is_5)
            await connection.open()
            begin_s = monotonic()
            await self._serve(connection)
        except BrokerTrouble as trouble:
            self._is_5 ^= trouble.of_version
            self._say(trouble)
        except BrokerFilesRefused as problem:
            self._alarm(files_in_words(problem, self._section, self._sight.config_path))
        except Exception:  # noqa: BLE001 - keys flow on, and the next attempt may do better
            _log.exception("KC1602 the connection to Home Assistant's broker ended in a fault of this program")
        finally:
            if connection is not None:
                await connection.close()
        return 0.0 if begin_s is None else monotonic() - begin_s

    async def _serve(self, connection: HomeBroker) -> None:
        """Use a new connection until it is lost. Raises BrokerTrouble."""
        if self._publisher is None:
            kept = await asyncio.to_thread(left_behind.load, self._sight.state_dir)
            self._publisher = Publisher(self._names, self._release, self._section.allow, kept)
        self._publisher.begin_again()
        self._is_refused = False
        await connection.subscribe(self._names.birth, self._names.commands)
        works = [
            asyncio.create_task(work)
            for work in (
                self._publish(connection, self._publisher),
                self._tell_events(connection),
                self._tell_health(connection),
                _until_lost(connection),
            )
        ]
        try:
            done, _ = await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
            for work in done:
                work.result()
        finally:
            for work in works:
                work.cancel()
            await asyncio.gather(*works, return_exceptions=True)

    async def _publish(self, connection: HomeBroker, publisher: Publisher) -> None:
        is_first = True
        while True:
            every_s = LOOK_EVERY_S
            try:
                if await self._look(connection, publisher, is_first=is_first):
                    every_s = LOOK_OFTEN_S
            except StoreFailed as problem:  # other parts raise an alarm for a disk that is full
                _log.debug("Home Assistant is not told what is new: %s", problem)
            else:
                if is_first:
                    await self._note_connected(connection)
                is_first = False
            try:
                async with asyncio.timeout(every_s):
                    await self._wishes.look.wait()
            except TimeoutError:
                pass
            await asyncio.sleep(TOGETHER_S)
            self._wishes.look.clear()

    async def _note_connected(self, connection: HomeBroker) -> None:
        """Note that the broker has taken everything, unless it has refused a topic."""
        await connection.settled()
        if not self._is_refused:
            self._alarm("")
            _log.info("Home Assistant: connected to the broker %s", connection.broker)

    async def _look(self, connection: HomeBroker, publisher: Publisher, *, is_first: bool) -> bool:
        """Publish what has changed since the last look, at the first one everything. Return True if boards update."""
        snapshot = self._sight.snapshot()
        home = seen.shown_of(snapshot, seen.installed())
        self._group_of = {self._names.group(each.sg_id, COMMAND): each.sg_id for each in home.groups}
        if publisher.look(home):
            await self._save(publisher)
        if is_first:
            await connection.say_online()
        for message in publisher.announcements(home):
            await connection.put(*message)
        for count, message in enumerate(publisher.changes(home), 1):
            await connection.put(*message)
            if not is_first and count % STATES_AT_ONCE == 0:
                await asyncio.sleep(STATES_PAUSE_S)
        if gone := publisher.gone():
            for topic in gone:
                await connection.put(topic, b"")
            await connection.settled()
            publisher.forget(gone)
            await self._save(publisher)
        return any(each.available and each.update is not None and each.update.offered_number for each in home.boards)

    async def _save(self, publisher: Publisher) -> None:
        try:
            await asyncio.to_thread(left_behind.save, self._sight.state_dir, publisher.kept)
        except PrivateStoreError as problem:  # other parts raise an alarm for a disk that is full
            _log.debug("what Home Assistant is told is not written down: %s", problem)

    async def _tell_events(self, connection: HomeBroker) -> None:
        with self._sight.stream.subscribe() as subscription:
            async for stamped in subscription:
                self._wishes.look.set()
                if (message := _event(self._names, stamped)) is not None:
                    await connection.put(*message, retain=False)

    async def _tell_health(self, connection: HomeBroker) -> None:
        while True:
            health = self._sight.health()
            payload = documents.health(health.not_live, health.not_ready, int(time.time()))
            await connection.put(self._names.health, payload)
            await asyncio.sleep(HEALTH_EVERY_S)

    def _arrived(self, topic: str, payload: bytes, retained: bool) -> None:
        """Take a message: Home Assistant has started, or a command."""
        if topic == self._names.birth:
            if payload == b"online" and self._wishes.announcing is None:
                delay = random.uniform(0, JITTER_S)
                self._wishes.announcing = asyncio.get_running_loop().call_later(delay, self._announce_again)
            return
        order = self._desk.read(self._group_of.get(topic), payload, is_retained=retained, now=monotonic())
        if order is not None:
            task = asyncio.create_task(self._carry_out(order))
            self._orders.add(task)
            task.add_done_callback(self._orders.discard)

    def _announce_again(self) -> None:
        self._wishes.announcing = None
        if self._publisher is not None:
            self._publisher.announce_again()
            self._wishes.look.set()

    async def _carry_out(self, order: GivenOrder) -> None:
        self._log_rarely("%s is asked for over MQTT (%s)", order.command, ", ".join(order.arguments.values()))
        try:
            await self._sight.command(order.command, by=ASKED_BY, **order.arguments)
        except (CpnsError, GatewayError, PlaneError) as refusal:
            self._counters["home_assistant_refused"] += 1
            self._log_rarely("%s is refused: %s", order.command, refusal)

    def _log_rarely(self, text: str, *values: Any) -> None:
        if self._lines.take(monotonic()):
            _log.info(text, *values)

    def _say(self, trouble: BrokerTrouble) -> None:
        self._is_refused = True
        self._alarm(in_words(trouble, self._section, self._sight.config_path))

    def _alarm(self, text: str) -> None:
        self._sight.set_alarm(alarms.MQTT, text)


async def _until_lost(connection: HomeBroker) -> NoReturn:
    raise await connection.lost()


def _event(names: MqttNames, stamped: Stamped) -> documents.Message | None:
    """Return the message about an event that Home Assistant knows as one, None for others."""
    tell = partial(documents.event, names)
    match stamped.event:
        case KeyArrived(sg_id, version, reason):
            return tell(sg_id, RE_KEYED, version=version_text(version), reason=reason_text(reason))
        case KeyDelivered(sg_id, version, confirmed, members, by_broadcast, seconds):
            counts = {"confirmed": confirmed, "members": members, "by_broadcast": by_broadcast}
            return tell(sg_id, DELIVERED, version=version_text(version), seconds=round(seconds, 1), **counts)
    return None
