"""Fills with zeros what the ESP32's NVS leaves behind (CPNS-GKM-77).

NVS appends: it marks a value that is replaced or erased, and its octets stay in the flash until the page is erased to
make room, which may be never. A flash turns bits from 1 to 0 without an erase, so these octets can be cleared where
they lie, and NVS never reads an entry that it has marked (ESP-IDF, nvs_page.cpp; pages of version 2).

A page has 4,096 octets: a head of 32, two bits for each of 126 entries, and the entries of 32 octets from 64 on. The
head is state u32, sequence number u32, version u8, 19 octets 0xff, CRC-32 of all but the state.
"""

from binascii import crc32

_WHOLE = 0x2144DF1C  # CRC-32 of any octets that end with their own CRC-32
_STATES = b"\xfe\xfc\xf8"  # being filled, full, being emptied
_VERSION_2 = 0xFE


def clear(partition, seen):
    """Clear every entry that NVS has marked erased. OSError if the flash fails.

    `partition` is the esp32.Partition `nvs`. `seen` is a list with an int for each page, at first 0, which tells the
    next call which pages have not changed. A page that an interrupted erase left without a whole head is cleared as a
    whole: NVS erases it before it is used. Returns False if there is a page of a form that is not known here; such
    pages are left alone.
    """
    head, entry, zeros = bytearray(64), bytearray(32), bytes(32)
    done = True
    for used in (True, False):  # the others only if those in use show that the form is known
        for page in range(len(seen)):
            partition.readblocks(page, head, 0)
            state = crc32(head) & 0x3FFFFFFF
            if state == seen[page] or used != (crc32(head[4:32], 0xFFFFFFFF) == _WHOLE):
                continue
            if head[8] != _VERSION_2 or head[0] not in _STATES if used else not any(seen):
                done = False
                continue
            for index in range(126):
                if used and head[32 + index // 4] >> index % 4 * 2 & 3:
                    continue
                partition.readblocks(page, entry, 64 + 32 * index)
                if 0 < sum(entry) < 32 * 255:  # neither cleared nor blank
                    partition.writeblocks(page, zeros, 64 + 32 * index)
            seen[page] = state
    return done
