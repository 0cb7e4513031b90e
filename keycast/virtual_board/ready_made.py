"""A virtual board that is plugged in for the first time with everything on it but an identity."""

from cpns import cborlite
from device_agent.key_store import KeyStore
from keycast.hardware.catalogue import virtual_board
from keycast.micropython_vm import compile
from keycast.virtual_board.nvs_folder import NvsFolder
from keycast.virtual_board.serial_board import SerialBoard

_APP_FILE, _START_FILE = "app.py", "main.py"
_ROMFS = "romfs"
_MARK = "# An application of `keycast board run --join`; replace it with your own.\n"
_APP = """\
import asyncio

async def main(node):
    while True:
        group = await node.join({group!a})
        print("joined", group.id)
        async for message in group:
            print(message.sender, message.data)
        print("no member any more:", group.ended)
        await asyncio.sleep(60)
"""


def joining(group: str) -> str:
    """Return an application that joins a Service Group and prints what is said there."""
    return _MARK + _APP.format(group=group)


def make_ready(board: SerialBoard, app: str, wifi: tuple[str, str]) -> None:
    """Write firmware, agent, application and the name and password of a Wi-Fi into the flash of a board that is off.

    A board whose flash is not blank keeps what is there, and gets the application if it has one of `joining`.
    """
    file = board.flash.vfs / _APP_FILE
    if not board.is_blank:
        if file.is_file() and file.read_text().startswith(_MARK):
            file.write_text(app)
        return
    compile.compile_board()
    romfs = next(row for row in virtual_board().firmware[0].partitions if row.name == _ROMFS)
    board.write_firmware()
    board.flash.write(romfs.offset, compile.BOARD_IMAGE.read_bytes())
    (board.flash.vfs / _START_FILE).write_text((compile.BOARD_TREE / _START_FILE).read_text())
    file.write_text(app)
    KeyStore(NvsFolder(board.flash.path("nvs"))).save("wifi", cborlite.encode([1, *wifi]))
