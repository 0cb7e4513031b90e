"""The composition of a board: first its radios, then memory held back for them, then agent and application (SEC-17).

A radio takes its memory out of what the Python heap has left, and the generator of random numbers is only good while
one is on. So radios are switched on, and memory held back for them, before large modules are imported: Wi-Fi first,
which does not find its memory after Bluetooth. A board with the record `ble` has Bluetooth, and Wi-Fi only if it also
knows an access point.

`application.py` runs the application. Without one the board stays a member of its groups.
"""

import gc
import sys

import wifi
from board_record import parts
from nvs_store import NvsStore
from radio_memory import memory

from device_agent.key_store import KeyStore

storage = NvsStore()
store = KeyStore(storage)
station = radio = None  # radio: False for one that is wanted and does not work
record = store.load("ble")  # micropython/ble.py
if record is None or store.load(wifi.RECORD) is not None:
    station = wifi.Station()
    station.switch_on()
if record is not None:
    try:
        import ble

        radio = ble.switched_on(record)
    except (ImportError, MemoryError, OSError) as error:  # a chip or a firmware without it, or no room for it
        print("no Bluetooth:", repr(error))
        radio = ble = False
        sys.modules.pop("ble", None)
        if station is None:
            station = wifi.Station()
            station.switch_on()  # for random numbers
gc.collect()
gc.threshold(4096)  # octets; fewer scattered objects, so that a small heap keeps a kilobyte in one piece

try:
    import before_agent  # pyright: ignore[reportMissingImports]  # noqa: F401 - only boards with a VAL client have it
except ImportError as error:
    if "'before_agent'" not in str(error):
        raise
NAME, LIGHT_PIN, LIGHT_KIND, BUTTON_PIN, UART = parts(store)
memory.hold(UART)
del parts, record, store, sys.modules["board_record"]

import asyncio
import os
import time

import console
import machine
import status
from application import Application
from updates import UpdatesOnDemand
from watch import Watch

from device_agent import tuning
from device_agent.api import Node
from device_agent.clock import Clock
from device_agent.links.udp import UdpLink

NETWORK_CHECK_MS = 200
FAILING_POLL_MS = 1000  # polls that fail within this time of each other count as one row
FAILING_POLLS_MAX = 50  # in a row; then the board resets
PANIC_DELAY_MS = 2000  # time to read a traceback
LAST_WORDS_MS = 200  # time for what was printed to leave by the chip's own USB

app = Application()
watch = Watch(storage, station, radio, app.on_event)


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


def run(trial=False):
    """Run the board until a tool asks for the end, or an error ends the agent; then the board resets.

    `trial`: the agent or the firmware is on trial, and must be confirmed soon.
    """
    watch.trial = trial
    gc.collect()
    try:
        try:
            _serve()
        except SystemExit:
            raise
        except KeyboardInterrupt as end:  # from the console, or by Ctrl-C
            print("keycast: ended")
            # Programs such as mpremote send Ctrl-C and do not know of the window: the next start stays in the REPL
            restart(type(end) is not console.End)
        except BaseException as error:  # noqa: BLE001 - no caller could handle it
            sys.print_exception(error)
            _note(error)
            time.sleep_ms(PANIC_DELAY_MS)
    except (KeyboardInterrupt, OSError):  # once more, or of the flash: there is no way into the REPL, where the
        pass  # watchdog bites
    machine.reset()


def restart(to_repl=False):
    """Reset the board as a step of its work: this start does not count as one that failed (`strikes.py`).

    With `to_repl` the next start leads to the REPL, and the one after it to the agent again.
    """
    watch.over(NvsStore(), to_repl)  # another one, as Ctrl-C may have come between two writes of the first
    time.sleep_ms(LAST_WORDS_MS)
    machine.reset()


def _note(error):
    try:
        import strikes

        strikes.note(NvsStore(), error, watch.trial)
    except (OSError, MemoryError):  # it was printed at least
        pass


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
    if not storage.cleared:
        status.tell("not-cleared")
    clock = Clock()
    links, media, running = [], [], []
    if station:
        station.load(storage)
        udp = StationLink()
        links.append(udp)
        media.append(udp)
        running.append(station.keep_connected())
    if radio:
        from device_agent.adverts import AdvertMedium
        from device_agent.links.gatt import GattLink

        links.append(GattLink(radio, clock))
        media.append(AdvertMedium(radio, clock))
        running.append(radio.run())  # pyright: ignore[reportAttributeAccessIssue]
    node = Node(storage, links, media, clock, os.urandom, watch.on_event, UpdatesOnDemand(storage))
    gc.threshold(tuning.GARBAGE_MAX)
    running += [watch.run(node), node.run(), app.keep_running(node), console.serve(lambda: _describe(node, links))]
    if LIGHT_PIN >= 0:
        running.append(_blink())
    if BUTTON_PIN >= 0 or not node.paired:
        running.append(_serve_pairing(node))
    await asyncio.gather(*running)  # ends with the first error


def _describe(node, links):
    try:
        from describe import who

        who(node, NAME, storage.cleared, station, radio, links)
    except MemoryError:
        print("keycast: who {}")
    sys.modules.pop("describe", None)


def _serve_pairing(node):
    import pairing_window

    pressed = None
    if BUTTON_PIN >= 0:
        pin = machine.Pin(BUTTON_PIN, machine.Pin.IN, machine.Pin.PULL_UP)
        pressed = lambda: not pin.value()  # noqa: E731 - smaller than a function
    return pairing_window.serve(node, pressed)


async def _blink():
    from light import Light, rhythm

    light = Light(LIGHT_PIN, LIGHT_KIND)
    while True:
        for on_ms, off_ms in rhythm(*status.blinks):
            if on_ms:
                light.switch(True)
                await asyncio.sleep_ms(on_ms)
            light.switch(False)
            await asyncio.sleep_ms(off_ms)
