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

import asyncio
import os

import machine
import udp_link
import watchdog
from nvs_store import NvsStore
from ticks_clock import TicksClock

from device_agent.agent import Node

PANIC_DELAY_MS = 2000  # time to read a traceback, or to break into the REPL, before the board starts anew


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
    dog = watchdog.Watchdog()
    asyncio.create_task(dog.feed_while_running())
    store = NvsStore()
    station.load(store)
    asyncio.create_task(station.keep_connected())
    app = _application()
    on_event = getattr(app, "on_event", None)
    link = udp_link.UdpLink(station)
    node = Node(store, link, TicksClock(), os.urandom, on_event)
    await node.start()
    if app:
        await app.main(node)
    else:
        await asyncio.Event().wait()


def _application():
    try:
        import app
    except ImportError as error:
        if "'app'" not in str(error):
            raise
        return None
    return app
