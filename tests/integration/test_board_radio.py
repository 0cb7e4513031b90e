"""The Bluetooth radio of a board, in the VM: what its handler does with events, while the heap is locked."""

import json
import os
import re
import subprocess
import tempfile
import textwrap

import pytest

from keycast.micropython_vm import compile, vm
from keycast.micropython_vm.board_files import FOLDER
from keycast.virtual_board import board
from tests.waiting import PATIENCE_S

HEAP_KIB = 96
# `event` calls the handler as the firmware does, with the heap locked, so that what allocates fails.
BEFORE = """
import asyncio, gc, json, os, sys
import micropython
class BLE:
    values, connections, unsent, calls, refuses, ending = {}, [], 0, [], False, False
    def active(self, on=None):
        self.calls.append(["active", on])
    def config(self, **values):
        pass
    def irq(self, handler):
        self.handler = handler
    def gatts_register_services(self, services):
        return ((16, 18),)
    def gatts_set_buffer(self, handle, length):
        pass
    def gatts_read(self, handle):
        if self.values[handle] is None:
            raise MemoryError
        return self.values[handle]
    def gatts_notify(self, connection, handle, value):
        if connection not in self.connections:
            raise OSError(-128)  # ENOTCONN of the ESP32, in a table of octets with a sign
        if self.unsent == 12:
            raise OSError(12)
        self.unsent += 1
    def gap_scan(self, *values):
        self.may("scan", values)
    def gap_advertise(self, interval, data=None, connectable=True):
        self.may("advertise", [interval, data, connectable])
    def gap_disconnect(self, connection):
        self.calls.append(["disconnect", connection])
        if self.ending:
            raise OSError(120)  # EALREADY
        if connection not in self.connections:
            raise OSError(-128)
        return True
    def may(self, what, values):
        if self.refuses:
            raise OSError(5)
        self.calls.append([what, values])
class Module:
    pass
bluetooth = sys.modules["bluetooth"] = Module()
stack = BLE()
bluetooth.BLE, bluetooth.UUID = lambda: stack, str
import ble
COMPANY = 0x1234
radio = ble.BleRadio(COMPANY)
radio.switch_on()
def event(number, data):
    micropython.heap_lock()
    try:
        stack.handler(number, data)
    finally:
        micropython.heap_unlock()
five = [0, bytes(6), 0, -50, b""]
def heard(data):
    five[4] = data
    event(5, five)
def ours(octets, before=b""):
    return before + bytes((27, 0xFF, COMPANY & 255, COMPANY >> 8)) + octets
def advert(number):
    return (number + 1).to_bytes(4, "little") * 6
def connect(connection=1):
    stack.connections.append(connection)
    event(1, [connection, 0, bytes(6)])
def disconnect(connection=1):
    lose(connection)
    event(2, [connection, 0, bytes(6)])
def lose(connection=1):
    if connection in stack.connections:
        stack.connections.remove(connection)
def write(value, connection=1, handle=16):
    stack.values[handle] = value
    event(3, [connection, handle])
async def taken(receive):
    found = []
    async def all_of():
        while True:
            found.append(await receive())
    task = asyncio.create_task(all_of())
    for _ in range(20):
        await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return found
def adverts():
    return [bytes(each) for each in asyncio.run(taken(radio.advert))]
def values():
    return [each and each.decode() for each in asyncio.run(taken(radio.value))]
def turns(count):
    stack.calls.clear()
    real = asyncio.sleep_ms
    asyncio.sleep_ms = lambda ms: real(0)
    async def main():
        task = asyncio.create_task(radio.run())
        for _ in range(count):
            await real(0)
        task.cancel()
    asyncio.run(main())
    asyncio.sleep_ms = real
    return stack.calls
"""


@pytest.fixture(scope="module", autouse=True)
def files():
    board.build()


def run(program):
    """Run a program in a VM that is a board; return what it printed last, in JSON."""
    text = compile.program_for_board(BEFORE + textwrap.dedent(program))
    with tempfile.TemporaryDirectory() as flash:
        environment = {
            "MICROPYPATH": f"{compile.BOARD_TREE}:{board.ON_VM_TREE}:.frozen",
            "BOARD_BLE": "/nobody/hosts/this/air",
            "BOARD_MAC": "020000000001",
            "BOARD_NVS": flash,
        }
        done = subprocess.run(
            vm.ensure().command("-c", text, heap_kib=HEAP_KIB),
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
    assert done.returncode == 0 and not done.stderr, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_our_adverts_are_heard_wherever_they_stand_and_once():
    told = run("""
        for before in (b"", b"\\x02\\x01\\x06", b"\\x00", b"\\x01\\x00", b"\\x00\\x00\\x00"):
            heard(ours(advert(len(before) + before[:1].count(b"\\0")), before))
            heard(ours(advert(len(before) + before[:1].count(b"\\0")), before))
        for number in (100, 101, 102, 103) * 4:
            heard(ours(advert(number)))
        print(json.dumps([int.from_bytes(each[:4], "little") - 1 for each in adverts()] + [radio.lost]))
        """)
    assert told == [0, 3, 2, 4, 100, 101, 102, 103, 0]


@pytest.mark.req("SEC-10")
def test_adverts_of_others_and_broken_ones_are_passed_over_and_leave_nothing():
    """Of 0 to 31 octets, of other companies, with structures that are too long, too short, empty or cut off."""
    told = run("""
        def others():
            for size in range(32):
                yield os.urandom(size)
                yield bytes(size)
                yield b"\\xff" * size
                yield ours(advert(7))[:size] if size < 28 else b"\\x1a" + ours(advert(7))[1:size]
            yield bytes((27, 0xFF, 0x35, 0x12)) + advert(7)
            yield bytes((27, 0xFF, 0x34, 0x13)) + advert(7)
            yield bytes((27, 0x16, 0x34, 0x12)) + advert(7)
            yield b"\\x04" + ours(advert(7))[:30]
            yield b"\\x1e\\xff\\x34\\x12" + bytes(27)
        for data in others():
            heard(data)
        print(json.dumps([len(adverts()), radio.lost]))
        """)
    assert told == [0, 0]


def test_ten_thousand_adverts_take_no_heap():
    told = run("""
        mine = bytearray(ours(advert(0)))
        other = bytearray(31)
        def flood(count):
            for number in range(count):
                mine[4], mine[5] = number & 255, number >> 8
                heard(mine)
                other[0] = number & 31
                heard(other)
        flood(100)
        adverts()
        gc.collect()
        before = gc.mem_alloc()
        flood(10000)
        after = gc.mem_alloc() - before
        lost = radio.lost
        adverts()
        gc.collect()
        print(json.dumps([after, gc.mem_alloc() - before, lost]))
        """)
    grown, kept, lost = told
    assert grown < 200 and kept <= 0 and lost > 9000, "the handler allocates"


def test_a_flood_loses_the_newest_and_is_counted():
    told = run("""
        for number in range(40):
            heard(ours(advert(number)))
        first = [each[0] - 1 for each in adverts()]
        heard(ours(advert(50)))
        print(json.dumps([first, radio.lost, [each[0] - 1 for each in adverts()]]))
        """)
    first, lost, later = told
    assert first == list(range(len(first))) and len(first) >= 15 and lost == 40 - len(first) and later == [50]


def test_values_of_a_central_come_in_order_behind_the_mark_of_its_connection():
    told = run("""
        write(b"too early")
        connect()
        event(21, [1, 247])
        event(21, [2, 100])
        write(b"one")
        write(b"of another", 2)
        write(b"another value", 1, 9)
        write(b"two")
        at = [radio.connected, radio.value_max]
        disconnect(2)
        disconnect()
        connect(3)
        print(json.dumps([at, radio.connected, radio.value_max, values()]))
        """)
    assert told == [[True, 244], True, 20, [None, "one", "two", None]]


def test_the_mtu_of_a_connection_may_be_told_before_it():
    told = run("""
        event(21, [3, 247])
        connect(3)
        early = radio.value_max
        disconnect(3)
        connect(3)
        anew = radio.value_max
        disconnect(3)
        event(21, [3, 247])
        disconnect(3)
        connect(3)
        never = radio.value_max
        disconnect(3)
        event(21, [3, 247])
        connect(4)
        print(json.dumps([early, anew, never, radio.value_max]))
        """)
    assert told == [244, 20, 20, 20]


def test_a_central_that_writes_faster_than_the_board_reads_loses_values_and_their_datagrams():
    told = run("""
        connect()
        for number in range(30):
            write(b"%d" % number)
        first = values()
        write(b"after")
        print(json.dumps([first, radio.lost, values()]))
        """)
    first, lost, later = told
    assert first == [None, "0", "1", "2", "3", "4", "\x02"] and lost == 25 and later == ["after"]


def test_a_value_for_which_there_is_no_room_drops_its_datagram():
    told = run("""
        connect()
        write(None)
        print(json.dumps([values(), radio.lost]))
        """)
    assert told == [[None, "\x02"], 1]


def test_centrals_that_come_and_go_all_the_time_leave_nothing():
    told = run("""
        connect()
        disconnect()
        values()
        gc.collect()
        before = gc.mem_alloc()
        for number in range(400):
            connect(number)
            connect(number + 1)
            disconnect(number + 1)
            disconnect(number)
            if number & 1:
                values()
        gc.collect()
        print(json.dumps([gc.mem_alloc() - before, radio.connected, radio.lost]))
        """)
    grown, connected, lost = told
    assert grown <= 64 and not connected and lost == 0


def test_of_two_centrals_the_former_one_is_sent_away():
    told = run("""
        connect()
        connect(2)
        gone = [values for what, values in turns(2) if what == "disconnect"]
        disconnect(1)
        write(b"x", 2)
        later = [values for what, values in turns(2) if what == "disconnect"]
        print(json.dumps([gone[:1], later, radio.connected, values()]))
        """)
    assert told == [[1], [], True, [None, None, "x"]]


def test_a_connection_that_ends_without_an_event_is_noticed():
    """The ESP32 tells of the begin of one that cannot be established, and not of its end, and advertises by itself."""
    told = run("""
        connect()
        lose()
        radio.disconnect()
        by_hand = radio.connected
        connect()
        lose()
        by_notifying = radio.notify(b"x"), radio.connected
        connect()
        lose()
        connect(2)
        other = [list(turns(1)), list(turns(1))]
        lose(2)
        connect(2)
        write(b"x", 2)
        same = [list(turns(1)), list(turns(1))]
        other, same = [["disconnect", 1] in each for each in other], [["disconnect", 2] in each for each in same]
        print(json.dumps([by_hand, by_notifying, other, same, radio.connected, values()]))
        """)
    assert told == [False, [False, False], [True, False], [False, False], True, [None] * 5 + ["x"]]


def test_a_connection_whose_end_does_not_come_switches_the_radio_off_and_on():
    told = run("""
        connect()
        stack.ending = True
        async def tend():
            while True:
                radio.disconnect()
                await asyncio.sleep(0)
        async def main():
            asyncio.sleep_ms = lambda ms: asyncio.sleep(0)
            tasks = [asyncio.create_task(tend()), asyncio.create_task(radio.run())]
            for _ in range(60):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
        asyncio.run(main())
        print(json.dumps([[values for what, values in stack.calls if what == "active"], radio.connected]))
        """)
    assert told == [[True, False, True], False]


def test_what_each_advert_runs_through_takes_no_frame_from_the_heap():
    """The firmware has 11 words for the frame of a function; another frame is taken from the heap, if that has one."""
    program = FOLDER / "ble.py"
    listing = subprocess.run(
        vm.ensure().command("-v", "-v", "-v", str(program), heap_kib=HEAP_KIB),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    ).stdout
    frames = {}
    for block in listing.split("code block '")[1:]:
        states, tries = re.search(r"\(N_STATE (\d+)\)", block), re.search(r"\(N_EXC_STACK (\d+)\)", block)
        frames[block[: block.index("'")]] = 4 * int(states[1]) + 12 * int(tries[1])
    assert frames["_changed"] > 44
    assert max(frames[name] for name in ("_event", "_scanned", "_keep")) <= 44


def test_the_offer_of_a_connection_and_reports_take_turns():
    told = run("""
        def shown(count):
            return [values for what, values in turns(count) if what == "advertise"]
        idle = shown(6)
        radio.want(True)
        wanting = stack.calls[-1][1]
        radio.report([advert(5), advert(6)])
        both = shown(6)
        connect()
        connected = shown(6)
        radio.report([])
        print(json.dumps([[[each[0], each[1] and list(each[1]), each[2]] for each in some]
                          for some in (idle, [wanting], both, connected, shown(3))]))
        """)
    idle, wanting, both, connected, silent = told
    head = [2, 1, 6, 17, 7, *reversed(bytes.fromhex("5cbf42036591482fbd77d88cdb374332")), 4, 255, 0x34, 0x12]
    assert idle == [[1000000, [*head, 0], True]] and wanting == [[100000, [*head, 1], True]]
    offers, reports = [[each[1] for each in both if each[2] is kind] for kind in (True, False)]
    assert offers and all(each == [*head, 1] for each in offers)
    assert {tuple(each[:5]) for each in reports} == {(27, 255, 0x34, 0x12, 6), (27, 255, 0x34, 0x12, 7)}
    assert [each[1][4] for each in connected if each[1]] and not any(each[2] for each in connected)
    assert silent == [[None, None, False]]


def test_the_scan_begins_anew_now_and_then_with_a_window_as_long_as_its_interval():
    told = run("""
        print(json.dumps([list(values) for what, values in turns(125) if what == "scan"]))
        """)
    assert told == [[None], [0, 100000, 100000]] * 3


def test_a_radio_that_refuses_all_is_switched_off_and_on():
    told = run("""
        stack.refuses = True
        switched = [values for what, values in turns(30) if what == "active"]
        print(json.dumps([switched, radio.failures >= 20, radio.on]))
        """)
    assert told == [[False, True], True, True]
