"""The costs of our files for each board of `hw_configs/`: octets of flash, and of heap once the agent is loaded.

Code that runs from the flash is in a ROMFS image, whose octets stay there. As plain .mpy files, for boards with PSRAM,
it is copied into the heap.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from keycast.hardware import catalogue
from keycast.micropython_vm import compile, vm
from keycast.virtual_board import board
from tools.bench.rows import Line, Row, Tell

HEAP_KIB = 512
PROGRAM = Path(__file__).with_name("on_vm") / "loaded.py"


def measure(tell: Tell) -> Iterator[Line]:
    """Yield two rows for each board file. Raises NoVm."""
    board.build()
    heap = {}
    for code in ("flash", "heap"):
        tell(f"code in the {code}")
        heap[code] = loaded(code) / 1024
    for one in catalogue.all_boards().values():
        code = one.memory.code
        what = "ROMFS image, run in place" if code == "flash" else "sum of .mpy"
        yield Row(f"{one.name}: our files in the flash", flash(code), "octets", note=what)
        yield Row(f"{one.name}: heap, agent loaded", heap[code], "KiB", target=one.memory.heap_kib, note=what)


def flash(code: str) -> int:
    """Return the octets of our files in the flash of a board whose code runs from the "flash" or the "heap"."""
    if code == "flash":
        return compile.BOARD_IMAGE.stat().st_size
    return sum(path.stat().st_size for path in compile.BOARD_TREE.rglob("*") if path.is_file())


def loaded(code: str) -> int:
    """Return the octets of heap in use when the agent is loaded. Raises CalledProcessError."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            "MICROPYPATH": f"{board.ON_VM_TREE}:.frozen",
            "BOARD_ROM": str(compile.BOARD_IMAGE),
            "BOARD_HARDWARE": str(board.HARDWARE_IMAGE),
            "BOARD_NVS": folder,
            # a folder on the path before the image: files there are read into the heap
            "BOARD_APP": str(compile.BOARD_TREE) if code == "heap" else folder,
        }
        command = vm.ensure().command("-c", f"import power_on; exec(open({str(PROGRAM)!r}).read())", heap_kib=HEAP_KIB)
        run = subprocess.run(
            command, env={**os.environ, **environment}, capture_output=True, text=True, check=True, cwd=folder
        )
    return int(run.stdout.split()[-1])
