"""The trial of `keycast server broker-test`: what an MQTT broker must do to serve keycast, tried one by one.

That something is not delivered is shown by what is: a message that is sent after it, and arrives.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from keycast.broker.mosquitto import DATAGRAM_MAX, gateway_rules
from keycast.broker.mqtt_end import Login, MqttEnd
from message_plane.links.mqtt_section import Broker
from message_plane.links.mqtt_topics import EVERY_PRESENCE, database, down, presence, up
from message_plane.links.mqtt_trouble import BrokerTrouble

QUEUED = 1000
_AFTER = b"and after it"


@dataclass(frozen=True)
class Who:
    """Who the trial is for the broker: the CPNS Server with the tag of a process of it, two PN GWs, and a stranger."""

    server_tag: str
    server_client: str
    server: Login
    tags: tuple[str, str]
    gateways: tuple[Login, Login]
    stranger: Login


@dataclass(frozen=True)
class BrokerCheck:
    """One result. `text` says what was seen, `line` what to add to the broker's files where it failed."""

    check: str
    mqtt: str
    passed: bool
    text: str
    line: str = ""


def trial(broker: Broker, who: Who, versions: Sequence[str]) -> list[BrokerCheck]:
    """Try a broker in each of `versions` ("5", "3.1.1"); one that it does not speak is left out if it speaks another.

    Raises BrokerTrouble if it accepts no connection of the CPNS Server in any of them.
    """
    found: list[BrokerCheck] = []
    refused: list[BrokerTrouble] = []
    for version in versions:
        try:
            MqttEnd(broker, who.server, who.server_client, version).connect().close()
        except BrokerTrouble as error:
            refused.append(error)
        else:
            found += _Trial(broker, who, version).checks()
    if not found:
        raise refused[0]
    return found


class _Trial:
    """The checks in one version of MQTT. Each makes connections of its own, so that none spoils the next one."""

    def __init__(self, broker: Broker, who: Who, version: str) -> None:
        self._broker = broker
        self._who = who
        self._version = version
        self._a, self._b = who.tags

    def checks(self) -> list[BrokerCheck]:
        read, write, tell, _ = gateway_rules(self._who.server_tag)
        steps: list[tuple[str, Callable[[], str], str, str]] = [
            ("strangers", self._strangers, "are refused", "allow_anonymous false"),
            ("session", self._session, "waits for a gateway that is away", "persistence true"),
            ("queue", self._queue, f"{QUEUED} messages wait, in order", "max_queued_messages 100000"),
            ("will", self._will, "tells that a gateway is gone", tell),
            ("retained", self._retained, "a Server that comes later learns it, too", "retain_available true"),
            ("size", self._size, "128 KiB arrive whole, both ways", "max_packet_size 135168"),
            ("server", self._server, "the Server tells that it is there", ""),
            ("read", self._read, "no gateway reads what is another's", read),
            ("write", self._write, "no gateway speaks as another one", write),
            ("presence", self._presence, "no gateway tells of another one", tell),
            ("pose", self._pose, "no gateway speaks as the Server", read),
            ("client-id", self._client_id, "no gateway throws out another one", "use_username_as_clientid true"),
        ]
        found = []
        for name, step, what, line in steps:
            try:
                wrong = step()
            except BrokerTrouble as error:
                wrong = str(error)
            found.append(BrokerCheck(name, self._version, not wrong, wrong or what, line if wrong else ""))
        return found

    @contextlib.contextmanager
    def _connected(self, *names: str, will: tuple[str, bytes] | None = None) -> Iterator[list[MqttEnd]]:
        """Yield new connections of "server", "a" and "b", in the order of `names`; `will` is that of the last one."""
        ends: list[MqttEnd] = []
        try:
            for name in names:
                ends.append(self._end(name, will=will if name == names[-1] else None).connect())
            yield ends
        finally:
            for end in ends:
                end.close()

    def _end(
        self, name: str, client_id: str = "", will: tuple[str, bytes] | None = None, stays: bool = False
    ) -> MqttEnd:
        who = self._who
        logins = {"server": who.server, "a": who.gateways[0], "b": who.gateways[1], "stranger": who.stranger}
        ids = {"server": who.server_client, "a": self._a, "b": self._b, "stranger": "stranger"}
        return MqttEnd(self._broker, logins[name], client_id or ids[name], self._version, will, stays)

    def _strangers(self) -> str:
        try:
            self._end("stranger").connect().close()
        except BrokerTrouble:
            return ""
        return "a client without a certificate, a user name or a password is let in"

    def _session(self) -> str:
        with self._connected("server") as (server,), self._away() as granted:
            if granted != 1:
                return f"a subscription with QoS 1 is answered with {granted}"
            if wrong := server.publish(down(self._a), b"it waits"):
                return f"the Server's message to a gateway is not taken: {wrong}"
            back = self._end("a", stays=True).connect()
            try:
                if not back.present:
                    return "the session of a gateway ends with its connection"
                found = back.wait_for(down(self._a), b"it waits")
                if found is None:
                    return "what was sent while a gateway was away is lost"
                return "" if found.qos == 1 else "it arrives with QoS 0"
            finally:
                back.close()

    def _queue(self) -> str:
        with self._connected("server") as (server,), self._away():
            texts = [b"%d" % number for number in range(QUEUED)]
            wrong = server.publish_all([(down(self._a), text) for text in texts])
            back = self._end("a", stays=True).connect()
            arrived: list[bytes] = []
            while len(arrived) < QUEUED and (message := back.wait_for(down(self._a))) is not None:
                arrived.append(bytes(message.payload))
            back.close()
            if arrived == texts:
                return ""
            found = "not all in order" if len(set(arrived)) == QUEUED else f"{len(set(arrived))} of {QUEUED} arrived"
            return wrong or found

    @contextlib.contextmanager
    def _away(self) -> Iterator[int | str | None]:
        """Let gateway a be away: it has a new session, and no connection. Yields what its subscription was granted."""
        self._end("a").connect().close()
        gateway = self._end("a", stays=True).connect()
        gateway.subscribe(down(self._a))
        gateway.close()
        try:
            yield gateway.granted.get(down(self._a))
        finally:
            self._end("a").connect().close()  # ends the session

    def _will(self) -> str:
        with self._connected("server") as (server,):
            server.subscribe(EVERY_PRESENCE)
            gateway = self._end("a", will=(presence(self._a), b"0")).connect()
            wrong = gateway.publish(presence(self._a), b"1", retain=True)
            if wrong or server.wait_for(presence(self._a), b"1") is None:
                gateway.close()
                return wrong or "the Server does not hear that a gateway is there"
            gateway.cut()
            return "" if server.wait_for(presence(self._a), b"0") else "the last will is not told"

    def _retained(self) -> str:
        with self._connected("a", "server") as (gateway, server):
            gateway.publish(presence(self._a), b"0", retain=True)
            server.subscribe(EVERY_PRESENCE)
            told = server.wait_for(presence(self._a), b"0")
            gateway.publish(presence(self._a), b"", retain=True)
            return "" if told is not None and told.retain else "a retained message is not told to who comes later"

    def _size(self) -> str:
        octets = os.urandom(DATAGRAM_MAX)
        with self._connected("server", "a") as (server, gateway):
            server.subscribe(up(self._a))
            gateway.subscribe(down(self._a))
            for sender, topic, receiver in ((server, down(self._a), gateway), (gateway, up(self._a), server)):
                wrong = sender.publish(topic, octets)
                if wrong or receiver.wait_for(topic, octets) is None:
                    return f"{DATAGRAM_MAX} octets do not arrive" + (f": {wrong}" if wrong else "")
        return ""

    def _server(self) -> str:
        """Read and write what only the Server writes. The messages are empty and not retained: they tell nothing."""
        own = [presence(self._who.server_tag), database(self._who.server_tag)]
        with self._connected("a", "server") as (gateway, server):
            gateway.subscribe(own[0])
            server.subscribe(own[1])
            for topic, reader in zip(own, (gateway, server), strict=True):
                wrong = server.publish(topic, b"")
                if wrong or reader.wait_for(topic, b"") is None:
                    return f"{topic} is not delivered" + (f": {wrong}" if wrong else "")
        return ""

    def _read(self) -> str:
        secret = os.urandom(8)
        with self._connected("server", "a", "b") as (server, gateway, other):
            other.subscribe(down(self._b))
            for topic in (down(self._b), "keycast/1/#", "keycast/1/up/+/+"):  # each alone: one may end the connection
                gateway.subscribe(topic)
            other.publish(up(self._b), secret)
            server.publish(down(self._b), secret)
            server.publish(down(self._a), _AFTER)
            gateway.wait_for(down(self._a), _AFTER)
            if gateway.has_heard(down(self._b), secret) or gateway.has_heard(up(self._b), secret):
                return "a gateway has read a message that is another's"
            return "" if other.wait_for(down(self._b), secret) else "the gateway that it is for has not got it"

    def _write(self) -> str:
        return self._forged(up(self._b), "a message in the name of another gateway has reached the Server", "server")

    def _presence(self) -> str:
        return self._forged(presence(self._b), "a gateway has told that another one is there", "server")

    def _pose(self) -> str:
        return self._forged(down(self._b), "a message in the name of the Server has reached another gateway", "b")

    def _forged(self, topic: str, wrong: str, victim: str) -> str:
        """Let gateway a publish at a topic that is not its own, then somebody at a topic of the victim that is."""
        forged = os.urandom(8)
        with self._connected("server", "b", "a") as (server, other, gateway):
            if victim == "server":
                server.subscribe("keycast/1/up/+/+", EVERY_PRESENCE)
                allowed, sender, receiver = up(self._b), other, server
            else:
                other.subscribe(down(self._b))
                allowed, sender, receiver = down(self._b), server, other
            gateway.publish(topic, forged)  # acknowledged or refused before the next one is sent
            sender.publish(allowed, _AFTER)
            if receiver.wait_for(allowed, _AFTER) is None:
                return "what is allowed does not arrive"
            return wrong if receiver.has_heard(topic, forged) else ""

    def _client_id(self) -> str:
        with self._connected("server", "b") as (server, other):
            other.subscribe(down(self._b))
            thief = self._end("a", client_id=self._b)
            with contextlib.suppress(BrokerTrouble):
                thief.connect()
                thief.close()
            server.publish(down(self._b), _AFTER)
            is_there = other.wait_for(down(self._b), _AFTER) is not None
            return "" if is_there else "a gateway that takes another one's client ID throws it out"
