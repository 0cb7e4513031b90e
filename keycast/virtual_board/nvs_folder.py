"""The flash of a virtual board, seen from the host: the image of the partition that the board's NVS works on."""

import fcntl
from pathlib import Path

from keycast.virtual_board.on_vm import nvs_flash

NAMESPACE = "keycast"  # micropython/nvs_store.py
SIZE = 4 * nvs_flash.PAGE


class NvsFolder:
    """The `ports.Storage` in that image, to provision a board before its first start and to read it after its end.

    While the board runs, the image can be read, but `set`, `delete` and `erase` raise BlockingIOError.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._image = folder / "nvs.bin"
        if not self._image.exists():
            self._image.touch(mode=0o600)
            self._image.write_bytes(b"\xff" * SIZE)

    def get(self, name: str) -> bytes | None:
        nvs, namespace = self._read()
        size = nvs.size(namespace, name)
        if size is None:
            return None
        value = bytearray(size)
        nvs.read(namespace, name, value)
        return bytes(value)

    def set(self, name: str, octets: bytes) -> None:
        nvs, namespace = self._read()
        nvs.write(namespace, name, octets)
        self._write(nvs.octets)

    def delete(self, name: str) -> None:
        nvs, namespace = self._read()
        nvs.erase(namespace, name)
        self._write(nvs.octets)

    def commit(self) -> None:
        """Do nothing: each write is in the image already."""

    def names(self) -> list[str]:
        """Return the names of all entries."""
        nvs, namespace = self._read()
        return sorted(nvs.keys(namespace))

    def octets(self) -> bytes:
        """Return every octet of the flash, which anybody can read who has the board."""
        return self._image.read_bytes()

    def erase(self) -> None:
        """Erase the whole flash, as an ESP32 does at its start if it finds no free page."""
        self._write(b"\xff" * SIZE)

    def _read(self) -> tuple[nvs_flash.Nvs, int]:
        nvs = nvs_flash.Nvs(nvs_flash.Flash(bytearray(self.octets())))
        return nvs, nvs.namespace(NAMESPACE)

    def _write(self, octets: bytes | bytearray) -> None:
        with open(self._image, "r+b") as file:  # in place: a board that starts maps it
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.write(octets)
