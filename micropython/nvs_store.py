"""The `ports.Storage` in the ESP32's NVS (CPNS-GKM-77); `device_agent/key_store.py` makes it survive power cuts."""

import esp32
from nvs_pages import clear

NAMESPACE = "keycast"
_NOT_FOUND = -0x1102
_INVALID_LENGTH = -0x110C
_DATA = 1  # esp32.Partition.TYPE_DATA
_PAGE = 4096
_READS = (192, 384, 960, 1984)  # octets; enough for most records, those of groups, a GKDK of 1,024 slots, all


class NvsStore:
    """Values of at most 1,984 octets under names of 1..15 ASCII characters. OSError if the flash fails or is full.

    `commit` clears in the flash what `set` has replaced and `delete` has erased; after a power cut the next start does.
    `cleared` is False if that is not possible: the firmware has no `esp32.Partition`, the partition `nvs` has another
    form, or the flash refuses it.
    """

    def __init__(self):
        self._nvs = esp32.NVS(NAMESPACE)
        self._partition, self._seen = None, []
        if hasattr(esp32, "Partition"):
            for partition in esp32.Partition.find(_DATA, label="nvs"):
                self._partition, self._seen = partition, [0] * (partition.info()[3] // _PAGE)
        self._clear()

    def get(self, name):
        for size in _READS:
            buffer = bytearray(size)
            try:
                return memoryview(buffer)[: self._nvs.get_blob(name, buffer)]  # copied by the caller if need be
            except OSError as error:
                if error.errno == _NOT_FOUND:
                    return None
                if error.errno != _INVALID_LENGTH or size == _READS[-1]:
                    raise

    def set(self, name, octets):
        self._nvs.set_blob(name, octets)

    def delete(self, name):
        try:
            self._nvs.erase_key(name)
        except OSError as error:
            if error.errno != _NOT_FOUND:
                raise

    def commit(self):
        self._nvs.commit()
        self._clear()

    def _clear(self):
        try:
            self.cleared = bool(self._seen) and clear(self._partition, self._seen)
        except OSError:
            self.cleared = False
