"""The composition of a board: first the radio, then the memory held back for it, then agent and application (SEC-17).

Wi-Fi takes its memory out of what the Python heap has left, and the generator of random numbers is only good while a
radio is on. So the radio is switched on, and memory held back for it, before large modules are imported.

`application.py` runs the application. Without one the board stays a member of its groups.
"""

import gc
import sys

import wifi
from radio_memory import memory

station = wifi.Station()
station.switch_on()
gc.collect()
gc.threshold(4096)  # octets; fewer scattered objects, so that a small heap keeps a kilobyte in one piece

try:
    import before_agent  # pyright: ignore[reportMissingImports]  # noqa: F401 - only boards with a VAL client have it
except ImportError as error:
    if "'before_agent'" not in str(error):
        raise
memory.hold()

# Each import within an import takes C stack, of which an ESP32 has 16 KB: so the deepest modules come first.
for deep in ("cpns.broadcast_encryption.wrapping", "cpns.broadcast_object", "device_agent.session"):
    __import__(deep)

import asyncio
import os
import time

import machine
from application import Application
from nvs_store import NvsStore

from device_agent import tuning
from device_agent.api import Node
from device_agent.clock import Clock
from device_agent.links.udp import UdpLink

WATCHDOG_MS = 30000  # a loop that stands still resets the board; a turn of the loop takes a hundredth of this
CHECK_MS = 1000  # between two times that the watchdog is fed and the radio's memory checked
NETWORK_CHECK_MS = 200
FAILING_POLL_MS = 1000  # polls that fail within this time of each other count as one row
FAILING_POLLS_MAX = 50  # in a row; then the board resets
PANIC_DELAY_MS = 2000  # time to read a traceback, or to break into the REPL, before the board resets


class StationLink(UdpLink):
    """UDP on the station's address, whichever it has; broadcasts go to the network that it is in at the moment."""

    def __init__(self):
        super().__init__("0.0.0.0", "255.255.255.255", hear="0.0.0.0")

    def up(self):
        return station.connected()

    async def changed(self):
        await asyncio.sleep_ms(NETWORK_CHECK_MS)

    def broadcast_address(self):
        return station.broadcast_address() or self._everybody


def run():
    """Run the board without end. An error of the agent is printed, and the board resets."""
    gc.collect()
    try:
        _serve()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - no caller could handle it
        sys.print_exception(error)
        time.sleep_ms(PANIC_DELAY_MS)
        machine.reset()


def _serve():
    # The loop polls its sockets, which fails (EIO) while the system has no memory for that. This is no error of a task,
    # and tasks go on when there is memory again.
    ended = []

    async def main():
        try:
            await _main()
        except Exception as error:  # noqa: BLE001 - raised below
            ended.append(error)

    task = asyncio.create_task(main())
    failures, last = 0, 0
    while not ended:
        try:
            asyncio.core.run_until_complete(task)  # pyright: ignore[reportAttributeAccessIssue] - not in the stubs
        except OSError:
            now = time.ticks_ms()
            failures = failures + 1 if time.ticks_diff(now, last) < FAILING_POLL_MS else 1
            last = now
            if failures > FAILING_POLLS_MAX:
                raise
            memory.check()
            time.sleep_ms(FAILING_POLL_MS // 10)
    raise ended[0]


async def _main():
    store = NvsStore()
    station.load(store)
    app = Application()
    udp = StationLink()
    node = Node(store, [udp], [udp], Clock(), os.urandom, app.on_event)
    gc.threshold(tuning.GARBAGE_MAX)
    running = [_watch(), station.keep_connected(), node.run(), app.keep_running(node)]
    await asyncio.gather(*running)  # ends with the first error


async def _watch():
    dog = machine.WDT(timeout=WATCHDOG_MS)
    while True:
        dog.feed()
        memory.check()
        await asyncio.sleep_ms(CHECK_MS)
