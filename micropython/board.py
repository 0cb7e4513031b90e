"""The composition of a board: radio first, then the application's memory, then the agent (SEC-17).

Wi-Fi takes its memory out of what the Python heap has left, and the generator of random numbers is only good while a
radio is on: so the radio is switched on before anything large is imported.

An application is a module `app` on the board with `async def main(node)` (`device_agent.api.Node`) and, if it wants,
`on_event(name, values)`. Without one the board keeps the groups it is a member of.
"""

import gc
import sys

import wifi

station = wifi.Station()
station.switch_on()
gc.collect()
gc.threshold(4096)  # octets: what stays lies close together, or no kilobyte in one piece is left in a small heap

try:
    import before_agent  # pyright: ignore[reportMissingImports]  # noqa: F401 - only boards with such work have it
except ImportError as error:
    if "'before_agent'" not in str(error):
        raise

# An import within an import within an import eats the C stack (16 KB on an ESP32): what lies deep comes first.
for deep in ("cpns.broadcast_encryption.wrapping", "cpns.broadcast_object", "device_agent.session"):
    __import__(deep)

import asyncio
import os

import machine
import watchdog
from nvs_store import NvsStore

from device_agent import tuning
from device_agent.api import Node
from device_agent.clock import Clock
from device_agent.links.udp import UdpLink

PANIC_DELAY_MS = 2000  # time to read a traceback, or to break into the REPL, before the board starts anew


class StationLink(UdpLink):
    """UDP on whatever address the station has; broadcasts go to the network it is on at this moment."""

    def __init__(self):
        super().__init__("0.0.0.0", "255.255.255.255", hear="0.0.0.0")

    def broadcast(self, port, datagram):
        self._everybody = station.broadcast_address() or self._everybody
        super().broadcast(port, datagram)


def run():
    """Run until the power goes; an error of the agent or the application is printed and the board starts anew."""
    gc.collect()
    try:
        asyncio.run(_main())
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - a board has nobody else to tell
        sys.print_exception(error)
        import time

        time.sleep_ms(PANIC_DELAY_MS)
        machine.reset()


async def _main():
    store = NvsStore()
    station.load(store)
    app = _application()
    node = Node(store, StationLink(), Clock(), os.urandom, getattr(app, "on_event", None))
    gc.threshold(tuning.GARBAGE_MAX)
    running = [watchdog.Watchdog().feed_while_running(), station.keep_connected(), node.run()]
    if app:
        running.append(app.main(node))
    await asyncio.gather(*running)  # ends with the first error


def _application():
    try:
        import app  # pyright: ignore[reportMissingImports] - of whoever uses the board
    except ImportError as error:
        if "'app'" not in str(error):
            raise
        return None
    return app
