# The ESP32's flash in a file: its partition `nvs` (16 KiB, as in firmware with two slots) and the NVS that works on it.
# What is set is in the flash at once, as with the real one. `BOARD_POWER_CUT` = "n:before|torn|after" ends the board at
# its n-th write of a value as a power cut would (no `finally` runs): before anything reached the flash, with the value
# half written, or after it.
import os

import ffi
import nvs_flash
import uctypes

_FOLDER = os.getenv("BOARD_NVS") or "nvs"
_SIZE = 4 * nvs_flash.PAGE
_ADDRESS = 0x9000
_TORN_AFTER = 2  # programs of a value that are whole: its head, and that this is written

_at, _, _how = (os.getenv("BOARD_POWER_CUT") or "0:").partition(":")
_left = int(_at)


if os.getenv("BOARD_IDF_HEAP"):
    import idf_heap

    HEAP_DATA = 4

    def idf_heap_info(kind):
        # Return (total, free, largest free block, least ever free) of each region
        free = idf_heap.look()
        return [(200000, sum(idf_heap.blocks), free, 0), (8192, 0, 0, 0)]


def _power_cut():
    ffi.open(None).func("v", "_exit", "i")(137)


def _mapped(path):
    # the file as octets: what is written to them is there also after the process was killed; locked for the host
    libc = ffi.open(None)
    handle = libc.func("i", "open", "sii")(path, 0o102, 0o600)  # O_RDWR | O_CREAT
    libc.func("i", "flock", "ii")(handle, 2)
    if os.stat(path)[6] != _SIZE:
        with open(path, "wb") as file:
            for _ in range(_SIZE // 64):
                file.write(b"\xff" * 64)
    return uctypes.bytearray_at(libc.func("P", "mmap", "PIiiil")(0, _SIZE, 3, 1, handle, 0), _SIZE)


class _Flash(nvs_flash.Flash):
    whole = -1  # programs before the power goes

    def program(self, at, octets):
        if not self.whole:
            super().program(at, octets[: len(octets) // 2])
            _power_cut()
        self.whole -= 1
        super().program(at, octets)


_flash = _Flash(_mapped(_FOLDER + "/nvs.bin"))
_nvs = nvs_flash.Nvs(_flash)


def _write(change, *arguments):
    global _left
    if _left:
        _left -= 1
        if not _left:
            if _how == "torn":
                _flash.whole = _TORN_AFTER
            elif _how == "before":
                _power_cut()
            change(*arguments)
            _power_cut()
    change(*arguments)


class NVS:
    def __init__(self, namespace):
        self._namespace = _nvs.namespace(namespace)

    def set_blob(self, key, value):
        if len(value) > nvs_flash.LONGEST:
            raise OSError(nvs_flash.TOO_LONG, "ESP_ERR_NVS_VALUE_TOO_LONG")
        _write(_nvs.write, self._namespace, key, value)

    def get_blob(self, key, buffer):
        size = self._size(key)
        if size > len(buffer):
            raise OSError(nvs_flash.INVALID_LENGTH, "ESP_ERR_NVS_INVALID_LENGTH")
        return _nvs.read(self._namespace, key, buffer)

    def erase_key(self, key):
        self._size(key)
        _write(_nvs.erase, self._namespace, key)

    def commit(self):
        pass  # set_blob and erase_key have written

    def _size(self, key):
        size = _nvs.size(self._namespace, key)
        if size is None:
            raise OSError(nvs_flash.NOT_FOUND, "ESP_ERR_NVS_NOT_FOUND")
        return size


class NvsPartition:
    TYPE_APP = 0
    TYPE_DATA = 1

    @staticmethod
    def find(type=TYPE_APP, subtype=0xFF, label=None):
        fits = type == 1 and subtype in (2, 0xFF) and label in ("nvs", None)
        return [NvsPartition("nvs")] if fits else []

    def __init__(self, label):
        if label != "nvs":
            raise OSError(2)  # ENOENT

    def info(self):
        return 1, 2, _ADDRESS, _SIZE, "nvs", False

    def readblocks(self, block, buffer, offset=0):
        at = block * nvs_flash.PAGE + offset
        buffer[:] = _flash.octets[at : at + len(buffer)]

    def writeblocks(self, block, buffer, offset=None):
        if offset is None:
            for page in range(block, block + len(buffer) // nvs_flash.PAGE):
                _flash.erase(page)
        _flash.program(block * nvs_flash.PAGE + (offset or 0), buffer)

    def ioctl(self, command, argument):
        if command == 4:
            return _SIZE // nvs_flash.PAGE
        if command == 5:
            return nvs_flash.PAGE
        if command == 6:
            _flash.erase(argument)
        return 0


Partition = NvsPartition
