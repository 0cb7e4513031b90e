"""MQTT as a link between PN GWs and the CPNS Server: a datagram is the payload of a message, a topic names its PN GW.

A PN GW is connected to one broker, any that lets it in, and the CPNS Server to all of them, so brokers need not know of
each other. A broker is a wire: the end that waits for an answer repeats what the broker has lost. It is trusted to let
each end publish under its own tag only (its access list), which `Address.may_be` relies on, and with nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from functools import partial
from typing import Any

from message_plane import tuning
from message_plane.clock import monotonic
from message_plane.errors import PeerUnreachable
from message_plane.links import mqtt_topics, mqtt_trouble
from message_plane.links.link import Address, Link, Receive
from message_plane.links.mqtt_brokers import Brokers, BrokerState
from message_plane.links.mqtt_client import GONE, HERE, means_of
from message_plane.links.mqtt_connection import BrokerConnection
from message_plane.links.mqtt_presence import Whereabouts
from message_plane.links.mqtt_section import Broker, MqttSection, broker_of
from message_plane.links.mqtt_topics import SCHEME, SHARDS
from message_plane.links.mqtt_trouble import BrokerTrouble
from message_plane.rate import Buckets

SECTION = MqttSection

_log = logging.getLogger(__name__)


class MqttAddress(Address):
    """The peer with a tag. Equal if the tag is equal, at whatever broker it is.

    `via` is the broker that brought the datagram, None if none did: the answer goes back there. What no registered peer
    has sent is counted for each broker by itself, because a broker can make up datagrams of any tag.
    """

    __slots__ = ("tag", "times_left", "via")

    echo_proves = False

    def __init__(self, link: MqttLink, tag: str, via: Broker | None = None, times_left: int = 0) -> None:
        """`times_left`: that of `Whereabouts` when the datagram came."""
        super().__init__(link)
        self.tag = tag
        self.via = via
        self.times_left = times_left

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MqttAddress) and self.tag == other.tag and self.link is other.link

    def __hash__(self) -> int:
        return hash(self.tag)

    def __repr__(self) -> str:
        return f"<MqttAddress {self.counted_as}>"

    @property
    def place(self) -> str:
        return mqtt_topics.place_of_tag(self.tag)

    @property
    def counted_as(self) -> str:
        return self.place if self.via is None else f"{self.place}@{self.via}"

    @property
    def carrier(self) -> str:
        return "" if self.via is None else f"{SCHEME}:{self.via}"


class MqttLink(Link[MqttAddress]):
    """The connections of one end to its brokers.

    `counters` counts what is ignored: `mqtt_foreign` (a topic or a payload that is none of this program),
    `mqtt_retained` (a datagram that a broker has kept, or was to keep), `mqtt_oversize`, `mqtt_limited` (more than one
    tag may send); and what a connection counts (`mqtt_connection.BrokerConnection`).
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
        self._tag = mqtt_topics.tag_of(own_id)
        self._known: dict[str, Whereabouts] = {}
        self._rates = Buckets(*tuning.MQTT_PER_SENDER, tuning.MQTT_TAGS_REMEMBERED)
        self._server = mqtt_topics.tag_of(server_id) if serves is None else None  # its tag, of a PN GW
        self._serves = frozenset(serves or ())
        self._receive: Receive | None = None
        self._brokers = Brokers(
            [broker_of(url) for url in section.brokers],
            partial(means_of, section, own_id, process),
            version=section.version,
            counters=self.counters,
            arrived=self._take,
            begin=self._begin,
            use=self._use,
        )
        self._connections = self._brokers.connections

    @property
    def places(self) -> list[str]:
        return [mqtt_topics.place_of_tag(self._tag)] if self._receive else []

    @property
    def brokers(self) -> list[BrokerState]:
        """The states of the brokers, in the order of the section. A PN GW is connected to one of them at most."""
        return self._brokers.states

    def is_present(self, place: str) -> bool | None:
        """Return whether the peer at `place` seems to be reachable now, None if nothing is known. It is only a hint."""
        whereabouts = self._known.get(place.removeprefix(f"{SCHEME}:"))
        return None if whereabouts is None else whereabouts.is_present(self._connections)

    def place_of(self, entity_id: str) -> str:
        return mqtt_topics.place_of(entity_id)

    async def open(self, receive: Receive) -> None:
        """Begin to connect. Returns when each broker was tried once, whether or not it could be reached.

        Raises BrokerFilesRefused if a file of the settings cannot be used.
        """
        self._receive = receive
        try:
            await self._brokers.open(any_one=self._server is not None)
        except BaseException:
            self._receive = None
            raise

    def say_here(self) -> None:
        """Say at each broker once more that this end is here, so that peers send it a sign of life.

        A CPNS Server that has lost its sessions can only wait for PN GWs to make new ones.
        """
        for connection in self._connections.values():
            connection.say_again()

    async def serve(self, shards: Collection[int]) -> None:
        """Hear the PN GWs of `shards` from now on, and no others. A CPNS Server calls this."""
        before, self._serves = self._serves, frozenset(shards)
        ended, begun = mqtt_topics.all_up(before - self._serves), mqtt_topics.all_up(self._serves - before)

        async def change(connection: BrokerConnection) -> None:
            await connection.unsubscribe(ended)
            with suppress(BrokerTrouble):  # the connection is lost, and is made again
                await connection.subscribe(begun)

        await asyncio.gather(*(change(connection) for connection in self._connections.values()))

    def send(self, address: MqttAddress, datagram: bytes) -> None:
        topic = mqtt_topics.down(address.tag) if self._server is None else mqtt_topics.up(self._tag)
        brokers = self._whereabouts(address.tag).brokers(self._connections, address.via)
        if not brokers:
            raise OSError("no broker is connected")
        for broker in brokers:
            self._connections[broker].publish(topic, datagram)

    async def find(self, place: str) -> MqttAddress:
        try:
            tag = mqtt_topics.tag_in(place)
        except ValueError as problem:
            raise PeerUnreachable(str(problem)) from None
        if self._server is not None and tag != self._server:
            raise PeerUnreachable(f"{place} is not the CPNS Server, which alone a PN GW reaches by MQTT")
        return MqttAddress(self, tag)

    def prefer(self, address: MqttAddress) -> None:
        if address.via is not None:
            self._whereabouts(address.tag).prove(address.via, address.times_left)

    async def close(self) -> None:
        self._receive = None
        await self._brokers.close()

    # Private: connections

    async def _begin(self, connection: BrokerConnection) -> None:
        if self._server is not None:
            self._whereabouts(self._server).forget(connection.broker)
            await connection.subscribe([mqtt_topics.down(self._tag), mqtt_topics.presence(self._server)])
        else:
            for whereabouts in self._known.values():
                whereabouts.missed()
            # The broker may have kept the subscriptions to shards that were served before.
            await connection.unsubscribe(mqtt_topics.all_up(frozenset(range(SHARDS)) - self._serves))
            await connection.subscribe([mqtt_topics.EVERY_PRESENCE, *mqtt_topics.all_up(self._serves)])
        connection.say(HERE)

    async def _use(self, connection: BrokerConnection) -> None:
        """Wait until the connection is lost, or until a PN GW should try another broker, where its Server may be.

        Raises BrokerTrouble.
        """
        if self._server is not None:
            self._back(self._server)
        if self._server is None or len(self._brokers.states) == 1:
            raise await connection.lost()
        lost = asyncio.create_task(connection.lost())
        absent_s = 0.0
        try:
            while absent_s < tuning.MQTT_ABSENT_S:
                await asyncio.wait([lost], timeout=tuning.MQTT_ABSENT_S / 4)
                if lost.done():
                    raise lost.result()
                here = self._whereabouts(self._server).is_present(self._connections)
                absent_s = 0.0 if here else absent_s + tuning.MQTT_ABSENT_S / 4
        finally:
            lost.cancel()
        raise mqtt_trouble.server_absent(connection.broker)

    # Private: peers

    def _whereabouts(self, tag: str) -> Whereabouts:
        """Return what is known of a tag, which is remembered. The one that is known longest is forgotten first."""
        known = self._known.get(tag)
        if known is None:
            known = self._known[tag] = Whereabouts()
            if len(self._known) > tuning.MQTT_TAGS_REMEMBERED:
                del self._known[next(iter(self._known))]
        return known

    def _take(self, broker: Broker, topic: str, payload: bytes, retained: bool) -> None:
        """Take a message of a broker."""
        if self._receive is None:
            return
        tag = self._sender(topic)
        if tag is None:
            self.counters["mqtt_foreign"] += 1
        elif mqtt_topics.is_presence(topic):
            self._presence(broker, tag, payload)
        elif retained:
            self.counters["mqtt_retained"] += 1
        elif len(payload) > self.datagram_max:
            self.counters["mqtt_oversize"] += 1
        elif not self._rates.take((tag, broker), monotonic()):
            self.counters["mqtt_limited"] += 1
        else:
            whereabouts = self._whereabouts(tag)
            if whereabouts.heard_by is None:
                self._back(tag)
            whereabouts.heard_by = broker
            self._give(self._receive, bytes(payload), MqttAddress(self, tag, broker, whereabouts.times_left))

    def _sender(self, topic: str) -> str | None:
        """Return the tag of the end that publishes at a topic, None if this end does not listen to it."""
        if self._server is not None and topic == mqtt_topics.down(self._tag):
            return self._server
        tag = mqtt_topics.tag_of_sender(topic)
        if tag is None:
            return None
        if self._server is None:
            heard = mqtt_topics.is_presence(topic) or mqtt_topics.shard_of_tag(tag) in self._serves
            return tag if heard else None
        return tag if mqtt_topics.is_presence(topic) and tag == self._server else None

    def _presence(self, broker: Broker, tag: str, payload: bytes) -> None:
        if payload not in (HERE, GONE):
            self.counters["mqtt_foreign"] += 1
            return
        here = payload == HERE
        if tag == self._tag:
            if not here and broker in self._connections:  # an earlier connection, or another process of this Server
                self._connections[broker].say_again()
            return
        whereabouts = self._whereabouts(tag)
        whereabouts.tell(broker, here=here)
        if here:
            self._back(tag)
        elif not whereabouts.is_present(self._connections):
            self._hint(tag, False)

    def _give(self, receive: Receive, datagram: bytes, address: MqttAddress) -> None:
        try:
            receive(datagram, address)
        except Exception:  # noqa: BLE001 - the library below would give up the connection
            _log.exception("KC3102 a datagram of %s was not taken", address.place)

    def _back(self, tag: str) -> None:
        self._whereabouts(tag).back(lambda: self._hint(tag, True))

    def _hint(self, tag: str, here: bool) -> None:
        if self.hints is not None and self._receive is not None:
            self.hints(mqtt_topics.place_of_tag(tag), here)


def link_of(section: MqttSection, own_id: str, **details: Any) -> MqttLink:
    """Return the link of the entity `own_id` that a section describes. `details`: those of `MqttLink`."""
    return MqttLink(section, own_id, **details)
