"""The known hardware, boards and gateways, read from the data files in `hw_configs/`, and their schema."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from tools import PROJECT

FOLDER = PROJECT / "hw_configs"

Radio = Literal["wifi", "ble"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Usb(_Strict):
    """How the board appears on USB: `bridge` is a converter chip, `native` the chip's own port, which disappears and
    comes back at each reset."""

    kind: Literal["bridge", "native", "none"]
    vid_pid: tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{4}:[0-9a-f]{4}$")], ...] = ()


class Board(_Strict):
    """A microcontroller board, or the virtual board.

    `heap_kib` is an estimate of the heap that a program has with the radios of `radios` switched on. With `romfs` the
    firmware maps a ROMFS partition, so that our code needs about half the heap. `rescue` says how a person starts the
    boot loader.
    """

    kind: Literal["board"]
    name: str
    chip: Literal["esp32", "esp32s3", "esp32c3", "virtual"]
    cpu_mhz: Annotated[int, Field(ge=80, le=1000)] | None = None
    flash_mib: Annotated[int, Field(ge=0, le=64)]
    psram_mib: Annotated[int, Field(ge=0, le=32)] = 0
    heap_kib: Annotated[int, Field(ge=32, le=65536)]
    radios: tuple[Radio, ...]
    romfs: bool
    firmware: str = ""
    oldest_micropython: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    usb: Usb
    rescue: str = ""
    notes: tuple[str, ...] = ()


class Gateway(_Strict):
    """A machine for the PN GW. With `shared_antenna`, its own Wi-Fi and Bluetooth disturb each other."""

    kind: Literal["gateway"]
    name: str
    architecture: Literal["amd64", "arm64"]
    systems: Annotated[tuple[str, ...], Field(min_length=1)]
    ram_mib: Annotated[int, Field(ge=256)]
    radios: tuple[Radio, ...]
    shared_antenna: bool
    notes: tuple[str, ...] = ()


Hardware = Annotated[Board | Gateway, Field(discriminator="kind")]
_ANY: TypeAdapter[Board | Gateway] = TypeAdapter(Hardware)


class BadHardwareFile(Exception):
    """A file of `hw_configs/` does not follow the schema. The text says where and how."""


def load(path: Path) -> Board | Gateway:
    """Return the hardware in one file. Raises BadHardwareFile, OSError."""
    try:
        return _ANY.validate_python(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadHardwareFile(f"{path}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BadHardwareFile(f"{path}: {place}: {first['msg']}, found {first['input']!r}") from error


def all_hardware() -> dict[str, Board | Gateway]:
    """Return all known hardware by the name of its file. Raises BadHardwareFile, OSError."""
    return {path.stem: load(path) for path in sorted(FOLDER.rglob("*.toml"))}
