# `esp32.Partition` of a board that can be updated: two slots for applications, and a `romfs` of two halves, which are
# files in BOARD_PARTITIONS. The boot loader goes back to the application before, unless the one on trial has marked
# itself valid, as that of ESP-IDF does: otadata has two entries (number u32, then 20 octets, state u32, CRC32 u32), the
# valid one with the higher number counts, and its number tells the slot.
import os
from binascii import crc32

import romfs_partition
from esp32 import NvsPartition  # which imports this module at its end

_PAGE = 4096
_NEW, _PENDING, _VALID, _ABORTED = 0, 1, 2, 4
_BLANK = 0xFFFFFFFF
_VALIDATE_FAILED = -0x1503
_MAGIC = 0xE9  # of an image
_TYPE, _SUBTYPE = 0, 1
_ROWS = {
    "ota_0": (0, 16, 0x10000, 0x40000),
    "ota_1": (0, 17, 0x50000, 0x40000),
    "romfs": (1, 0x81, 0x1D0000, 0x60000),
    "otadata": (1, 0, 0xD000, 2 * _PAGE),
}
_mapped = {}


def octets(label):
    # Return the octets of a partition, which is mapped once
    if label not in _mapped:
        _mapped[label] = romfs_partition.mapped(os.getenv("BOARD_PARTITIONS") + label + ".bin")
    return _mapped[label]


class FlashPartition(NvsPartition):
    TYPE_APP = 0
    BOOT, RUNNING = 0, 1

    def __init__(self, label):
        if label == self.RUNNING:
            label = _running
        elif label == self.BOOT:
            label = _label(max(_entry(0), _entry(1))[0])
        if label not in _ROWS:
            raise OSError(2)
        self._label, self._octets = label, octets(label)

    @staticmethod
    def find(type=0, subtype=0xFF, label=None):
        if label == "nvs":
            return NvsPartition.find(type, subtype, label)
        return [
            FlashPartition(name)
            for name, row in _ROWS.items()
            if row[_TYPE] == type and subtype in (row[_SUBTYPE], 0xFF) and label in (name, None)
        ]

    def info(self):
        return _ROWS[self._label] + (self._label, False)

    def get_next_update(self):
        return FlashPartition("ota_0" if self._label == "ota_1" else "ota_1")

    def set_boot(self):
        if self._octets[0] != _MAGIC:
            raise OSError(_VALIDATE_FAILED, "ESP_ERR_OTA_VALIDATE_FAILED")
        number = max(_entry(0), _entry(1))[0] + 1
        if _label(number) != self._label:
            number += 1
        _write(0 if _entry(1) > _entry(0) else 1, number, _NEW)

    @classmethod
    def mark_app_valid_cancel_rollback(cls):
        place = 1 if _entry(1) > _entry(0) else 0
        if _entry(place)[0]:
            _write(place, _entry(place)[0], _VALID)


def _label(number):
    return "ota_%d" % ((number - 1) % 2) if number else "ota_0"


def _entry(place):
    # Return (number, state), or zeros if the entry does not count
    entry = memoryview(_otadata)[place * _PAGE : place * _PAGE + 32]
    number = int.from_bytes(entry[:4], "little")
    state = int.from_bytes(entry[24:28], "little")
    whole = int.from_bytes(entry[28:32], "little") == crc32(bytes(entry[:4]))
    return (number, state) if whole and number != _BLANK and state != _ABORTED else (0, 0)


def _write(place, number, state):
    head = number.to_bytes(4, "little")
    entry = head + b"\xff" * 20 + state.to_bytes(4, "little") + crc32(head).to_bytes(4, "little")
    _otadata[place * _PAGE : place * _PAGE + 32] = entry


def _boot():
    # What the boot loader does before the application starts; return the label of that
    place = 1 if _entry(1) > _entry(0) else 0
    number, state = _entry(place)
    if state == _PENDING:
        _write(place, number, _ABORTED)
        number = _entry(1 - place)[0]
    elif state == _NEW and number:
        _write(place, number, _PENDING)
    return _label(number)


_otadata = octets("otadata")
_running = _boot()
