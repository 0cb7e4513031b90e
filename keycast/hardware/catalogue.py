"""Read the files of `hw_configs/`. A fault is told in a sentence with file, line, key and the value found."""

import tomllib
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError

from gateway_agent.config.toml_lines import line_of
from keycast.hardware.board import Board, Socket
from keycast.hardware.gateway import Gateway
from keycast.places import HW_CONFIGS

Hardware = Board | Gateway
_ANY: TypeAdapter[Hardware] = TypeAdapter(Annotated[Hardware, Field(discriminator="kind")])
VIRTUAL = "virtual"
"""The name of the file of virtual boards, without ".toml"."""

_SIZE_MAX = 64 * 1024


class BadHardwareFile(Exception):
    """A file of `hw_configs/` does not follow the schema. The text says where and how."""


class UsbMatch(NamedTuple):
    """A socket that has a certain USB id: the board's file, the socket, and the names of the states (see UsbIds)."""

    file: str
    socket: Socket
    states: tuple[str, ...]


def load(path: Path) -> Hardware:
    """Return the hardware that the file `path` describes. Raises BadHardwareFile, OSError."""
    with path.open("rb") as file:
        data = file.read(_SIZE_MAX + 1)
    if len(data) > _SIZE_MAX:
        raise BadHardwareFile(f"{path}: longer than {_SIZE_MAX} octets.")
    try:
        text = data.decode("utf-8")
        tree = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise BadHardwareFile(f"{path}, line {line}: not UTF-8.") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadHardwareFile(f"{path}: {error}.") from None
    try:
        return _ANY.validate_python(tree)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
    where = (*fault["loc"][1:], *fault.get("ctx", {}).get("place", ()))  # without the tag of the kind
    line = line_of(text, where) or line_of(text, where[:-1]) or 1
    place = ".".join(str(part) for part in where)
    message = fault["msg"].removeprefix("Value error, ")
    # A fault of a whole table has that table as its input, which is too long to show.
    found = "" if isinstance(fault["input"], dict) else f", found {fault['input']!r}"
    raise BadHardwareFile(f"{path}, line {line}: {place and place + ': '}{message}{found}.")


def all_hardware(folder: Path = HW_CONFIGS) -> dict[str, Hardware]:
    """Return everything in `folder` by the name of its file without ".toml". Raises BadHardwareFile, OSError."""
    return {path.stem: load(path) for path in sorted(folder.rglob("*.toml"))}


def all_boards(folder: Path = HW_CONFIGS) -> dict[str, Board]:
    """Return the boards in `folder` that are hardware, by the name of their file. Raises BadHardwareFile, OSError."""
    return {
        name: each for name, each in all_hardware(folder).items() if isinstance(each, Board) and each.kind == "board"
    }


def virtual_board(folder: Path = HW_CONFIGS) -> Board:
    """Return the board without hardware, whose file is VIRTUAL. Raises BadHardwareFile, OSError."""
    found = load(folder / "boards" / f"{VIRTUAL}.toml")
    assert isinstance(found, Board)
    return found


def usb_matches(usb_id: str, boards: dict[str, Board]) -> list[UsbMatch]:
    """Return the sockets of `boards` that may be a port with this USB id ("303a:1001"); none if it is unknown."""
    found = []
    for file, board in boards.items():
        for socket in board.sockets:
            if states := tuple(state for state, ids in socket.usb_ids if usb_id in ids):
                found.append(UsbMatch(file, socket, states))
    return found
