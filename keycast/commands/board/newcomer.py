"""A virtual board's way to its first Group Key: it is let in at the running gateway, and joins a Service Group."""

import threading
from pathlib import Path

from cpns.errors import CpnsError
from cpns.in_words import version_text
from gateway_agent.errors import GatewayError
from keycast.commands.board.provision import Session
from keycast.terminal.options import asked, remark

_ASKED_EVERY_S = 0.25


class Newcomer:
    """The board `name` on its way into the group `sg_id` of the gateway whose configuration is the file `config`."""

    def __init__(self, name: str, sg_id: str, config: Path) -> None:
        """Make the group if there is none. Raises GatewayError, if the gateway does not run for example."""
        from gateway_agent.config.load import load

        self._name, self._sg_id, self._config = name, sg_id, config
        self._ended = threading.Event()
        if not self._is_there():
            pn = load(config).gateway.pn
            try:
                asked(config, None, "group.create", sg_id=sg_id, open_to=[pn])
                remark(f"{sg_id} is made, for all boards of {pn}")
            except GatewayError:
                if not self._is_there():  # else a board that is plugged in at this moment has made it
                    raise

    def begin(self) -> None:
        """Let the board in, which must run, and wait until it has proved that it holds the newest key.

        Raises GatewayError if it is not let in; what else hinders it is told, and then it goes on by itself.
        """
        try:
            session = Session(self._config, None, False, None, None)
            result = session.provision(self._name, self._name, None, lambda what: remark(f"{self._name} {what} ..."))
            if result.error:
                remark(result.error)
            while not self._ended.wait(_ASKED_EVERY_S):
                if (version := self._confirmed()) is not None:
                    remark(f"{self._name} has its first Group Key: {self._sg_id}, version {version_text(version)}")
                    return
        except (GatewayError, CpnsError, OSError):
            if not self._ended.is_set():  # else it was unplugged meanwhile
                raise

    def end(self) -> None:
        """Let `begin`, which runs in a thread of its own, return soon: the board is unplugged."""
        self._ended.set()

    def _is_there(self) -> bool:
        """Return whether there is the group."""
        return self._sg_id in [each["sg_id"] for each in asked(self._config, None, "group.list")]

    def _confirmed(self) -> int | None:
        """Return the newest version of the key if the board has confirmed that."""
        group = asked(self._config, None, "group.show", sg_id=self._sg_id)
        proved = {each["pne_id"]: each["confirmed"] for each in group["members"]}
        return group["version"] if proved.get(self._name) == group["version"] else None
