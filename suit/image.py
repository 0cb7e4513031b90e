"""The images that updates bring, as who signs, shows or offers one looks at it. A board looks at it on trial only.

That of an agent is a file system of MicroPython's `vfs.VfsRom` (ROMFS, 1.25 and later): records of (kind, length,
payload), numbers in groups of seven bits, highest first. That of a firmware is an application for an ESP32.
"""

from collections.abc import Iterator

from cpns.errors import MalformedMessage
from suit.class_id import agent, class_id
from suit.envelope import AGENT, Envelope

MAGIC = b"\xd2\xcd\x31"
VERBATIM, DIRECTORY, FILE = 2, 4, 5
"""The kinds of records: the octets of a file, and a folder and a file, which begin with their name."""
NAME_MAX = 55
"""Octets of the name of a file or a folder: what comes before the octets of a file has 64 octets on boards."""
MPY = 6
"""The version of .mpy files that MicroPython 1.25 and 1.26 run."""
NEEDED = ("start.mpy", "board.mpy", "cpns/__init__.mpy", "suit/__init__.mpy", "device_agent/__init__.mpy")
"""What the agent of every release has. In place of what lacks, that of another agent would run."""
OF_VAL_CLIENT = "device_agent/val_client/__init__.mpy"
"""What the agent of a VAL client has beside that, and no other."""
DEPTH_MAX = 8
"""Folders inside each other, the image included."""

_PROGRAM = b"\xe9"
_DESCRIPTION_AT, _DESCRIPTION = 32, b"\x32\x54\xcd\xab"  # of every application, behind the heads of file and segment


def require(update: Envelope) -> None:
    """Raise MalformedMessage unless the image of an update, which has one, can be the agent or firmware that it is said
    to be."""
    image: bytes = update.image
    if update.kind != AGENT:
        if not image.startswith(_PROGRAM) or not image.startswith(_DESCRIPTION, _DESCRIPTION_AT):
            raise MalformedMessage("the image of the firmware is no application for an ESP32")
        return
    found = files(image)
    needed = list(NEEDED)
    if update.class_id == class_id(agent(MPY, val_client=True)):
        needed.append(OF_VAL_CLIENT)
    for name in needed:
        if name not in found:
            raise MalformedMessage(
                f"the image of the agent lacks {name}: sign the folder that keycast board files has written"
            )


def files(image: bytes) -> dict[str, int]:
    """Return the files in the image of an agent, path -> octets. Raises MalformedMessage if boards do not read it."""
    if not image.startswith(MAGIC):
        raise MalformedMessage("the image of the agent is no ROMFS image")
    size, at = _number(image, len(MAGIC), len(image))
    if len(image) - at != size:
        raise MalformedMessage(f"the ROMFS image of the agent has {len(image) - at} octets and says that it has {size}")
    return dict(_files(image, at, len(image), "", DEPTH_MAX))


def wrong_name(name: str) -> str:
    """Return why boards, or who looks at an update, cannot use the name of a file or a folder; "" if they can."""
    if not name.isprintable() or "/" in name or name in ("", ".", ".."):  # a terminal may act on it
        return "has a name that cannot be shown"
    if len(name.encode()) > NAME_MAX:
        return f"has a name of more than {NAME_MAX} octets"
    return ""


def _files(image: bytes, at: int, end: int, folder: str, depth: int) -> Iterator[tuple[str, int]]:
    names: set[str] = set()
    while at < end:
        kind, at = _number(image, at, end)
        length, at = _number(image, at, end)
        after = at + length
        if after > end:
            raise MalformedMessage("the ROMFS image of the agent has a record that is longer than its folder")
        if not depth:
            raise MalformedMessage("the ROMFS image of the agent has too many folders inside each other")
        if kind in (DIRECTORY, FILE):
            name, at = _name(image, at, after)
            if name in names:
                raise MalformedMessage(f"the ROMFS image of the agent has {folder}{name} twice")
            names.add(name)
            if kind == DIRECTORY:
                yield from _files(image, at, after, f"{folder}{name}/", depth - 1)
            else:
                yield f"{folder}{name}", _size(image, at, after)
        at = after


def _name(image: bytes, at: int, end: int) -> tuple[str, int]:
    size, at = _number(image, at, end)
    if size > end - at:
        raise MalformedMessage("the ROMFS image of the agent has a name that is longer than its record")
    try:
        name = image[at : at + size].decode()
    except UnicodeDecodeError:
        name = ""
    if reason := wrong_name(name):
        raise MalformedMessage(f"a file in the image {reason}")
    return name, at + size


def _size(image: bytes, at: int, end: int) -> int:
    kind, at = _number(image, at, end)
    size, at = _number(image, at, end)
    if kind != VERBATIM or size != end - at:
        raise MalformedMessage("the ROMFS image of the agent has a file whose octets are not in its record")
    return size


def _number(image: bytes, at: int, end: int) -> tuple[int, int]:
    value = 0
    while at < end:
        value = value << 7 | image[at] & 0x7F
        at += 1
        if not image[at - 1] & 0x80:
            return value, at
    raise MalformedMessage("the ROMFS image of the agent ends within a number")
