"""All that can go wrong between this computer and a board: each fault has its own sentence and the next step.

No sentence holds a secret. The parts of `keycast.board` raise these errors, and the commands print them.
"""

from collections.abc import Sequence

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
