"""`ports.Storage` over the ESP32's NVS (CPNS-GKM-77); `device_agent/key_store.py` makes it survive power cuts."""

import esp32

NAMESPACE = "keycast"
_NOT_FOUND = -0x1102
_INVALID_LENGTH = -0x110C
_READS = (256, 1152, 1984)  # octets; most records fit the first, a GKDK of 1,024 slots the second, all the last


class NvsStore:
    """Names of 1..15 ASCII characters, values of at most 1,984 octets. OSError when the flash fails or is full."""

    def __init__(self):
        self._nvs = esp32.NVS(NAMESPACE)

    def get(self, name):
        for size in _READS:
            buffer = bytearray(size)
            try:
                return memoryview(buffer)[: self._nvs.get_blob(name, buffer)]  # large ones are copied where needed
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
