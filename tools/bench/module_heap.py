"""The costs of each module of a board: octets of .mpy in flash, and of heap once it is imported (code runs in place).

`python -m tools.bench.module_heap` prints the table. Modules are imported leaves first, so that each is charged only
with its own share. Modules that stand in for hardware are native on an ESP32 and use no heap there.
"""

import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from keycast.micropython_vm import board_files, compile, vm
from keycast.virtual_board import board
from tools import board_manifest

HARDWARE = ("air", "machine", "network", "esp32", "socket")
BLUETOOTH = ("pne_ble", "ble")
END_TO_END = ("pne_end_to_end",)
HEAP_KIB = 256
_ON_VM = Path(__file__).with_name("on_vm")


@dataclass(frozen=True)
class Cost:
    """The costs of one module, in octets."""

    module: str
    flash: int
    heap: int


def measure() -> list[Cost]:
    """Return the Cost of each module, leaves first; "vm" is the use before. Raises CalledProcessError."""
    board.build()
    files = board_files.listed(compile.SOURCES / "board" / board_files.in_sources(board_files.MANIFEST.name))
    order = leaves_first(files)
    with tempfile.TemporaryDirectory() as flash:
        environment = {
            "MICROPYPATH": f"{board.ON_VM_TREE}:.frozen",
            "BOARD_ROM": str(compile.BOARD_IMAGE),
            "BOARD_HARDWARE": str(board.HARDWARE_IMAGE),
            "BOARD_NVS": flash,
            "BOARD_APP": str(_ON_VM),
            "BOARD_MODULES": " ".join(["asyncio", *HARDWARE, *map(board_files.dotted, order)]),
        }
        run = subprocess.run(
            vm.ensure().command("-c", "import power_on, module_heap", heap_kib=HEAP_KIB),
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=True,
        )
    sizes = {board_files.dotted(name): (compile.BOARD_TREE / name).with_suffix(".mpy").stat().st_size for name in order}
    rows = [line.split() for line in run.stdout.splitlines()]
    return [Cost(name, sizes.get(name, 0), int(heap)) for name, heap in rows]


def leaves_first(files: Mapping[str, Path]) -> list[str]:
    """Return the bundles, and the modules that START imports, directly or not.

    Constants are written out and need no module.
    """
    order = [f"{name}.py" for name in board_files.BUNDLES if f"{name}.py" in files]  # each needs those before it only

    def visit(name: str) -> None:
        if name in order or name in path:
            return
        path.append(name)
        for module in board_manifest.imported(files[name]):
            for other, _ in board_manifest.files_of(module, board_files.FOLDER):
                if other in files:
                    visit(other)
        path.pop()
        order.append(name)

    path: list[str] = []
    visit(board_files.START)
    return order[:-1]


def main() -> None:
    costs = measure()
    table = Table("module", "flash", "heap", title="What the modules of a board cost, in octets", title_justify="left")
    for cost in costs:
        table.add_row(cost.module, str(cost.flash or ""), str(cost.heap))
    ours = [cost for cost in costs if cost.flash]
    table.add_row("[bold]ours", str(sum(cost.flash for cost in ours)), str(sum(cost.heap for cost in ours)))
    Console().print(table)


if __name__ == "__main__":
    main()
