"""MQTT as a link between PN GWs and the CPNS Server: a datagram is the payload of a message, a topic names its PN GW.

A PN GW is connected to one broker, any that lets it in, and the CPNS Server to all of them, so brokers need not know of
each other. A broker is a wire: the end that waits for an answer repeats what the broker has lost. It is trusted to let
each end publish under its own tag only (its access list), which `Address.may_be` relies on, and with nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from message_plane import tuning
from message_plane.clock import monotonic
from message_plane.errors import PeerUnreachable
from message_plane.links import mqtt_topics, mqtt_trouble
from message_plane.links.link import Address, Link, Receive
from message_plane.links.mqtt_connection import GONE, HERE, BrokerConnection, Means, means_of
from message_plane.links.mqtt_presence import Whereabouts
from message_plane.links.mqtt_section import Broker, MqttSection, broker_of
from message_plane.links.mqtt_topics import SCHEME
from message_plane.links.mqtt_trouble import BrokerTrouble

SECTION = MqttSection

_log = logging.getLogger(__name__)


class MqttAddress(Address):
    """The peer with a tag, at whatever broker it is. Equal if the tag is equal."""

    __slots__ = ("tag", "whereabouts")

    echo_proves = False

    def __init__(self, link: MqttLink, tag: str) -> None:
        super().__init__(link)
        self.tag = tag
        self.whereabouts = Whereabouts()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MqttAddress) and self.tag == other.tag and self.link is other.link

    def __hash__(self) -> int:
        return hash(self.tag)

    def __repr__(self) -> str:
        return f"<MqttAddress {self.place}>"

    @property
    def place(self) -> str:
        return mqtt_topics.place_of_tag(self.tag)

    @property
    def counted_as(self) -> str:
        return self.place


@dataclass(frozen=True, slots=True)
class BrokerState:
    """The connection to one broker: whether there is one, since when (monotonic seconds), and what is wrong with it.

    `problem` is a sentence with the next step, "" if nothing is known to be wrong.
    """

    url: str
    connected: bool
    since_s: float
    problem: str


class MqttLink(Link[MqttAddress]):
    """The connections of one end to its brokers.

    `counters` counts what is ignored: `mqtt_foreign` (a topic or a payload that is none of this program),
    `mqtt_retained` (a datagram that a broker has kept, or was to keep), `mqtt_oversize`; and what a connection counts
    (`mqtt_connection.BrokerConnection`).
    """

    scheme = SCHEME
    datagram_max = tuning.MQTT_DATAGRAM_MAX
    body_max = tuning.MQTT_BODY_MAX
    reliable = True

    def __init__(
        self,
        section: MqttSection,
        own_id: str,
        *,
        server_id: str = "",
        serves: Collection[int] | None = None,
        process: str = "",
        counters: Counter[str] | None = None,
    ) -> None:
        """`own_id`: the entity ID of this end.

        A PN GW gives `server_id`, the entity ID of its CPNS Server. A CPNS Server gives `serves`, the shards whose PN
        GWs it hears (`serve` changes them), and `process`, a name that each of its processes has for itself if there
        are several. Raises ValueError if no broker is named.
        """
        if not section.brokers:
            raise ValueError("no broker is named")
        self.counters: Counter[str] = Counter() if counters is None else counters
        self._section = section
        self._states = {broker_of(url): BrokerState(url, False, 0.0, "") for url in section.brokers}
        self._tag = mqtt_topics.tag_of(own_id)
        self._means = partial(means_of, section, own_id, process)
        self._known: dict[str, MqttAddress] = {}
        self._server = self._address(mqtt_topics.tag_of(server_id)) if serves is None else None
        self._serves = frozenset(serves or ())
        self._connections: dict[Broker, BrokerConnection] = {}
        self._not_5: set[Broker] = set()
        self._left_at: dict[Broker, float] = {}  # monotonic seconds
        self._receive: Receive | None = None
        self._keepers: list[asyncio.Task[None]] = []

    @property
    def places(self) -> list[str]:
        return [mqtt_topics.place_of_tag(self._tag)] if self._receive else []

    @property
    def brokers(self) -> list[BrokerState]:
        """The states of the brokers, in the order of the section. A PN GW is connected to one of them at most."""
        return list(self._states.values())

    def is_present(self, place: str) -> bool | None:
        """Return whether the peer at `place` seems to be reachable now, None if nothing is known. It is only a hint."""
        address = self._known.get(place.removeprefix(f"{SCHEME}:"))
        return None if address is None else address.whereabouts.is_present(self._connections)

    def place_of(self, entity_id: str) -> str:
        return mqtt_topics.place_of(entity_id)

    async def open(self, receive: Receive) -> None:
        """Begin to connect. Returns when each broker was tried once, whether or not it could be reached.

        Raises BrokerFilesRefused if a file of the settings cannot be used.
        """
        means = await asyncio.get_running_loop().run_in_executor(None, self._means)
        self._receive = receive
        brokers = list(self._states)
        for broker in brokers:
            self._states[broker] = replace(self._states[broker], since_s=monotonic())
        rounds = [brokers] if self._server is not None else [[broker] for broker in brokers]
        tried = [asyncio.Event() for _ in rounds]
        self._keepers = [
            asyncio.create_task(self._keep(brokers, means, done), name=f"MQTT, {brokers[0]}")
            for brokers, done in zip(rounds, tried, strict=True)
        ]
        for done in tried:
            await done.wait()

    async def serve(self, shards: Collection[int]) -> None:
        """Hear the PN GWs of `shards` from now on, and no others. A CPNS Server calls this."""
        before, self._serves = self._serves, frozenset(shards)
        for connection in list(self._connections.values()):
            await connection.unsubscribe(mqtt_topics.all_up(before - self._serves))
            with suppress(BrokerTrouble):  # the connection is lost, and is made again
                await connection.subscribe(mqtt_topics.all_up(self._serves - before))

    def send(self, address: MqttAddress, datagram: bytes) -> None:
        topic = mqtt_topics.down(address.tag) if self._server is None else mqtt_topics.up(self._tag)
        brokers = address.whereabouts.brokers(self._connections)
        if not brokers:
            raise OSError("no broker is connected")
        for broker in brokers:
            self._connections[broker].publish(topic, datagram)

    async def find(self, place: str) -> MqttAddress:
        try:
            return self._address(mqtt_topics.tag_in(place))
        except ValueError as problem:
            raise PeerUnreachable(str(problem)) from None

    async def close(self) -> None:
        self._receive = None
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        self._keepers.clear()

    # Private: connections

    async def _keep(self, brokers: Sequence[Broker], means: Means, tried: asyncio.Event) -> None:
        """Keep one connection to any of `brokers`. `tried` is set when one of them is connected, or all were tried."""
        least, most = tuning.MQTT_AGAIN_S
        pause = least
        while True:
            for broker in brokers:
                if await self._hold(broker, means, tried):
                    pause = least
                    await asyncio.sleep(random.uniform(0, least))  # all ends of a broker have lost it at once
            tried.set()
            await asyncio.sleep(random.uniform(0, pause))
            pause = min(2 * pause, most)

    async def _hold(self, broker: Broker, means: Means, connected: asyncio.Event) -> bool:
        """Connect to a broker and stay connected until the connection is lost. Returns False if there was none."""
        is_5 = self._section.version == "5" and broker not in self._not_5
        away_s = monotonic() - self._left_at.get(broker, -tuning.MQTT_EXPIRES_S)
        connection = BrokerConnection(
            broker,
            means,
            lambda topic, payload, retained: self._take(broker, topic, payload, retained),
            self._say,
            self.counters,
            is_5=is_5,
            clean=not is_5 and away_s >= tuning.MQTT_EXPIRES_S,  # in MQTT 5 each message has its expiry
        )
        was_connected = False
        try:
            await connection.open()
            self._connections[broker] = connection
            if self._server is not None:
                self._server.whereabouts.forget(broker)
            await connection.subscribe(self._topics())
            connection.say(HERE)
            was_connected = True
            self._note(broker, is_connected=True)
            _log.info("connected to the broker %s", broker)
            connected.set()
            if self._server is not None:
                self._hint(self._server, True)
            await self._until_lost(connection)
        except BrokerTrouble as trouble:
            if trouble.of_version and self._section.version == "5":
                self._not_5 ^= {broker}
            self._say(trouble)
        except Exception:  # noqa: BLE001 - the other brokers, and this one the next time, may do better
            _log.exception("the connection to the broker %s ended in a fault of this program", broker)
        finally:
            self._connections.pop(broker, None)
            self._note(broker, is_connected=False, problem=self._states[broker].problem)
            if was_connected:
                self._left_at[broker] = monotonic()
            await connection.close()
        return was_connected

    async def _until_lost(self, connection: BrokerConnection) -> None:
        """Return when a PN GW should try another broker, because the Server is not at this one.

        Raises BrokerTrouble when the connection is lost.
        """
        lost = asyncio.create_task(connection.lost())
        absent = 0.0
        try:
            while self._server is None or len(self._states) == 1 or absent < tuning.MQTT_ABSENT_S:
                await asyncio.wait([lost], timeout=tuning.MQTT_ABSENT_S / 4)
                if lost.done():
                    raise lost.result()
                here = self._server is None or self._server.whereabouts.is_present(self._connections)
                absent = 0.0 if here else absent + tuning.MQTT_ABSENT_S / 4
            raise mqtt_trouble.server_absent(connection.broker)
        finally:
            lost.cancel()

    def _topics(self) -> list[str]:
        if self._server is not None:
            return [mqtt_topics.down(self._tag), mqtt_topics.presence(self._server.tag)]
        return [mqtt_topics.EVERY_PRESENCE, *mqtt_topics.all_up(self._serves)]

    def _say(self, trouble: BrokerTrouble) -> None:
        """Log what is wrong with a broker, once for as long as it is the same."""
        state, problem = self._states[trouble.broker], str(trouble)
        if state.problem != problem:
            _log.warning("%s", problem)
        self._states[trouble.broker] = replace(state, problem=problem)

    def _note(self, broker: Broker, *, is_connected: bool, problem: str = "") -> None:
        state = self._states[broker]
        since_s = state.since_s if state.connected == is_connected else monotonic()
        self._states[broker] = replace(state, connected=is_connected, since_s=since_s, problem=problem)

    # Private: peers

    def _address(self, tag: str) -> MqttAddress:
        """Return the one address of a tag, which is remembered. The one that is known longest is forgotten first."""
        address = self._known.get(tag)
        if address is None:
            address = self._known[tag] = MqttAddress(self, tag)
            if len(self._known) > tuning.MQTT_TAGS_REMEMBERED:
                del self._known[next(iter(self._known))]
        return address

    def _take(self, broker: Broker, topic: str, payload: bytes, retained: bool) -> None:
        """Take a message of a broker."""
        if self._receive is None:
            return
        address = self._sender(topic)
        if address is None:
            self.counters["mqtt_foreign"] += 1
        elif mqtt_topics.is_presence(topic):
            self._presence(broker, address, payload)
        elif retained:
            self.counters["mqtt_retained"] += 1
        elif len(payload) > self.datagram_max:
            self.counters["mqtt_oversize"] += 1
        else:
            if address.whereabouts.heard_by is None:
                self._hint(address, True)
            address.whereabouts.heard_by = broker
            self._receive(bytes(payload), address)

    def _sender(self, topic: str) -> MqttAddress | None:
        """Return the address of the end that publishes at a topic, None if this end does not listen to it."""
        if self._server is not None and topic == mqtt_topics.down(self._tag):
            return self._server
        tag = mqtt_topics.tag_of_sender(topic)
        if tag is None:
            return None
        if self._server is None:
            heard = mqtt_topics.is_presence(topic) or mqtt_topics.shard_of_tag(tag) in self._serves
            return self._address(tag) if heard else None
        return self._server if mqtt_topics.is_presence(topic) and tag == self._server.tag else None

    def _presence(self, broker: Broker, address: MqttAddress, payload: bytes) -> None:
        if payload not in (HERE, GONE):
            self.counters["mqtt_foreign"] += 1
            return
        here = payload == HERE
        if address.tag == self._tag:
            if not here and broker in self._connections:  # an earlier connection, or another process of this Server
                self._connections[broker].say(HERE)
            return
        address.whereabouts.tell(broker, here=here)
        if here or not address.whereabouts.is_present(self._connections):
            self._hint(address, here)

    def _hint(self, address: MqttAddress, here: bool) -> None:
        if self.hints is not None:
            self.hints(address.place, here)


def link_of(section: MqttSection, own_id: str, **details: Any) -> MqttLink:
    """Return the link of the entity `own_id` that a section describes. `details`: those of `MqttLink`."""
    return MqttLink(section, own_id, **details)
