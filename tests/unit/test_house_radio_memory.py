"""The memory that a board holds back for its radio: in which UART, when it is released, which UART is left to
applications."""

import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import pytest

from keycast.micropython_vm.board_files import FOLDER

KIB = 1024


class Chip:
    """As much of an ESP32 as `radio_memory` sees: `left` octets in one piece, the UARTs `uarts`."""

    def __init__(self, monkeypatch, left, uarts=(1, 2)):
        self.left = left
        self.open = {}  # number -> [baud rate, octets]
        self.inputs = []
        chip = self

        class Uart:
            def __init__(self, number, baudrate, tx=None, rx=None, rxbuf=256):
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

        def pin(number, mode):
            self.inputs.append(number)

        pin.IN = 1
        esp32 = SimpleNamespace(HEAP_DATA=4, idf_heap_info=lambda kind: [(0, 0, 0, 0), (0, 0, self.left, 0)])
        machine = SimpleNamespace(UART=Uart, Pin=pin)
        self.machine = machine
        monkeypatch.setitem(sys.modules, "esp32", esp32)
        monkeypatch.setitem(sys.modules, "machine", machine)
        spec = importlib.util.spec_from_file_location("radio_memory", FOLDER / "radio_memory.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self.memory = module.memory


def test_it_is_held_until_the_largest_block_gets_small(monkeypatch):
    chip = Chip(monkeypatch, 44 * KIB)
    chip.memory.hold()
    assert chip.open[2][1] == 16 * KIB and chip.inputs == [17]
    for _ in range(3):
        chip.memory.check()
    assert chip.memory.held and chip.memory.lowest is None
    chip.left = 1600  # the Python heap has grown
    chip.memory.check()
    assert not chip.memory.held and not chip.open
    assert chip.memory.lowest == chip.left == 16 * KIB + 1600


@pytest.mark.parametrize(
    ("left", "uarts", "held"),
    [(44, (1,), {1}), (44, (), set()), (4096, (1, 2), set()), (20, (1, 2), set())],
    ids=["C3", "no UART", "PSRAM", "nothing to spare"],
)
def test_what_there_is_decides_what_is_held(monkeypatch, left, uarts, held):
    chip = Chip(monkeypatch, left * KIB, uarts)
    chip.memory.hold()
    assert set(chip.open) == held
    chip.memory.check()
    chip.memory.release()


def test_an_application_that_opens_that_uart_keeps_it(monkeypatch):
    chip = Chip(monkeypatch, 44 * KIB)
    chip.memory.hold()
    chip.machine.UART(2, 9600)
    chip.left = 1600
    chip.memory.check()
    assert chip.open == {2: [9600, 256]}


def test_a_firmware_that_does_not_tell_its_memory_holds_nothing_and_says_nothing(monkeypatch, capsys):
    chip = Chip(monkeypatch, 44 * KIB)
    monkeypatch.setitem(sys.modules, "esp32", ModuleType("esp32"))
    chip.memory.hold()
    chip.memory.check()
    assert not chip.open and chip.memory.lowest is None and not capsys.readouterr().out


def test_a_radio_short_of_memory_is_told_of_once_each_time(monkeypatch, capsys):
    chip = Chip(monkeypatch, 44 * KIB, ())
    for left in (3000, 2000, 5000, 3000, 9000, 3500):
        chip.left = left
        chip.memory.check()
    told = capsys.readouterr().out.splitlines()
    assert [line.split(":")[1].split()[0] for line in told] == ["3000", "3500"]
    assert chip.memory.lowest == 2000
