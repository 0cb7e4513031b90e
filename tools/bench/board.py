"""The costs of a board: octets of its files, heap, and time for each step, with an estimate for an ESP32.

An ESP32 at 240 MHz (LX6) needs 1.05 to 1.7 cycles for one instruction of the 32-bit x86 VM: 1.05 for arithmetic on big
integers, 1.5 for bytecode, 1.7 for code that waits for the flash (calibrated by MicroPython's own perf_bench on both).
The estimate uses the high ends: 1.5 if P-256 is most of the work, otherwise 1.7. Writes to the flash are not included.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from tools.bench import module_heap
from tools.bench.board_heap import HIGH_KIB, measure_smallest
from tools.bench.board_steps import BoardSteps, NoValgrind, board_octets
from tools.bench.rows import Line, Row, Skipped, Tell

TARGET_FILES, TARGET_HEAP_KIB = 96 * 1024, 80
_TARGETS_MS = {"receive": 1000, "accept": 20}
_HERTZ = 240e6
_CYCLES_P256, _CYCLES = 1.5, 1.7
# name of the step, description, repetitions in one process, True if P-256 is most of it
_STEPS = (
    ("edhoc", "EDHOC handshake", 1, True),
    ("tunnel", "session with the CPNS Server through the PN GW, and a pull", 1, True),
    ("prepare", "table of the signing key, made when idle", 1, True),
    ("receive", "broadcast object to stored key", 3, True),
    ("accept", "broadcast object to stored key without P-256", 4, False),
    ("protect", "group message, protect", 20, False),
    ("open", "group message, open", 20, False),
)


def measure(tell: Tell) -> Iterator[Line]:
    """Yield octets, heap, then time and instructions of each step."""
    yield Row("board: all files (.mpy)", board_octets(), "octets", target=TARGET_FILES, note="before ROMFS, -O2")
    with tempfile.TemporaryDirectory() as folder:
        steps = BoardSteps(Path(folder))
        for step, what, times, p256 in _STEPS:
            tell(what)
            yield Row(f"board VM: {what}", steps.milliseconds(step, times), "ms", note="on this machine")
            try:
                instructions = steps.instructions(step, times)
            except NoValgrind as why:
                yield Skipped(f"ESP32 estimate: {what}", str(why))
                continue
            cycles = _CYCLES_P256 if p256 else _CYCLES
            yield _estimate(what, instructions, cycles, _TARGETS_MS.get(step))
    costs = module_heap.measure()
    for what, modules in (("Bluetooth", module_heap.BLUETOOTH), ("end-to-end groups", module_heap.END_TO_END)):
        found = [cost for cost in costs if cost.module in modules]
        note = f"only boards with {what} load these modules"
        yield Row(f"board: files of {what} (.mpy)", sum(cost.flash for cost in found), "octets", note=note)
        yield Row(f"board: heap of the modules of {what}", sum(cost.heap for cost in found), "octets", note=note)
    try:
        heap, in_use = measure_smallest(tell)
    except ValueError:
        yield Skipped("board: smallest heap", f"{HIGH_KIB} KiB are not enough")
    else:
        work = "session, GKDK of 1,024 slots, 8 groups, and the application"
        stands_in = sum(cost.heap for cost in costs if cost.module in module_heap.HARDWARE) / 1024
        note = f"a new board gets through, EDHOC amid forgeries too; {work}; with modules that stand in for hardware"
        yield Row("board: smallest heap", heap, "KiB", target=TARGET_HEAP_KIB, note=note)
        note = f"the same less the {stands_in:.1f} KiB of these modules, which an ESP32 has in its firmware"
        yield Row("board: smallest heap, native modules", heap - stands_in, "KiB", target=TARGET_HEAP_KIB, note=note)
        yield Row("board: heap in use at the end", in_use / 1024, "KiB", note=f"after a collection; {work}; with them")


def _estimate(what: str, instructions: float, cycles: float, target: float | None) -> Row:
    note = f"{instructions / 1e6:,.2f} M instructions of the VM, {cycles} cycles each at 240 MHz"
    return Row(f"ESP32 estimate: {what}", instructions * cycles / _HERTZ * 1000, "ms", target=target, note=note)
