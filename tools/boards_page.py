"""Write the tables of docs/boards.md from the files in `hw_configs/`.

`python -m tools.boards_page` writes what stands between the two marks of the page; a test says when it is out of date.
"""

from collections.abc import Iterable, Iterator

from keycast.hardware.board import Board, Button, Firmware, Led, Partition, Socket
from keycast.hardware.catalogue import Hardware, all_hardware, usb_matches
from keycast.hardware.gateway import Gateway
from tools import PROJECT

PAGE = PROJECT / "docs" / "boards.md"
BEGIN = "<!-- Made from hw_configs/ by `python -m tools.boards_page`; do not edit until the next mark. -->"
END = "<!-- End of what is made. -->"

_CODE = {"flash": "flash (ROMFS or frozen)", "heap": "the heap (`.mpy` files)"}
_DOES = {"boot": "boot loader", "reset": "reset", "user": "for the application"}
_STATES = {"always": "always: a USB-to-UART bridge", "boot_rom": "boot ROM", "micropython": "MicroPython"}
_RADIOS = {"wifi": "Wi-Fi", "ble": "Bluetooth LE"}


def page() -> str:
    """Return the text of docs/boards.md with its tables made anew. Raises ValueError if the page lacks a mark."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text[: text.index(BEGIN)], text[text.index(END) :]
    return "\n".join([before + BEGIN, *tables(all_hardware()), rest])


def tables(hardware: dict[str, Hardware]) -> Iterator[str]:
    """Yield the lines of the tables of `hardware`, which is by the names of its files."""
    boards = {file: each for file, each in hardware.items() if isinstance(each, Board)}
    yield "\n## Boards\n"
    yield "| File | Board | Chip | Flash | PSRAM | Our code runs from | Heap |"
    yield "|---|---|---|---|---|---|---|"
    for file, board in boards.items():
        psram = f"{board.memory.psram_mib} MiB" if board.memory.psram_mib else "none"
        row = f"| {board.chip.name} | {board.flash_mib} MiB | {psram} | {_CODE[board.memory.code]} |"
        yield f"| `{file}` | {board.name} {row} {board.memory.heap_kib} KiB |"
    for file, board in boards.items():
        yield from _section(file, board)
    yield from _usb_ids(boards)
    yield "\n## Gateways\n"
    yield "| File | Machine | Systems | Least memory | Radios | |"
    yield "|---|---|---|---|---|---|"
    for file, gateway in hardware.items():
        if isinstance(gateway, Gateway):
            row = f"{', '.join(gateway.systems)} | {gateway.ram_mib} MiB | {', '.join(gateway.radios) or 'none'}"
            yield f"| `{file}` | {gateway.name} | {row} | {' '.join(gateway.notes)} |"
    yield ""


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


def _usb_ids(boards: dict[str, Board]) -> Iterator[str]:
    yield "\n## USB ids\n"
    yield "An id alone names neither the board nor, behind a bridge, what runs on it.\n"
    yield "| Id | Shown | By |"
    yield "|---|---|---|"
    known = {each for board in boards.values() for socket in board.sockets for _, ids in socket.usb_ids for each in ids}
    for usb_id in sorted(known):
        by_state: dict[str, list[str]] = {}
        for seen in usb_matches(usb_id, boards):
            label = f" ({seen.socket.label})" if seen.socket.label else ""
            for state in seen.states:
                by_state.setdefault(state, []).append(f"`{seen.file}`{label}")
        for state, seen_by in by_state.items():
            yield f"| `{usb_id}` | {_STATES[state]} | {', '.join(seen_by)} |"


def _section(file: str, board: Board) -> Iterator[str]:
    chip = board.chip
    yield f"\n### {board.name}\n"
    yield f"`{file}`: {chip.name} at {chip.mhz} MHz; MicroPython {board.oldest_micropython} or newer.\n"
    if board.sockets:
        yield f"* Sockets, the first is the one to use: {_listed(map(_socket, board.sockets))}."
    names = " and ".join(_RADIOS[radio] for radio in board.radios)
    yield f"* Radios: {names}{', one at a time' if board.one_radio else ''}."
    yield f"* Buttons: {_listed(map(_button, board.buttons))}."
    yield f"* Boot loader: {board.enter_boot_loader}"
    yield f"* Lights: {_listed(map(_led, board.leds))}. UART: TX {board.uart.tx}, RX {board.uart.rx}."
    if reserve := board.memory.reserve:
        yield f"* Reserve: UART {reserve.number}, TX {reserve.tx}, RX {reserve.rx} (memory for the radio)."
    kept = f"the strapping pins {_pins(chip.strapping_pins)}; those of the memory, {_pins(chip.memory_pins)}"
    yield f"* Never to be used: {kept}."
    yield from (f"* {each.strapping}" for each in (*board.buttons, *board.leds) if each.strapping)
    yield from (f"* {note}" for note in board.notes)
    if board.sources:
        yield f"* Read from: {', '.join(f'<{source}>' for source in board.sources)}."
    if board.unverified:
        yield "* Not verified:"
        yield from (f"  * `{place}`: {doubt}" for place, doubt in board.unverified.items())
    written = f"Firmware, written at {chip.firmware_offset:#x}"
    yield f"\n| {written} | From | Our code runs from | Partitions | Known images |"
    yield "|---|---|---|---|---|"
    yield from map(_firmware, board.firmware)


def _firmware(each: Firmware) -> str:
    images = [f"{image.version} `{image.sha256}`" for image in each.images]
    origin = {"published": "micropython.org", "own": "a build of one's own"}[each.origin]
    layout = ", ".join(map(_partition, each.partitions))
    return f"| {each.name} | {origin} | {_CODE[each.code]} | {layout} | {', '.join(images) or 'none yet'} |"


def _partition(row: Partition) -> str:
    return f"{row.name} {row.offset:#x}+{row.size:#x}{' (may lack)' if row.may_lack else ''}"


def _socket(socket: Socket) -> str:
    kind = {"bridge": "a USB-to-UART bridge", "native": "the chip's own USB"}[socket.kind]
    return f"{socket.label or 'the only one'}, {kind}"


def _button(button: Button) -> str:
    pin = "" if button.pin is None else f", GPIO{button.pin}"
    return f"{button.label or 'one without a name'} ({_DOES[button.does]}{pin})"


def _led(led: Led) -> str:
    return f"{led.kind} on GPIO{led.pin}{f' ({led.revision})' if led.revision else ''}"


def _pins(pins: Iterable[int]) -> str:
    return ", ".join(map(str, pins))


def _listed(parts: Iterable[str]) -> str:
    return "; ".join(parts) or "none"


if __name__ == "__main__":
    main()
