"""Alarms: states that a person should look at, each shown once for as long as it lasts.

`keycast status` shows them and ends with exit code 2 while there is one.
"""

from dataclasses import dataclass

from gateway_agent.core import events
from gateway_agent.core.events import Tell
from gateway_agent.core.ports import Clock

OLD_COPY = "old-copy"  # PNEs say that they hold what this PN GW never sent them
STORE = "store"  # the store cannot be written
NETWORK = "network"  # no broadcast can be sent
RADIO = "radio"  # no broadcast can be sent on one of several media, or a medium refuses each datagram
BROKER = "broker"  # no MQTT broker on the way to the CPNS Server is connected
CLOCK = "clock"  # the system clock is not synchronised
UNHEARD = "unheard"  # no PNE confirms broadcasts
SERVER = "server"  # the CPNS Server does not answer
CONFIGURATION = "configuration"  # the file is another one than the gateway was started with
PAGE = "page"  # the page, or /metrics, cannot be served
MQTT = "mqtt"  # the broker of Home Assistant refuses this gateway, or is away
UPDATE = "update"  # boards went back from an update that is offered, or refused it
CODES = {
    OLD_COPY: "KC1001",
    STORE: "KC1002",
    NETWORK: "KC1003",
    RADIO: "KC1004",
    BROKER: "KC1005",
    CLOCK: "KC1006",
    UNHEARD: "KC1007",
    SERVER: "KC1008",
    PAGE: "KC1009",
    MQTT: "KC1010",
    CONFIGURATION: "KC1011",
    UPDATE: "KC1012",
}
"""The code of each kind, by which docs/troubleshooting.md knows it."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """One alarm. `text` says what is wrong and what to do about it.

    `sg_id` or `gateway_id` is "" if the alarm is not about one; `since` is in Unix seconds, 0 if the clock was not
    synchronised. The CPNS Server's alarms have the same parts, and `count`.
    """

    kind: str
    gateway_id: str
    sg_id: str
    since: int
    text: str


class Alarms:
    """The alarms whose causes last. A restart forgets them; they are raised again while their causes last."""

    def __init__(self, gateway_id: str, clock: Clock, tell: Tell = events.nobody) -> None:
        self._gateway_id = gateway_id
        self._clock = clock
        self._tell = tell
        self._standing: dict[tuple[str, str], Alarm] = {}

    def set(self, kind: str, text: str, about: str = "") -> None:
        """Raise an alarm of a kind. `about`: what it is about, such as a network, for kinds that can stand twice.

        An alarm that is raised already keeps its time, gets the new text and is not told again.
        """
        before = self._standing.get((kind, about))
        since = self._clock.unix() if before is None else before.since
        self._standing[kind, about] = Alarm(kind, self._gateway_id, "", since, text)
        if before is None:
            self._tell(events.AlarmBegan(kind, about, text))

    def clear(self, kind: str, about: str = "") -> None:
        """End an alarm. Does nothing if there is no such alarm."""
        ended = self._standing.pop((kind, about), None)
        if ended is not None:
            self._tell(events.AlarmEnded(kind, about, ended.text))

    def standing(self) -> tuple[Alarm, ...]:
        """Return all alarms, oldest first."""
        return tuple(self._standing.values())
