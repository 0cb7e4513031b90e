"""Fills with zeros what the ESP32's NVS leaves behind (CPNS-GKM-77).

NVS appends: it marks a value that is replaced or erased, and its octets stay in the flash until the page is erased to
make room, which may be never. A flash turns bits from 1 to 0 without an erase, so these octets can be cleared where
they lie, and NVS never reads an entry that it has marked (ESP-IDF, nvs_page.cpp; pages of version 2).

A page has 4,096 octets: a head of 32, two bits for each of 126 entries, and the entries of 32 octets from 64 on.
"""

from binascii import crc32

import esp32

_LIVE = (b"\xfe\xff\xff\xff", b"\xfc\xff\xff\xff", b"\xf8\xff\xff\xff")  # being filled, full, being emptied
_VERSION_2 = 0xFE
_PAGE = 4096
_NVS = 2  # subtype of a partition
_ZEROS = bytes(32)
_BLANK = b"\xff" * 32


class NvsPages:
    """The partition `nvs` as it is in the flash, beside the NVS that works on it.

    `clean` is False when replaced values may still be readable: the firmware has no `Partition`, the partition is
    encrypted, or its pages have a form that is not known here; they are left alone then.
    """

    def __init__(self):
        found = []
        if hasattr(esp32, "Partition"):
            found = esp32.Partition.find(esp32.Partition.TYPE_DATA, subtype=_NVS, label="nvs")
        self._partition = found[0] if found and not found[0].info()[5] else None
        self._wiped = [None] * (self._partition.info()[3] // _PAGE) if self._partition else []
        self._head = bytearray(64)
        self._entry = bytearray(32)
        self.clean = False

    def wipe(self):
        """Clear every entry that NVS has marked erased. OSError when the flash fails.

        A page that an interrupted erase left without a valid head is cleared whole: NVS erases it before it is used.
        Only pages that have changed since the last call are looked through.
        """
        kinds = [self._kind(page) for page in range(len(self._wiped))]
        known = 1 in kinds
        self.clean = bool(kinds) and 2 not in kinds
        for page, kind in enumerate(kinds):
            self._read(page, 0, self._head)
            state = crc32(self._head)
            if kind == 2 or state == self._wiped[page]:
                continue
            for index in range(126):
                live = kind and self._head[32 + index // 4] >> index % 4 * 2 & 3
                if not live:
                    self._wipe_entry(page, index, known or kind)
            self._wiped[page] = state

    def _kind(self, page):
        # 0: without a valid head; 1: with entries; 2: of another version or state
        head = self._head
        self._read(page, 0, head)
        if crc32(head[4:28], 0xFFFFFFFF) != int.from_bytes(head[28:32], "little"):
            return 0
        return 1 if bytes(head[:4]) in _LIVE and head[8] == _VERSION_2 else 2

    def _wipe_entry(self, page, index, known):
        at = 64 + 32 * index
        self._read(page, at, self._entry)
        if self._entry == _ZEROS or self._entry == _BLANK:
            return
        if known:
            self._partition.writeblocks(page, _ZEROS, at)
        else:
            self.clean = False

    def _read(self, page, at, buffer):
        self._partition.readblocks(page, buffer, at)
