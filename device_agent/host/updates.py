"""The slots of a board in a folder of Linux, where nothing restarts: for tests of the agent."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from device_agent.key_store import KeyStore
from device_agent.update.places import FilePlace
from device_agent.update.slots import AGENT, FlashUpdates


def updates(
    store: KeyStore, folder: str | os.PathLike[str], classes: Mapping[bytes, str], reset: Callable[[], None]
) -> FlashUpdates:
    """Return the port `Updates` with files in `folder`. `reset` is called in place of a restart of the board."""
    return FlashUpdates(store, _Files(Path(folder), classes, reset))


class _Files:
    """A `flash` of `device_agent.update.slots` without partitions."""

    def __init__(self, folder: Path, classes: Mapping[bytes, str], reset: Callable[[], None]) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = f"{folder}/"
        self._classes = dict(classes)
        self.reset = reset
        self.slot = 0  # that runs

    def classes(self) -> dict[bytes, str]:
        return self._classes

    def running(self) -> int:
        return self.slot

    def room(self, kind: str) -> int | None:
        if kind != AGENT:
            raise ValueError(f"no {kind} here")
        return None

    def stage(self, size: int) -> None:
        return None

    def place(self, slot: int) -> FilePlace:
        return FilePlace(f"{self.folder}agent.{slot}")
