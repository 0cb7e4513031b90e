"""Watches the connections to the MQTT brokers: their states for people, and one alarm while a broker is away."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from key_servers.cpns_server import alarms as kinds
from key_servers.cpns_server import tuning
from key_servers.cpns_server.alarms import ServerAlarms
from key_servers.cpns_server.values import BrokerStatus, Moment

if TYPE_CHECKING:
    from message_plane.links.mqtt import MqttLink


class BrokerWatch:
    """The brokers of `link`, which is None until the Server listens, and stays so if it has no brokers."""

    def __init__(self, alarms: ServerAlarms, clock: Callable[[], Moment]) -> None:
        self.link: MqttLink | None = None
        self._alarms = alarms
        self._clock = clock

    def states(self) -> tuple[BrokerStatus, ...]:
        """Return the state of each broker."""
        now = self._clock()
        began = now.unix - now.monotonic
        return tuple(
            BrokerStatus(each.url, each.connected, int(began + each.since_s) if now.unix else 0, each.problem)
            for each in (self.link.brokers if self.link else ())
        )

    def look(self) -> None:
        """Raise the alarm if a broker is away for longer than a restart takes, and clear it when that ends."""
        if self.link is None:
            return
        now = self._clock()
        lasting = now.monotonic - tuning.BROKER_GRACE_S
        away = [each for each in self.link.brokers if not each.connected and each.since_s <= lasting]
        if away:
            told = " ".join(each.problem for each in away)
            self._alarms.set(kinds.BROKER, "", "", f"PN GWs may not be reached: {told}", now)
        else:
            self._alarms.clear(kinds.BROKER, "", "")
