"""A board in the MicroPython VM that sends every datagram back by GATT, with the radio and the link of the product."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from keycast.micropython_vm import compile, vm
from keycast.virtual_board import board

ADDRESS = "02:00:00:00:00:03"
"""Its Bluetooth address."""
HEAP_KIB = 96
_PROGRAM = Path(__file__).with_name("on_vm") / "gatt_echo.py"


@asynccontextmanager
async def echo_board(air: Path, flash: Path) -> AsyncIterator[None]:
    """Run the board on the air with this socket; its flash is in the folder `flash`. Raises NoVm."""
    machine = vm.ensure()
    board.build()
    process = await asyncio.create_subprocess_exec(
        *machine.command("-c", "import power_on, gatt_echo", heap_kib=HEAP_KIB),
        env={
            "MICROPYPATH": f"{board.ON_VM_TREE}:.frozen",
            "BOARD_ROM": str(compile.BOARD_IMAGE),
            "BOARD_HARDWARE": str(board.HARDWARE_IMAGE),
            "BOARD_NVS": str(flash),
            "BOARD_APP": str(compile.written_for_board(_PROGRAM).parent),
            "BOARD_BLE": str(air),
            "BOARD_MAC": "020000000001",
        },
        stdin=asyncio.subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.kill()
        await process.wait()
