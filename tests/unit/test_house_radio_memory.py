"""The memory that a board holds back for its radio: in which UART, when it is released, which UART is left to
applications."""

import importlib
import sys
from types import ModuleType, SimpleNamespace

import pytest

from keycast.hardware.board import Board
from keycast.hardware.catalogue import all_hardware
from keycast.micropython_vm.board_files import FOLDER

KIB = 1024
NATIVE_USB = {"esp32": set(), "esp32s3": {19, 20}, "esp32c3": {18, 19}, "esp32c6": {12, 13}}


def boards() -> list[Board]:
    return [each for each in all_hardware().values() if isinstance(each, Board)]


class Chip:
    """As much of an ESP32 as `radio_memory` sees: `left` octets in one piece, the UARTs `uarts`."""

    def __init__(self, monkeypatch, left, uarts=(1, 2), name="Generic ESP32 module with ESP32"):
        self.left = left
        self.open = {}  # number -> [baud rate, octets]
        self.pins = []  # (number, whether its state is held) of each time that one was made an input
        chip = self

        class Uart:
            def __init__(self, number, baudrate, tx=None, rx=None, rxbuf=256):
                assert tx is None or chip.pins[-1] in ((tx, True), (rx, True))
                if number not in uarts:
                    raise ValueError(f"UART({number}) does not exist")
                if number in chip.open:
                    chip.left += chip.open[number][1]
                chip.open[number] = [baudrate, rxbuf]
                chip.left -= rxbuf
                self.number = number

            def __str__(self):
                return f"UART({self.number}, baudrate={chip.open[self.number][0]})"

            def deinit(self):
                chip.left += chip.open.pop(self.number)[1]

        class Pin:
            IN = 1

            def __init__(self, number, mode, pull, hold):
                self.number = number
                self.init(mode, pull, hold)

            def init(self, mode, pull, hold):
                chip.pins.append((self.number, hold))

        esp32 = SimpleNamespace(HEAP_DATA=4, idf_heap_info=lambda kind: [(0, 0, 0, 0), (0, 0, self.left, 0)])
        machine = SimpleNamespace(UART=Uart, Pin=Pin)
        self.machine = machine
        monkeypatch.setitem(sys.modules, "esp32", esp32)
        monkeypatch.setitem(sys.modules, "machine", machine)
        monkeypatch.setattr(sys.implementation, "_machine", name, raising=False)
        monkeypatch.syspath_prepend(str(FOLDER))
        monkeypatch.delitem(sys.modules, "radio_memory", raising=False)
        self.memory = importlib.import_module("radio_memory").memory


def test_it_is_held_until_the_largest_block_gets_small(monkeypatch):
    chip = Chip(monkeypatch, 44 * KIB)
    chip.memory.hold([])
    assert chip.open[2][1] == 16 * KIB and chip.pins == [(33, True), (33, False)]
    for _ in range(3):
        chip.memory.check()
    assert chip.memory.held and chip.memory.lowest is None
    chip.left = 1600  # the Python heap has grown
    chip.memory.check()
    assert not chip.memory.held and not chip.open
    assert chip.memory.lowest == chip.left == 16 * KIB + 1600


@pytest.mark.parametrize(
    ("left", "uarts", "name", "held"),
    [
        (44, (1,), "ESP32C3 module with ESP32C3", {1}),
        (44, (), "Generic ESP32 module with ESP32", set()),
        (44, (1, 2), "M5Stack Atom with ESP32-PICO-D4", set()),
        (4096, (1, 2), "Generic ESP32S3 module with Octal-SPIRAM with ESP32S3", set()),
        (20, (1, 2), "Generic ESP32 module with ESP32", set()),
    ],
    ids=["C3", "no UART", "memory on unknown pins", "PSRAM", "nothing to spare"],
)
def test_what_there_is_decides_what_is_held(monkeypatch, left, uarts, name, held):
    chip = Chip(monkeypatch, left * KIB, uarts, name)
    chip.memory.hold([])
    assert set(chip.open) == held
    chip.memory.check()
    chip.memory.release()


def test_a_board_that_is_known_has_pins_of_its_own(monkeypatch):
    chip = Chip(monkeypatch, 44 * KIB, name="M5Stack Atom with ESP32-PICO-D4")
    chip.memory.hold([1, 22, 19])
    assert set(chip.open) == {1}
    assert sorted(chip.pins) == [(19, False), (19, True), (22, False), (22, True)]


@pytest.mark.parametrize("board", boards(), ids=lambda board: board.name)
def test_without_a_record_no_board_that_is_known_has_something_else_on_these_pins(monkeypatch, board):
    chip = Chip(monkeypatch, 44 * KIB, name=f"a module with {board.chip.name.upper()}")
    chip.memory.hold([])
    used = {each.pin for each in (*board.buttons, *board.leds)} | {board.uart.tx, board.uart.rx}
    taken = used | {*board.chip.strapping_pins, *board.chip.memory_pins} | NATIVE_USB[board.chip.name]
    assert chip.open and not {pin for pin, _ in chip.pins} & taken


def test_an_application_that_opens_that_uart_keeps_it(monkeypatch):
    chip = Chip(monkeypatch, 44 * KIB)
    chip.memory.hold([])
    chip.machine.UART(2, 9600)
    chip.left = 1600
    chip.memory.check()
    assert chip.open == {2: [9600, 256]}


def test_a_firmware_that_does_not_tell_its_memory_holds_nothing_and_says_nothing(monkeypatch, capsys):
    chip = Chip(monkeypatch, 44 * KIB)
    monkeypatch.setitem(sys.modules, "esp32", ModuleType("esp32"))
    chip.memory.hold([])
    chip.memory.check()
    assert not chip.open and chip.memory.lowest is None and not capsys.readouterr().out


def test_a_radio_short_of_memory_stays_so_until_it_has_enough_again(monkeypatch):
    chip = Chip(monkeypatch, 44 * KIB, ())
    low = []
    for left in (3000, 2000, 5000, 9000, 5000, 3500):
        chip.left = left
        chip.memory.check()
        low.append(chip.memory.low)
    assert low == [True, True, True, False, False, True]
    assert chip.memory.lowest == 2000
