# The NVS of an ESP32 and its partition `nvs`: 16 KiB, as in firmware with two slots for applications, in a file. On a
# board NVS is native code, which takes nothing of the Python heap. So it runs in a process of its own here
# (`nvs_process`), with which this one shares the flash, and a box for one call at a time.
import os
import sys

import nvs_process

_PAGE = 4096
_ERASED = b"\xff" * 64  # a page of them would not be found in a heap that is in use
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
    ROW = 1, 2, _ADDRESS, _SIZE, "nvs", False
    _octets = _flash

    @staticmethod
    def find(type=0, subtype=0xFF, label=None):
        return [
            each()
            for each in _partitions
            if each.ROW[0] == type and subtype in (each.ROW[1], 0xFF) and label in (each.ROW[4], None)
        ]

    def info(self):
        return self.ROW

    def readblocks(self, block, buffer, offset=0):
        at = block * _PAGE + offset
        buffer[:] = memoryview(self._octets)[at : at + len(buffer)]

    def ioctl(self, operation, argument):
        if operation == 4:
            return len(self._octets) // _PAGE
        if operation == 5:
            return _PAGE
        if operation == 6:
            for at in range(argument * _PAGE, (argument + 1) * _PAGE, len(_ERASED)):
                self._octets[at : at + len(_ERASED)] = _ERASED
            return 0

    def writeblocks(self, block, buffer, offset=None):
        # a flash turns bits from 1 to 0; without an offset it is erased first
        at = block * _PAGE + (offset or 0)
        for i in range(len(buffer)):
            self._octets[at + i] = buffer[i] if offset is None else self._octets[at + i] & buffer[i]


Partition = NvsPartition
_partitions = [NvsPartition]
if os.getenv("BOARD_SLOTS"):
    import romfs_partition

    class SlotsPartition(NvsPartition):
        _octets = romfs_partition.segments[-1]
        ROW = 1, 0x81, 0x180000, len(_octets), "romfs_slots", False  # hw_configs/boards/virtual.toml

    _partitions.append(SlotsPartition)
if os.getenv("BOARD_PARTITIONS"):
    import partitions

    Partition = partitions.FlashPartition
