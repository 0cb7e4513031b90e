"""`ports.Storage` over the ESP32's NVS (CPNS-GKM-77); `device_agent/key_store.py` makes it survive power cuts."""

import esp32

NAMESPACE = "keycast"
_NOT_FOUND = -0x1102
_INVALID_LENGTH = -0x110C
_FIRST_READ = 256
_LONGEST = 1984


class NvsStore:
    """Names of 1..15 ASCII characters, values of at most 1,984 octets. OSError when the flash fails or is full."""

    def __init__(self):
        self._nvs = esp32.NVS(NAMESPACE)

    def get(self, name):
        buffer = bytearray(_FIRST_READ)
        try:
            length = self._nvs.get_blob(name, buffer)
        except OSError as error:
            if error.errno == _NOT_FOUND:
                return None
            if error.errno != _INVALID_LENGTH:
                raise
            buffer = bytearray(_LONGEST)
            length = self._nvs.get_blob(name, buffer)
        return bytes(memoryview(buffer)[:length])

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
