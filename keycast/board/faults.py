"""All that can go wrong between this computer and a board: each fault has its own sentence and the next step.

No sentence holds a secret. The parts of `keycast.board` raise these errors, and the commands print them.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from gateway_agent.errors import GatewayError


class BoardFault(GatewayError):
    """The base class: a board cannot be reached or cannot be used."""

    word = "board"


class NoPort(BoardFault):
    """No board is connected to this computer, or not under the name that was typed."""

    word = "no-port"

    @classmethod
    def at_all(cls) -> "NoPort":
        """Return the fault for a computer without any board."""
        return cls(
            "No board is connected to this computer.", "Connect one with a USB cable; then type: keycast board list"
        )

    @classmethod
    def after(cls, seconds: float) -> "NoPort":
        """Return the fault for a computer on which no port appeared within `seconds`."""
        return cls(
            f"No serial port appeared within {seconds:.0f} s.",
            "If a light of the board is on, the cable carries power and no data: take another cable, and connect it to "
            "the computer itself and not to a hub.",
        )

    @classmethod
    def named(cls, name: str, others: Sequence[str]) -> "NoPort":
        """Return the fault for the name `name`, which is none of `others`, the ports that there are."""
        step = f"There is {', '.join(others)}." if others else "No board is connected: connect it with a USB cable."
        return cls(f"There is no port or virtual board {name}.", step)

    @classmethod
    def several(cls, names: Sequence[str]) -> "NoPort":
        """Return the fault for a command that needs one board while there are several."""
        return cls("Several boards are connected.", f"Name one: {' or '.join(f'--port {name}' for name in names)}")

    @classmethod
    def closed(cls, device: str, why: str) -> "NoPort":
        """Return the fault for a port that cannot be opened; `why` are the words of the system."""
        return cls(
            f"{device} cannot be opened: {why}.", "Pull the cable out, connect it again, and type: keycast board list"
        )

    @classmethod
    def gone(cls, device: str, seconds: float) -> "NoPort":
        """Return the fault for a port that went away and did not come back within `seconds`."""
        return cls(
            f"{device} went away and did not come back within {seconds:.0f} s under any name.",
            "Pull the cable out, connect it again, and type: keycast board list",
        )


class PortForbidden(BoardFault):
    """This user may not open the port."""

    word = "port-not-permitted"

    @classmethod
    def of(cls, device: str, group: str, is_member: bool) -> "PortForbidden":
        """Return the fault for `device` of the group `group`. `is_member`: the user is in it since the last login."""
        if is_member:
            step = f"You are in the group {group} already, from your next login on: log out and in again."
        else:
            step = f"Type: sudo usermod -aG {group} $USER   Then log out and in again."
        return cls(f"You may not open {device}; it belongs to the group {group}.", step)


class PortTaken(BoardFault):
    """Another program uses the port."""

    word = "port-taken"

    @classmethod
    def by(cls, device: str, users: Sequence[tuple[int, str]]) -> "PortTaken":
        """Return the fault for `device`, which the processes `users` (pid, name) have open; none if not known."""
        named = " and ".join(f"{name} (process {pid})" for pid, name in users)
        if not named:
            return cls(
                f"{device} is in use by a program of another user.", f"To see which one, type: sudo fuser -v {device}"
            )
        return cls(f"{device} is in use by {named}.", "End that program; then type the command again.")

    @classmethod
    def by_brltty(cls, usb_id: str) -> "PortTaken":
        """Return the fault for the USB-to-UART bridge `usb_id`, whose port brltty has taken away."""
        return cls(
            f"The driver of Braille displays, brltty, took the port of the USB-to-UART bridge {usb_id}.",
            "If you have no Braille display, type: sudo apt remove brltty   Then connect the cable again.",
        )


class ImageUnusable(BoardFault):
    """A file is no firmware image that can be written to a board."""

    word = "image-unusable"

    @classmethod
    def no_image(cls, path: Path, what: str) -> "ImageUnusable":
        """Return the fault for a file that is something else: `what` says what, such as "a web page"."""
        return cls(
            f"{path} is no firmware image but {what}.", "Take the file ending in .bin that is made for this board."
        )

    @classmethod
    def of_application(cls, path: Path) -> "ImageUnusable":
        """Return the fault for an image that has no boot loader and no partition table."""
        return cls(
            f"{path} has the application only, without boot loader and partition table.",
            "Take the file ending in .bin, not the one ending in .app-bin.",
        )

    @classmethod
    def truncated(cls, path: Path, what: str) -> "ImageUnusable":
        """Return the fault for a file that ends within its part `what`."""
        return cls(f"{path} ends within {what}: a part of the file is missing.", "Download it again.")

    @classmethod
    def damaged(cls, path: Path, what: str) -> "ImageUnusable":
        """Return the fault for a file whose part `what` contradicts itself or its checksum."""
        return cls(f"{path} is damaged: {what}.", "Download it again.")

    @classmethod
    def other_chip(cls, path: Path, image_id: int) -> "ImageUnusable":
        """Return the fault for an image of the chip with the number `image_id`, which none of our boards has."""
        return cls(
            f"{path} is for a chip that keycast does not know (chip id {image_id}).",
            "See docs/boards.md for the boards that it knows.",
        )

    @classmethod
    def other_digest(cls, path: Path, found: str, wanted: str) -> "ImageUnusable":
        """Return the fault for a file with the digest `found` where the person named the digest `wanted`."""
        return cls(
            f"{path} is not the file that you named: its SHA-256 is {found}, not {wanted}.",
            "Download it again, and compare the digest with the one that its maker publishes.",
        )

    @classmethod
    def unknown_digest(cls, path: Path, found: str) -> "ImageUnusable":
        """Return the fault for a file whose digest no hardware file lists, and which nobody vouched for."""
        return cls(
            f"Nobody has vouched for {path}: its SHA-256 is in no list of keycast.",
            f"If you trust where it is from, add --yes; if you have its digest from its maker: --sha256 {found}",
        )


class ImageUnfit(BoardFault):
    """A firmware image is for another board than the one that is connected."""

    word = "image-unfit"

    @classmethod
    def chip(cls, path: Path, has: str, wanted: str) -> "ImageUnfit":
        """Return the fault for an image of the chip `wanted` and a board with the chip `has`."""
        return cls(f"{path} is for the chip {wanted}; this board has the chip {has}.", "Take the image for this board.")

    @classmethod
    def flash(cls, path: Path, has: int, wanted: int) -> "ImageUnfit":
        """Return the fault for an image that needs `wanted` octets of flash on a board that has `has`."""
        return cls(
            f"{path} needs {_mib(wanted)} of flash; this board has {_mib(has)}.",
            "Take an image for boards with this flash, or another board.",
        )

    @classmethod
    def board(cls, chip: str, choices: Sequence[str]) -> "ImageUnfit":
        """Return the fault for a board of which only the chip is known, and that may be any of the files `choices`."""
        step = (
            f"Say which it is: {' or '.join(f'--board {name}' for name in choices)}"
            if choices
            else ("keycast knows no board with that chip: see docs/boards.md.")
        )
        return cls(f"This board has the chip {chip}.", step)

    @classmethod
    def other_board(cls, name: str, wanted: str, has: str) -> "ImageUnfit":
        """Return the fault for a board that was named as `name`, with the chip `wanted`, and has the chip `has`."""
        return cls(f"This board is no {name}: that has the chip {wanted}, this has {has}.", "Leave out --board.")

    @classmethod
    def moves_keys(cls, path: Path, partition: str) -> "ImageUnfit":
        """Return the fault for an image that has another place for `partition`, in which a board has its identity."""
        return cls(
            f"{path} has another place for the partition {partition}, in which this board has its identity and keys.",
            "Take an image with the present partition table; or retire the board and add --erase.",
        )


def _mib(octets: int) -> str:
    return f"{octets / 1024**2:g} MiB"


class LoaderFault(BoardFault):
    """The boot loader in the ROM of a chip does not do what it should."""

    word = "boot-loader"

    @classmethod
    def not_entered(cls, device: str, how: str) -> "LoaderFault":
        """Return the fault for a board that does not enter its boot loader. `how` says how a person leads it there."""
        return cls(f"The board on {device} does not enter its boot loader.", f"{how} Then type the command again.")

    @classmethod
    def not_written(cls, device: str, reason: str, how: str) -> "LoaderFault":
        """Return the fault for firmware that is not or not wholly on the board; `reason` is a sentence of esptool."""
        return cls(
            f"The firmware is not on the board on {device}: {reason}",
            f"Type the command again; if it fails again, take another cable, and add --baud 115200. {how}",
        )


class FilesNotCopied(BoardFault):
    """The files of the agent are not or not wholly on the board."""

    word = "files-not-copied"

    @classmethod
    def too_old(cls, version: str, oldest: str) -> "FilesNotCopied":
        """Return the fault for a board with MicroPython `version` where `oldest` is the oldest that runs our files."""
        return cls(
            f"The board has MicroPython {version}; the agent needs {oldest} or newer.",
            "Write newer firmware: keycast board flash IMAGE, with the file ending in .bin for this board.",
        )

    @classmethod
    def no_room(cls, needed: int, free: int | None) -> "FilesNotCopied":
        """Return the fault for files of `needed` octets on a board with `free` octets in its flash, None if unknown."""
        left = "" if free is None else f", and {free // 1024} KiB are free"
        return cls(
            f"The storage of the board is full: the agent needs {needed // 1024} KiB{left}.",
            "Look at its files with: mpremote fs tree   Remove those that nobody needs, or begin anew with --erase.",
        )

    @classmethod
    def stopped(cls, device: str, reason: str) -> "FilesNotCopied":
        """Return the fault for a copy that ended early; `reason` is a sentence of mpremote."""
        return cls(
            f"The files are not all on the board on {device}: {reason}",
            "The board waits for a tool all the same. Type: keycast board flash --files-only",
        )


# What a board prints that does not come to its REPL -> what is wrong, and the next step.
_SIGNS = (
    (rb"waiting for download", "waits in its boot loader", "Press its reset button, without any other one."),
    (rb"invalid header: 0x|flash read err|No bootable app", "has no program", "Type: keycast board flash"),
    (rb"Brownout", "has too little power", "Take another cable, and connect it to the computer itself and no hub."),
    (
        rb"WDT|rst:0x8",
        "is reset by its watchdog again and again",
        "Hold its BOOT button while you press its reset button; then type the command again.",
    ),
)


class BoardSilent(BoardFault):
    """The board does not come to its REPL, or does not answer there."""

    word = "board-silent"

    @classmethod
    def heard(cls, name: str, octets: bytes) -> "BoardSilent":
        """Return the fault for the board at `name` that sent `octets`, and not the prompt of its REPL."""
        for sign, what, step in _SIGNS:
            if re.search(sign, octets):
                return cls(f"The board at {name} {what}: its REPL does not answer.", step)
        if octets.strip(b"\0\xff \r\n"):
            return cls(
                f"What runs on the board at {name} does not let go of it: its REPL does not answer.",
                "Press its reset button while the command waits. For another firmware: keycast board flash",
            )
        return cls(
            f"Nothing comes from the board at {name}: its REPL does not answer.",
            "Press its reset button and type the command again. If it is new, type: keycast board flash",
        )

    @classmethod
    def in_repl(cls, name: str) -> "BoardSilent":
        """Return the fault for a board that was in its REPL and answers no more."""
        return cls(
            f"The board at {name} does not answer any more.",
            "Press its reset button; then type the command again, which goes on where it was.",
        )


_NO_ROOM = (28, -0x1105, -0x110D)  # ENOSPC; NOT_ENOUGH_SPACE and NO_FREE_PAGES of ESP-IDF's NVS


class ProvisioningFault(BoardFault):
    """A board did not get its identity."""

    word = "not-provisioned"

    @classmethod
    def without_wifi(cls) -> "ProvisioningFault":
        """Return the fault for a board that would not know any Wi-Fi."""
        return cls("The board has no name of a Wi-Fi network yet.", "Add --wifi NAME; its password is asked for.")

    @classmethod
    def of_gateway(cls) -> "ProvisioningFault":
        """Return the fault for a credential of the gateway that was named as that of a CPNS Server."""
        return cls(
            "The credential for end-to-end groups is that of the gateway, which is to read nothing of them.",
            "Take what `keycast server credential` prints at the CPNS Server.",
        )

    @classmethod
    def without_radio(cls, has_ble: bool, gateway_has_ble: bool) -> "ProvisioningFault":
        """Return the fault for a board that would use no radio at all."""
        if not gateway_has_ble:
            return cls(
                "The gateway does not use Bluetooth LE, so a board without Wi-Fi cannot reach it.",
                "Add the section [ble] to its configuration and start it again; or leave out --no-wifi.",
            )
        if not has_ble:
            return cls("This board has no Bluetooth.", "Leave out --no-wifi, and add --wifi NAME.")
        return cls("The board is to use neither Wi-Fi nor Bluetooth.", "Leave out --no-wifi or --no-ble.")

    @classmethod
    def is_other(cls, pne_id: str) -> "ProvisioningFault":
        """Return the fault for a board that has another identity, called `pne_id`, which is in use."""
        return cls(
            f"This board is {pne_id} already.",
            "If that is the board that you mean, and it is to get a new identity: add --replace (board run: --erase)",
        )

    @classmethod
    def answered(cls, kind: str, number: int | None, line: str) -> "ProvisioningFault":
        """Return the fault for the exception of a class `kind`, with the errno `number`, and `line` as its text."""
        if kind in ("ImportError", "TypeError"):  # older files know no CPNS Server, and take no credential of one
            return cls("The board has no files of keycast, or those of another version.", "Type: keycast board flash")
        if kind == "OSError" and number in _NO_ROOM:
            return cls(
                "There is no room in the flash of the board.",
                "Make it empty: keycast board rescue --erase; then again.",
            )
        if kind == "MemoryError":
            return cls(
                "The board has too little memory for this.", "Press its reset button and type the command again."
            )
        return cls.refused(line)

    @classmethod
    def refused(cls, why: str) -> "ProvisioningFault":
        """Return the fault for a board that does not do what it was told. `why` holds no secret."""
        return cls(
            f"The board refuses: {why}.",
            "Type the command again. If it stays so: keycast board rescue writes its files.",
        )


class NotRescued(BoardFault):
    """A board that waits in its REPL could not be helped there."""

    word = "not-rescued"

    @classmethod
    def refused(cls, why: str) -> "NotRescued":
        """Return the fault for a board that does not do what it was told. `why` is the last line of its traceback."""
        return cls(
            f"The board does not do it: {why}.",
            "Write everything anew: keycast board flash IMAGE --erase, with the file ending in .bin for this board.",
        )

    @classmethod
    def not_erased(cls, octets: int) -> "NotRescued":
        """Return the fault for a flash in which `octets` octets are not as an erase leaves them."""
        return cls(
            f"{octets} octets of the board's storage were not erased: its flash may be worn out.",
            "Type the command again. If it stays so, do not give the board away.",
        )
