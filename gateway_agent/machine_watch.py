"""Watches the machine that a gateway runs on, and raises alarms if it lacks disk space, a network, the right time or a
way to its CPNS Server."""

import time
from collections.abc import Callable, Iterable
from typing import Protocol

from gateway_agent.core.alarms import BROKER, CLOCK, NETWORK, RADIO, STORE
from gateway_agent.core.ports import Clock
from gateway_agent.repeating import Repeating

LOOK_EVERY_S = 2.5
NETWORK_GRACE_S = 10.0
"""A network may be missing this long without an alarm, as when a cable is moved to another socket."""
BROKER_GRACE_S = 60.0
"""No broker may be connected for this long without an alarm, as while one is restarted."""
CLOCK_GRACE_S = 900.0
"""A clock may be unsynchronised this long without an alarm: after a start it is synchronised within minutes."""
NO_DATE_BEFORE = 1_735_689_600
"""2025-01-01. A clock before this has lost the date, as on a machine without a battery after a power cut."""

SET_BACK_S = 86_400.0
"""A clock that is not synchronised and this much behind a moment that it has shown before was set back."""

_NEXT = "Keys are active when they arrive, and no date is shown. Check: timedatectl"

SetAlarm = Callable[[str, str], None]
"""A function of (kind, text) that raises an alarm, or ends it if the text is empty."""


class Written(Protocol):
    """A store that is watched.

    `trouble` says what is wrong with its medium, "" if nothing is; `probe` checks whether that has ended.
    """

    @property
    def trouble(self) -> str: ...

    def probe(self) -> None: ...


def is_yet_to_come(moment: float, now: float) -> bool:
    """Return whether a moment that was written down lies ahead of the clock, which was ahead then or is behind now.

    Both are Unix seconds. How long ago such a moment was nobody knows, and its age would be nothing for long.
    """
    return moment > now + SET_BACK_S


class ClockWatch:
    """Finds out whether the clock has lost the date or is not synchronised. It does no I/O."""

    def __init__(self, now: float, known: float = 0.0) -> None:
        """`now`: seconds of a monotonic clock; `known`: the latest moment that is known to have been (Unix seconds)."""
        self._in_step_at = now
        self._ahead = known - now  # of the wall clock, at least

    def look(self, now: float, in_step: bool, wall: float) -> str:
        """Return what is wrong with the clock, "" for nothing.

        `now`: monotonic seconds; `in_step`: the clock is synchronised; `wall`: its Unix seconds, right or wrong.
        """
        if in_step:
            self._in_step_at, self._ahead = now, wall - now
        if wall < NO_DATE_BEFORE:
            return f"The clock of this machine has lost the date. {_NEXT}"
        if wall - now < self._ahead - SET_BACK_S:
            date = time.strftime("%Y-%m-%d", time.gmtime(wall))
            return f"The clock of this machine was set back: it says {date}, and it was later before. {_NEXT}"
        if now - self._in_step_at >= CLOCK_GRACE_S:
            return f"Nobody keeps the clock of this machine in step (NTP). {_NEXT}"
        return ""


class MachineWatch:
    """Checks stores, network, media and clock every few seconds, from `start` to `close`."""

    def __init__(
        self,
        stores: Iterable[Written],
        clock: Clock,
        set_alarm: SetAlarm,
        no_network: Callable[[], str] = str,
        broken_radio: Callable[[], str] = str,
        no_broker: Callable[[], str] = str,
        known: float = 0.0,
    ) -> None:
        """`no_network` returns why no broadcast can be sent now, "" if one can or none is wanted.

        `broken_radio` returns which media have not recovered after all steps, "" for none. `no_broker` returns why no
        broker is connected, "" if one is or none is needed. `known`: the latest moment that is known to have been.
        """
        self._no_network = no_network
        self._broken_radio = broken_radio
        self._no_broker = no_broker
        self._network_at = self._broker_at = clock.monotonic()
        self._stores = list(stores)
        self._clock = clock
        self._clock_watch = ClockWatch(clock.monotonic(), known)
        self._set_alarm = set_alarm
        self._turns = Repeating("machine watch", LOOK_EVERY_S, self.look, at_once=True)
        self.start = self._turns.start
        self.close = self._turns.close

    def look(self) -> None:
        """Check everything once, and raise or end the alarms."""
        for store in self._stores:
            store.probe()
        # One alarm for the disk, whichever of the files on it noticed first.
        trouble = next((store.trouble for store in self._stores if store.trouble), "")
        self._set_alarm(STORE, f"Nothing new can be stored: {trouble}" if trouble else "")
        no_network = self._no_network()
        if not no_network:
            self._network_at = self._clock.monotonic()
        lasting = self._clock.monotonic() - self._network_at >= NETWORK_GRACE_S
        self._set_alarm(NETWORK, no_network if lasting else "")
        self._set_alarm(RADIO, "" if no_network else self._broken_radio())
        no_broker = self._no_broker()
        if not no_broker:
            self._broker_at = self._clock.monotonic()
        lasting = self._clock.monotonic() - self._broker_at >= BROKER_GRACE_S
        self._set_alarm(BROKER, no_broker if lasting else "")
        in_step = self._clock.unix() != 0
        self._set_alarm(CLOCK, self._clock_watch.look(self._clock.monotonic(), in_step, time.time()))
