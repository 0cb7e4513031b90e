"""Watches the configuration file of a running gateway, which counts only from the next start."""

import shlex
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway_agent.config.load import SIZE_MAX
from gateway_agent.control import Command
from gateway_agent.core.alarms import CONFIGURATION
from gateway_agent.repeating import Repeating
from private_store import plain_file
from private_store.errors import PrivateStoreError

LOOK_EVERY_S = 10.0


class ConfigWatch:
    """An onlooker that raises an alarm while a file does not say what it said when the gateway started."""

    def __init__(self, path: Path, set_alarm: Callable[[str, str], None]) -> None:
        """`set_alarm` accepts a kind and a text, which is empty when the alarm ends."""
        self._path = path
        self._set_alarm = set_alarm
        self._at_start = _read(path)
        self._turns = Repeating("configuration watch", LOOK_EVERY_S, self.look)
        self.close = self._turns.close

        self.commands: dict[str, Command] = {}

    async def start(self) -> None:
        """Begin to look every few seconds."""
        self._turns.start()

    def look(self) -> None:
        """Compare once. Comments and blanks do not matter."""
        self._set_alarm(CONFIGURATION, "" if _read(self._path) == self._at_start else self._sentence())

    def _sentence(self) -> str:
        return (
            f"The configuration {self._path} was changed and counts from the next start. "
            f"Run: keycast gateway check -c {shlex.quote(str(self._path))}, then start the gateway anew."
        )


def _read(path: Path) -> Any:
    """Return the settings in the file or, if it is no TOML, its octets; None if it cannot be read."""
    try:
        octets = plain_file.read(path, SIZE_MAX)  # a pipe in its place would hold up the gateway
    except PrivateStoreError:
        return None
    try:
        return tomllib.loads(octets.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return octets
