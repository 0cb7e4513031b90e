# The NVS of an ESP32 and its partition `nvs`: 16 KiB, as in firmware with two slots for applications, in a file. On a
# board NVS is native code, which takes nothing of the Python heap. So it runs in a process of its own here
# (`nvs_process`), with which this one shares the flash, and a box for one call at a time.
import os
import sys

import nvs_process

_PAGE = 4096
_SIZE = 4 * _PAGE
_ADDRESS = 0x9000
_POWER_CUT_CODE = 137

_flash, _box, _line, _read, _write, _exit = nvs_process.start((os.getenv("BOARD_NVS") or "nvs") + "/nvs.bin", _SIZE)
_octet = bytearray(1)
del sys.modules["nvs_process"], nvs_process


if os.getenv("BOARD_IDF_HEAP"):
    import idf_heap

    HEAP_DATA = 4

    def idf_heap_info(kind):
        # Return (total, free, largest free block, least ever free) of each region
        free = idf_heap.look()
        return [(200000, sum(idf_heap.blocks), free, 0), (8192, 0, 0, 0)]


def _call(what, namespace, key, value=b""):
    # Return the octets of the answer, which are in the box from 32 on
    box, length = _box, min(len(key), 16)
    box[0], box[1], box[2] = ord(what), namespace, length
    box[4], box[5] = len(value) & 0xFF, len(value) >> 8
    box[8 : 8 + length] = key.encode()[:16]
    box[32 : 32 + len(value)] = value
    _write(_line, _octet, 1)
    got = -1
    while got < 0:  # a signal came
        got = _read(_line, _octet, 1)
    if not got:
        _exit(_POWER_CUT_CODE)
    size = box[4] | box[5] << 8
    if box[0]:
        raise OSError(-0x1100 - box[0], bytes(box[32 : 32 + size]).decode())
    return size


class NVS:
    def __init__(self, namespace):
        _call("n", 0, namespace)
        self._namespace = _box[1]

    def set_blob(self, key, value):
        _call("s", self._namespace, key, value)

    def get_blob(self, key, buffer):
        size = _call("g", self._namespace, key)
        if size > len(buffer):
            raise OSError(-0x110C, "ESP_ERR_NVS_INVALID_LENGTH")
        buffer[:size] = memoryview(_box)[32 : 32 + size]
        return size

    def erase_key(self, key):
        _call("e", self._namespace, key)

    def commit(self):
        pass  # set_blob and erase_key have written


class NvsPartition:
    TYPE_DATA = 1

    @staticmethod
    def find(type=0, subtype=0xFF, label=None):
        return [NvsPartition()] if type == 1 and subtype in (2, 0xFF) and label in ("nvs", None) else []

    def info(self):
        return 1, 2, _ADDRESS, _SIZE, "nvs", False

    def readblocks(self, block, buffer, offset=0):
        at = block * _PAGE + offset
        buffer[:] = memoryview(_flash)[at : at + len(buffer)]

    def ioctl(self, operation, argument):
        if operation == 4:
            return _SIZE // _PAGE
        if operation == 5:
            return _PAGE
        if operation == 6:
            self.writeblocks(argument, b"\xff" * _PAGE)
            return 0

    def writeblocks(self, block, buffer, offset=None):
        # a flash turns bits from 1 to 0; without an offset it is erased first
        at = block * _PAGE + (offset or 0)
        for i in range(len(buffer)):
            _flash[at + i] = buffer[i] if offset is None else _flash[at + i] & buffer[i]


Partition = NvsPartition
if os.getenv("BOARD_PARTITIONS"):
    import partitions

    partitions.nvs = NvsPartition
    Partition = partitions.FlashPartition
