# The ESP32's NVS in a folder, one file for each entry. It promises no more than a flash: values set since the last
# commit may be lost, and a power cut may tear them. `BOARD_POWER_CUT` = "n:before|torn|after" ends the board at its
# n-th write as a power cut would (no `finally` runs): before the write, with the entry half written, or after it.
import os

_FOLDER = os.getenv("BOARD_NVS") or "nvs"
_NOT_FOUND = -0x1102
_KEY_TOO_LONG = -0x1109
_INVALID_LENGTH = -0x110C
_LONGEST = 1984  # a blob that fits one page

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
    import ffi

    ffi.open(None).func("v", "_exit", "i")(137)


def _write(path, octets):
    # the file has the old or the new state, also if the process is killed here
    with open(path + "~", "wb") as file:
        file.write(octets)
    os.rename(path + "~", path)


def _exists(path):
    try:
        os.stat(path)
    except OSError:
        return False
    return True


class NVS:
    def __init__(self, namespace):
        self._prefix = "%s/%s." % (_FOLDER, namespace)
        self._pending = {}  # path -> octets, or None to erase

    def _path(self, key):
        if not 0 < len(key) < 16:
            raise OSError(_KEY_TOO_LONG, "ESP_ERR_NVS_KEY_TOO_LONG")
        return self._prefix + key

    def set_blob(self, key, value):
        path = self._path(key)
        if len(value) > _LONGEST:
            raise OSError(-0x110E, "ESP_ERR_NVS_VALUE_TOO_LONG")
        self._pending[path] = bytes(value)

    def get_blob(self, key, buffer):
        path = self._path(key)
        value = self._pending.get(path)
        if value is None and (path in self._pending or not _exists(path)):
            raise OSError(_NOT_FOUND, "ESP_ERR_NVS_NOT_FOUND")
        length = os.stat(path)[6] if value is None else len(value)
        if length > len(buffer):
            raise OSError(_INVALID_LENGTH, "ESP_ERR_NVS_INVALID_LENGTH")
        if value is None:
            with open(path, "rb") as file:
                return file.readinto(buffer)
        buffer[:length] = value
        return length

    def erase_key(self, key):
        path = self._path(key)
        if not _exists(path) and path not in self._pending:
            raise OSError(_NOT_FOUND, "ESP_ERR_NVS_NOT_FOUND")
        self._pending[path] = None

    def commit(self):
        global _left
        for path in sorted(self._pending):
            octets = self._pending.pop(path)
            if _left:
                _left -= 1
                if not _left:
                    if _how == "torn" and octets:
                        _write(path, octets[: len(octets) // 2])
                    if _how != "after":
                        _power_cut()
                    _left = -1
            if octets is not None:
                _write(path, octets)
            elif _exists(path):
                os.remove(path)
            if _left < 0:
                _power_cut()
