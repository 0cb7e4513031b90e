"""The flash of a virtual board, seen from the host: the image of the partition that the board's NVS works on."""

import asyncio
import fcntl
from pathlib import Path

from keycast.virtual_board.on_vm import nvs_flash

NAMESPACE = "keycast"  # micropython/nvs_store.py
SIZE = 4 * nvs_flash.PAGE
BLANK = b"\xff" * SIZE


class NvsImage:
    """The `ports.Storage` in `octets`, the image of an `nvs` partition, in memory. Nothing else is changed.

    What a power cut has left half done is put right when it is made, as at the start of a board.
    """

    def __init__(self, octets: bytes) -> None:
        self._read = octets
        self._nvs = nvs_flash.Nvs(nvs_flash.Flash(bytearray(octets)))
        self._namespace = self._nvs.namespace(NAMESPACE)

    def get(self, name: str) -> bytes | None:
        size = self._nvs.size(self._namespace, name)
        if size is None:
            return None
        value = bytearray(size)
        self._nvs.read(self._namespace, name, value)
        return bytes(value)

    def set(self, name: str, octets: bytes) -> None:
        self._nvs.write(self._namespace, name, octets)

    def delete(self, name: str) -> None:
        self._nvs.erase(self._namespace, name)

    def commit(self) -> None:
        """Do nothing: each write is in the image already."""

    def names(self) -> list[str]:
        """Return the names of all entries."""
        return sorted(self._nvs.keys(self._namespace))

    def octets(self) -> bytes:
        """Return every octet as it was read, which anybody can do who has the board."""
        return self._read

    def changed(self) -> bytes:
        """Return every octet after the writes."""
        return bytes(self._nvs.octets)


class NvsFolder:
    """The `ports.Storage` in the image of a board in `folder`, to provision it before its first start.

    While the board runs, `set`, `delete` and `erase` raise BlockingIOError; `snapshot` is for reading then.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._image = folder / "nvs.bin"
        if not self._image.exists():
            self._image.touch(mode=0o600)
            self._image.write_bytes(BLANK)

    def snapshot(self) -> NvsImage:
        """Return what the flash holds now, whether the board runs or not. Writes to it stay in memory.

        So a KeyStore may repair a record in it that the board is about to write.
        """
        return NvsImage(self.octets())

    def get(self, name: str) -> bytes | None:
        return self.snapshot().get(name)

    def set(self, name: str, octets: bytes) -> None:
        image = self.snapshot()
        image.set(name, octets)
        self._write(image.changed())

    def delete(self, name: str) -> None:
        image = self.snapshot()
        image.delete(name)
        self._write(image.changed())

    def commit(self) -> None:
        """Do nothing: each write is in the image already."""

    def names(self) -> list[str]:
        """Return the names of all entries."""
        return self.snapshot().names()

    def octets(self) -> bytes:
        """Return every octet of the flash, which anybody can read who has the board."""
        octets = self._image.read_bytes()
        while octets != (again := self._image.read_bytes()):  # the board was moving a page meanwhile
            octets = again
        return octets

    def erase(self) -> None:
        """Erase the whole flash, as an ESP32 does at its start if it finds no free page."""
        self._write(BLANK)

    async def wait_until_unused(self) -> None:
        """Return when no process of the board has the flash: that of its NVS ends a moment after the board itself."""
        await asyncio.to_thread(self._wait_until_unused)

    def _wait_until_unused(self) -> None:
        with open(self._image, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)

    def _write(self, octets: bytes) -> None:
        with open(self._image, "r+b") as file:  # in place: a board that starts maps it
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.write(octets)
