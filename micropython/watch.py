"""The care for a running agent, once a second: the watchdog, the memory of the radio, the state that the board tells.

A watchdog cannot be stopped, also not in the REPL. So it is started when the agent has reached its gateway once, or
has run for a minute: a board that cannot work at all stays open to tools.
"""

import asyncio
import sys
import time

import machine
import status
from radio_memory import memory

WATCHDOG_MS = 30000  # a loop that stands still resets the board; a turn of the loop takes a hundredth of this
LONG_ENOUGH_MS = 60000
TRIAL_MS = 900000  # in which an agent or a firmware on trial must be confirmed
CHECK_MS = 1000


class Watch:
    """The care for one agent. `storage` is a ports.Storage, `pass_on` takes each event.

    `station` is that of `wifi.py`, or None without Wi-Fi; `radio` the BleRadio, None without Bluetooth, or False if
    that is wanted and does not work.
    """

    def __init__(self, storage, station, radio, pass_on):
        self._storage = storage
        self._station = station
        self._radio = radio
        self._pass_on = pass_on
        self._refused = None  # True or False if the gateway was not reached lately, and refuses or not
        self.trial = False  # this start is one of a trial
        self.counted = True  # this start counts as one that ended within a minute, if it ends now

    def on_event(self, name, values):
        """Take an event of the node, and pass it on."""
        if name == "failed" and values["what"] == "gateway":
            self._refused = values["refused"]
        elif name == "update":
            print("keycast: update", values["state"], values["number"], values["reason"])
        self._pass_on(name, values)

    async def run(self, node):
        """Care for `node`, an api.Node, without end."""
        dog = None
        begun = time.ticks_ms()
        while True:
            memory.check()
            long_enough = not self.counted or time.ticks_diff(time.ticks_ms(), begun) >= LONG_ENOUGH_MS
            if dog:
                dog.feed()
            elif long_enough or node.reached or self.trial:
                dog = machine.WDT(timeout=WATCHDOG_MS)
            if self.counted and long_enough:
                self.over(self._storage)
            if self.trial and time.ticks_diff(time.ticks_ms(), begun) >= TRIAL_MS:
                self._end_trial()
            code = self._state(node)
            status.tell(code, ": %d octets in one piece" % memory.lowest if code == "low-memory" else "")
            await asyncio.sleep_ms(CHECK_MS)

    def over(self, storage, to_repl=False):
        """Note in `storage` that this start does not count. A heap without room for that is tried again later.

        With `to_repl` note also that the next start leads to the REPL.
        """
        if self.counted or to_repl:
            try:
                import strikes

                strikes.over(storage, to_repl)
                self.counted = False
            except MemoryError:
                pass
            except OSError:  # the flash fails, which is no reason to end the agent
                self.counted = False
            sys.modules.pop("strikes", None)

    def _end_trial(self):
        from updates import UpdatesOnDemand

        if UpdatesOnDemand(self._storage).state().trial:
            machine.reset()  # the next start of the trial, or the agent before
        self.trial = False

    def _state(self, node):
        station = self._station
        if memory.low:
            return "low-memory"
        if station and not station.connected() and not (self._radio and node.reached):
            self._refused = None
            if not station.named:
                return "no-wifi-name" if self._radio is None else "no-bluetooth"
            return station.trouble or "connecting"
        if node.pairing:
            return "pairing"
        if node.reached:
            self._refused = None
            return "running"
        if not node.gateway_id:
            return "unpaired"
        if self._refused is None:
            return "connecting"
        return "refused" if self._refused else "no-gateway"
