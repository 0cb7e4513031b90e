"""Pack the record `board` of the key store: what the programs on a board must know of its light, button and pins."""

from cpns import cborlite
from keycast.hardware.board import Board

RECORD = "board"
_FORMAT = 1
_NO_PIN = -1


def pack(name: str, board: Board, revision: str = "") -> bytes:
    """Return the record, in CBOR, for a board that the file `name` describes.

    It is a list of the format (1), `name`, the pin of the light and its kind, the pin of the button, and the list of
    number, TX and RX of the UART whose buffer holds memory back for the radio. A pin that the board does not have is
    -1; that last list is empty on a board without such a UART. `revision` is that of the board, if its light depends on
    it; by default the light is the first of the file.
    """
    led = next((led for led in board.leds if not revision or led.revision in ("", revision)), None)
    pin, kind = (led.pin, led.kind) if led else (_NO_PIN, "plain")
    reserve = board.memory.reserve
    uart = [reserve.number, reserve.tx, reserve.rx] if reserve else []
    return bytes(cborlite.encode([_FORMAT, name, pin, kind, _button(board), uart]))


def name_of(record: bytes) -> str:
    """Return the name of the file that describes the board, in a record of `pack`."""
    return str(cborlite.decode(record)[1])


def _button(board: Board) -> int:
    """Return the pin of the button for the application or, on a board without one, of that for the boot loader."""
    pins = {button.does: button.pin for button in board.buttons if button.pin is not None}
    return pins.get("user", pins.get("boot", _NO_PIN))
