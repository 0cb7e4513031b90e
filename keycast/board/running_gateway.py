"""The running gateway, as the provisioning of a board sees it: its commands over the control socket."""

from pathlib import Path
from typing import Any

from gateway_agent.control_client import ask
from keycast.provisioning.board import Trust, told_trust


class RunningGateway:
    """The gateway that runs on the state folder `state_dir`. Each method raises Refused or ControlUnavailable."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir

    def trust(self, address: str | None = None) -> Trust:
        """Return what a board pins of it. `address` is the hint where it is; None for its present address."""
        return told_trust(self._ask("trust"), address)

    def boards(self) -> list[str]:
        """Return the PNE IDs of the boards that it lets in."""
        return [each["pne_id"] for each in self._ask("board.list")]

    def check(self, pne_id: str, group: str | None, replace: bool) -> None:
        """Raise Refused for what `register` would refuse for a board that has no key yet."""
        self._ask("board.check", pne_id=pne_id, group=group, replace=replace)

    def standing(self, ccs: bytes) -> str:
        """Return "registered", "successor" (in the place of another board, once it is heard) or ""."""
        return str(self._ask("board.standing", credential=ccs.hex()))

    def register(self, ccs: bytes, group: str | None, replace: bool) -> None:
        """Register a board; if its name is taken, in the place of that other board once it is heard."""
        self._ask("board.register", credential=ccs.hex(), group=group, replace=replace, when_heard=True)

    def withdraw(self, ccs: bytes) -> None:
        """Take back what `register` did, without any effect on another board of this name."""
        self._ask("board.withdraw", credential=ccs.hex())

    def _ask(self, do: str, **arguments: Any) -> Any:
        return ask(self._state_dir, do, **arguments)
