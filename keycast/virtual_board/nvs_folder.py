"""The flash of a virtual board, seen from the host: the entries of the board's `esp32.NVS`, each a file."""

from pathlib import Path

NAMESPACE = "keycast"  # micropython/nvs_store.py


class NvsFolder:
    """The `ports.Storage` in the same files, to provision a board before its first start and to read it after its end.

    It must not be used while the board runs.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def get(self, name: str) -> bytes | None:
        path = self._path(name)
        return path.read_bytes() if path.exists() else None

    def set(self, name: str, octets: bytes) -> None:
        path = self._path(name)
        path.touch(mode=0o600)
        path.write_bytes(octets)

    def delete(self, name: str) -> None:
        self._path(name).unlink(missing_ok=True)

    def commit(self) -> None:
        """Do nothing: each write is in its file already, and the board does not run."""

    def names(self) -> list[str]:
        """Return the names of all entries."""
        return sorted(path.name.partition(".")[2] for path in self._folder.glob(f"{NAMESPACE}.*") if path.suffix != "~")

    def erase(self) -> None:
        """Erase the whole flash, as an ESP32 does at its start if it finds no free page."""
        for path in self._folder.iterdir():
            path.unlink()

    def _path(self, name: str) -> Path:
        return self._folder / f"{NAMESPACE}.{name}"
