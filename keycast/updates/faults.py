"""What can be wrong with what is to be signed: each fault has its own sentence and the next step."""

from collections.abc import Sequence
from pathlib import Path

from gateway_agent.errors import GatewayError

_MADE = "Take the folder that keycast board files has written."


class ImageRefused(GatewayError):
    """The files or the firmware would not run on the boards that the update is for."""

    word = "image-unusable"

    @classmethod
    def no_folder(cls, folder: Path) -> "ImageRefused":
        """Return the fault for something that is no folder."""
        return cls(f"{folder} is no folder." if folder.exists() else f"There is no folder {folder}.", _MADE)

    @classmethod
    def no_agent(cls, folder: Path, name: str) -> "ImageRefused":
        """Return the fault for a folder without the file `name`, with which every agent starts."""
        return cls(f"{folder} holds no agent: it has no file {name}.", _MADE)

    @classmethod
    def link(cls, path: Path) -> "ImageRefused":
        """Return the fault for a symbolic link, whose end may be any file of this computer."""
        return cls(f"{path} is a symbolic link.", "Replace it by the file that it leads to.")

    @classmethod
    def named(cls, path: Path, reason: str) -> "ImageRefused":
        """Return the fault for a file or a folder whose name is wrong: `reason` is that of `suit.image.wrong_name`."""
        return cls(f"{str(path)!r} {reason}.", "Give it another name.")

    @classmethod
    def too_deep(cls, path: Path, most: int) -> "ImageRefused":
        """Return the fault for a file in more folders inside each other than boards open."""
        return cls(f"{path} is more than {most} folders deep.", _MADE)

    @classmethod
    def no_files(cls, folder: Path) -> "ImageRefused":
        """Return the fault for a folder with nothing in it, which would hide a package of the agent."""
        return cls(f"{folder} is an empty folder.", f"Remove it. {_MADE}")

    @classmethod
    def empty(cls, path: Path) -> "ImageRefused":
        """Return the fault for a file without an octet, as a disk that is full leaves one."""
        return cls(f"{path} is empty.", f"Make it anew. {_MADE}")

    @classmethod
    def secret(cls, path: Path) -> "ImageRefused":
        """Return the fault for a private key: an update is not encrypted."""
        return cls(f"{path} is a private key, and everybody can read what is in an update.", "Move it elsewhere.")

    @classmethod
    def source(cls, path: Path) -> "ImageRefused":
        """Return the fault for a file of Python source that is not `main.py`."""
        return cls(f"{path} is Python source: an agent has .mpy files only.", "Compile it with mpy-cross 1.25 or 1.26.")

    @classmethod
    def no_mpy(cls, path: Path) -> "ImageRefused":
        """Return the fault for a file that is no code of a board."""
        return cls(f"{path} is no .mpy file: an agent has no others.", f"Remove it. {_MADE}")

    @classmethod
    def other_abi(cls, path: Path, wanted: int) -> "ImageRefused":
        """Return the fault for a file of another version of MicroPython."""
        return cls(f"{path} is no .mpy file of version {wanted}.", "Compile it with mpy-cross 1.25 or 1.26.")

    @classmethod
    def native(cls, path: Path) -> "ImageRefused":
        """Return the fault for a file with machine code, or with integers that a chip of 32 bits does not have."""
        return cls(f"{path} is for one kind of chip.", "Compile it without machine code: an agent runs on all chips.")

    @classmethod
    def not_whole(cls, path: Path) -> "ImageRefused":
        """Return the fault for a file that is cut, or has something behind its end: a board would fail at it."""
        return cls(f"{path} is damaged: it does not end where its code does.", f"Make it anew. {_MADE}")

    @classmethod
    def too_long(cls, octets: int, most: int) -> "ImageRefused":
        """Return the fault for an image of `octets` octets where a slot has room for `most`."""
        return cls(f"The image has {octets} octets, and a slot of a board has room for {most}.", "Leave files out.")

    @classmethod
    def one_slot(cls, build: str, others: Sequence[str]) -> "ImageRefused":
        """Return the fault for a firmware that has no second slot for its successor."""
        return cls(
            f"Boards with {build} have one slot for their firmware, which cannot be replaced while it runs.",
            f"Flash one of these by cable first: {', '.join(others)}.",
        )

    @classmethod
    def other_chip(cls, path: Path, has: str, build: str, wanted: str) -> "ImageRefused":
        """Return the fault for a firmware of the chip `has` that is to be for boards with the chip `wanted`."""
        return cls(f"{path} is for the chip {has}; boards with {build} have {wanted}.", "Take the firmware for them.")

    @classmethod
    def other_layout(cls, path: Path, build: str) -> "ImageRefused":
        """Return the fault for a firmware whose partitions are not those of `build`."""
        return cls(f"{path} does not have the partitions of {build}.", "Take the firmware for them.")
