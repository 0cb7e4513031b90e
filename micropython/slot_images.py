"""The images in the slots of the agent: whether one is whole, and its mounting.

An image is in MicroPython's ROMFS format. On firmware of our own the slots are the halves of the partition `romfs`,
which is mapped into memory; on published firmware they are the files `/agent.1` and `/agent.2` (docs/firmware.md). The
seal of 64 octets is at the end of the half or file: MAGIC, generation u32, length u32, and SHA-256 over the image and
these 24 octets. An image without its seal, as a write that was cut leaves it, does not count.
"""

import os
import sys
from hashlib import sha256

MAGIC = b"keycast slot 1\0\0"
SEAL = 64
AT = "/agent"  # and the number of the slot: where it is mounted
FOLDER = getattr(os, "getenv", lambda name: None)("BOARD_FILES") or "/"
_ROMFS = 0x60000  # octets of the partition `romfs` with two halves; one of another size is MicroPython's own
_CHUNK = 1024
_DIRECTORY, _FILE = 4, 5
_HEADS = 64  # octets, enough for the heads of a record and its name


def mapped():
    """Return the partition of the two slots as a memoryview, or None on a firmware without it."""
    try:
        import vfs

        for segment in (0, 1):  # an ESP32 has the first one only; a virtual board has its files in it
            octets = memoryview(vfs.rom_ioctl(2, segment))
            if len(octets) == _ROMFS:
                return octets
    except (ImportError, AttributeError, TypeError):  # no such firmware, or a number in place of a partition
        pass
    return None


def state(octets):
    """Return the generations of the images in the halves of `octets`, 0 for a half without a whole one.

    An image that came over the air has generation 0, too: the record `slot` says whether it runs.
    """
    return [_generation(_Mapped(octets, slot)) or 0 for slot in (1, 2)]


def whole(octets, slot):
    """Return True if the image in a slot is whole. `octets` is what `mapped` returned."""
    try:
        image = _Mapped(octets, slot) if octets is not None else _File(slot)
        try:
            return _generation(image) is not None
        finally:
            image.close()
    except OSError:
        return False


def mount(octets, slot):
    """Mount the image in a slot, so that its modules are found first. Raises what MicroPython does if it is none."""
    import vfs

    if octets is not None:
        half = len(octets) // 2
        image = vfs.VfsRom(octets[half * (slot - 1) : half * slot])  # pyright: ignore[reportAttributeAccessIssue] - not in the stubs
    else:
        from rom_file import RomFile

        file, index = _File(slot), bytearray()
        start, end = _numbers(file.read(3, 8), 0, 1)
        _add(file, start + 3, start + 3 + end, "", index)
        file.close()
        image = RomFile(file.path, bytes(index))
        del sys.modules["rom_file"]
    vfs.mount(image, AT + str(slot))
    sys.path.insert(0, AT + str(slot))


class _Mapped:
    def __init__(self, octets, slot):
        self.end = len(octets) // 2
        self._octets = octets[self.end * (slot - 1) : self.end * slot]

    def read(self, at, size):
        return self._octets[at : at + size]

    def close(self):
        pass


class _File:
    def __init__(self, slot):
        self.path = FOLDER + "agent.%d" % slot
        self._file = open(self.path, "rb")  # noqa: SIM115 - until `close`
        self.end = self._file.seek(0, 2)

    def read(self, at, size):
        self._file.seek(at)
        return self._file.read(size)

    def close(self):
        self._file.close()


def _generation(image):
    # Return the number in the seal of a whole image, or None
    seal = image.read(max(image.end - SEAL, 0), SEAL)
    length = int.from_bytes(seal[20:24], "big")
    if seal[:16] != MAGIC or length > image.end - SEAL:
        return None
    digest = sha256()
    for at in range(0, length, _CHUNK):
        digest.update(image.read(at, min(_CHUNK, length - at)))
    digest.update(seal[:24])
    return int.from_bytes(seal[16:20], "big") if digest.digest() == seal[24:56] else None


def _add(file, at, end, folder, index):
    # Add to the index the files and folders that are described from `at` on in an image
    while at < end:
        heads = file.read(at, _HEADS)
        place, kind, size = _numbers(heads, 0, 2)
        stop = at + place + size
        if kind in (_DIRECTORY, _FILE):
            place, length = _numbers(heads, place, 1)
            path = folder + "/" + bytes(heads[place : place + length]).decode()
            place += length
            if kind == _FILE:
                place, _, _ = _numbers(heads, place, 2)
            index.extend(sha256(path.encode()).digest()[:4])
            index.extend((at + place if kind == _FILE else 0).to_bytes(3, "big"))
            if kind == _DIRECTORY:
                _add(file, at + place, stop, path, index)
        at = stop


def _numbers(octets, at, count):
    # Return the place behind `count` numbers of an image, and these
    found = []
    for _ in range(count):
        value = 0
        while True:
            octet = octets[at]
            at += 1
            value = value << 7 | octet & 0x7F
            if octet < 0x80:
                break
        found.append(value)
    return (at,) + tuple(found)
