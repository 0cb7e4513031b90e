"""The schema of the files in `hw_configs/boards/`: all that a tool must know of a board before it opens its port."""

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from keycast.hardware.table import Described, Radio, Table, contradiction

KIB = 1024
SECTOR = 0x1000

Pin = Annotated[int, Field(ge=0, le=54)]
Pins = tuple[Pin, ...]
UsbId = Annotated[str, Field(pattern=r"^[0-9a-f]{4}:[0-9a-f]{4}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Version = Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
Text = Annotated[str, Field(min_length=1)]


class Chip(Table):
    """The microcontroller.

    `image_id` is the chip id in the header of its firmware images, and `firmware_offset` the address in the flash at
    which an image begins. `strapping_pins` select how the chip starts, `memory_pins` connect its flash and PSRAM: an
    application uses none of them.
    """

    name: Literal["esp32", "esp32s3", "esp32c3", "esp32c6"]
    mhz: Annotated[int, Field(ge=80, le=1000)]
    image_id: Annotated[int, Field(ge=0, le=0xFFFF)]
    firmware_offset: Literal[0x0, 0x1000]
    strapping_pins: Annotated[Pins, Field(min_length=1)]
    memory_pins: Annotated[Pins, Field(min_length=1)]


class Uart(Table):
    """The pins of a UART."""

    tx: Pin
    rx: Pin


class Reserve(Uart):
    """A UART of the chip that no part of the board uses. Its buffer holds memory back for the radio.

    Its pins are inputs, also while the UART is made (micropython/radio_reserve.py).
    """

    number: Annotated[int, Field(ge=1, le=2)]


class Memory(Table):
    """The memory profile.

    `heap_kib` is the heap that a program has with the radios switched on, both unless the board has `one_radio`. `code`
    says from where our code runs: "flash" is a ROMFS partition or the firmware itself (frozen); "heap", as .mpy files,
    is for boards with PSRAM, since on others it leaves too little memory to the radio. `reserve` is there on boards
    without PSRAM.
    """

    psram_mib: Annotated[int, Field(ge=0, le=32)]
    heap_kib: Annotated[int, Field(ge=32, le=65536)]
    code: Literal["flash", "heap"]
    reserve: Reserve | None = None

    @model_validator(mode="after")
    def _room(self) -> "Memory":
        if self.code == "heap" and not self.psram_mib:
            raise ValueError('without PSRAM the code must run from the "flash"')
        if (self.reserve is None) != bool(self.psram_mib):
            raise ValueError("a board without PSRAM, and no other, has a reserve")
        return self


class UsbIds(Table):
    """The USB ids (vendor:product) of a socket, by the state of the board.

    A bridge has one id in all states, one of `always`. The chip's own USB has one of `boot_rom` in the ROM boot loader
    and one of `micropython` while MicroPython runs.
    """

    always: tuple[UsbId, ...] = ()
    boot_rom: tuple[UsbId, ...] = ()
    micropython: tuple[UsbId, ...] = ()


class Socket(Table):
    """A USB socket. `label` is the text printed beside it, or "" on a board with one socket.

    A "bridge" is a converter chip between USB and the UART of the board; its port stays when the board is reset. A
    "native" socket is that of the chip's own USB, whose port disappears at each reset and comes back. `before` and
    `after` are esptool's options of these names.
    """

    label: str
    kind: Literal["bridge", "native"]
    usb_ids: UsbIds
    before: Literal["default-reset", "usb-reset", "no-reset"] = "default-reset"
    after: Literal["hard-reset", "watchdog-reset", "no-reset"] = "hard-reset"

    @model_validator(mode="after")
    def _states(self) -> "Socket":
        ids = self.usb_ids
        if self.kind == "bridge" and not (ids.always and not ids.boot_rom and not ids.micropython):
            raise ValueError('a bridge has usb_ids "always" and no others')
        if self.kind == "native" and not (ids.boot_rom and ids.micropython and not ids.always):
            raise ValueError('a native socket has usb_ids for "boot_rom" and "micropython" and no others')
        return self


class Wired(Table):
    """A part of the board on a pin. If that is a strapping pin, `strapping` says why, and how it may be used."""

    pin: Pin | None = None
    strapping: str = ""


class Button(Wired):
    """A button. `label` is the printed text, or "" if there is none. A reset button has no pin."""

    does: Literal["boot", "reset", "user"]
    label: str


class Led(Wired):
    """A light that a program can switch: "rgb" is addressed as a WS2812, "plain" is on at 1, "inverted" at 0.

    `revision` is the one of the board that has it on this pin, or "" if all have.
    """

    pin: Pin
    kind: Literal["rgb", "plain", "inverted"]
    revision: str = ""


class Partition(Table):
    """A row of a partition table. MicroPython makes the partition of a row that `may_lack` when it starts."""

    name: Annotated[str, Field(min_length=1, max_length=16)]
    type: Literal["app", "data"]
    offset: Annotated[int, Field(ge=0x9000, multiple_of=SECTOR)]
    size: Annotated[int, Field(ge=SECTOR, multiple_of=SECTOR)]
    may_lack: bool = False

    @property
    def end(self) -> int:
        """The first address behind the partition."""
        return self.offset + self.size


class Image(Table):
    """A known firmware image, by the SHA-256 digest of its file. docs/boards.md says how one is added."""

    version: Version
    sha256: Sha256


class Firmware(Table):
    """A firmware for the board. `name` is the name of MicroPython's board definition, with the variant if any.

    A "published" firmware comes from micropython.org, an "own" one is built by its user. `code` says from where our
    code runs on it. `partitions` is its partition table, in the order of the offsets.
    """

    name: Text
    origin: Literal["published", "own"]
    code: Literal["flash", "heap"]
    partitions: Annotated[tuple[Partition, ...], Field(min_length=1)]
    images: tuple[Image, ...] = ()

    @field_validator("partitions")
    @classmethod
    def _layout(cls, rows: tuple[Partition, ...]) -> tuple[Partition, ...]:
        for first, second in pairwise(rows):
            if first.end > second.offset:
                raise ValueError(f"{second.name} at {second.offset:#x} begins before the end of {first.name}")
        for row in rows:
            if row.type == "app" and row.offset % 0x10000:
                raise ValueError(f"{row.name} holds a program and does not begin at a multiple of 0x10000")
        names = [row.name for row in rows]
        if "nvs" not in names or len(set(names)) < len(names):
            raise ValueError('each name stands once, and one is "nvs"')
        return rows


class Board(Described):
    """A microcontroller board. Of several sockets the first is the one to use.

    A "virtual board" is a process on this machine, and has no sockets. It behaves as a board with its chip.

    `radios` are those that it has; with `one_radio` its memory is enough for one of them at a time, Wi-Fi by default.
    `enter_boot_loader` says what a person does when the board does not enter the boot loader by itself. The boot ROM
    and MicroPython's REPL are on `uart`.
    """

    kind: Literal["board", "virtual board"]
    chip: Chip
    flash_mib: Annotated[int, Field(ge=2, le=64)]
    memory: Memory
    radios: Annotated[tuple[Radio, ...], Field(min_length=1)]
    one_radio: bool = False
    oldest_micropython: Version
    sockets: Annotated[tuple[Socket, ...], Field(max_length=2)]
    buttons: tuple[Button, ...]
    enter_boot_loader: Text
    leds: tuple[Led, ...]
    uart: Uart
    firmware: Annotated[tuple[Firmware, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _sockets_differ(self) -> "Board":
        if bool(self.sockets) != (self.kind == "board"):
            raise contradiction("a board has a socket, a virtual board has none", "sockets")
        labels = [socket.label for socket in self.sockets]
        if len(labels) > 1 and ("" in labels or len(set(labels)) < len(labels)):
            raise contradiction("two sockets need two labels", "sockets")
        return self

    @model_validator(mode="after")
    def _pins(self) -> "Board":
        things: list[tuple[str, int, Wired]] = [("buttons", number, each) for number, each in enumerate(self.buttons)]
        things += [("leds", number, each) for number, each in enumerate(self.leds)]
        for table, number, thing in things:
            if (thing.pin in self.chip.strapping_pins) != bool(thing.strapping):
                raise contradiction("a strapping pin, and no other, has a reason in `strapping`", table, number, "pin")
            if thing.pin in self.chip.memory_pins:
                raise contradiction("the pin belongs to flash or PSRAM", table, number, "pin")
        for name, pin in self.uart:
            if pin in (*self.chip.strapping_pins, *self.chip.memory_pins):
                raise contradiction("a UART on a strapping pin, or on one of flash or PSRAM", "uart", name)
        used = {*self.chip.strapping_pins, *self.chip.memory_pins, self.uart.tx, self.uart.rx}
        used |= {thing.pin for _, _, thing in things if thing.pin is not None}
        for name in ("tx", "rx") if self.memory.reserve else ():
            if getattr(self.memory.reserve, name) in used:
                raise contradiction("the pin has another use on this board", "memory", "reserve", name)
        return self

    @model_validator(mode="after")
    def _firmware_fits(self) -> "Board":
        for number, each in enumerate(self.firmware):
            if each.partitions[-1].end > self.flash_mib * KIB * KIB:
                raise contradiction("the partitions are larger than the flash", "firmware", number, "partitions")
        if all(each.code != self.memory.code for each in self.firmware):
            raise contradiction("no firmware in this file runs our code from there", "memory", "code")
        return self
