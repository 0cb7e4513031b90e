"""Images of the agent in the partition `romfs`: the newest whole one runs in place of the files in the firmware.

MicroPython maps only the partition of that name into memory, and mounts only an image at its start. So it is used as
two slots of half its size, of which one can be written while the other one runs (docs/firmware.md). The last 64 octets
of a slot are its seal: MAGIC, generation u32, length u32, and SHA-256 over the image and these 24 octets. An image
without its seal, as a write that was cut leaves it, does not count.
"""

import sys

MAGIC = b"keycast slot 1\0\0"
SEAL = 64
AT = "/agent"


def mount(octets=None):
    """Mount the newest whole image, so that its modules are found first, and return its generation; 0 without one.

    `octets`: the partition, as a memoryview; by default that of this firmware, if there is one.
    """
    if octets is None:
        octets = _partition()
    generations = state(octets) if octets else (0, 0)
    newest = max(generations)
    if newest:
        import vfs

        half = len(octets) // 2
        start = half * generations.index(newest)
        rom = vfs.VfsRom(octets[start : start + half])  # pyright: ignore[reportAttributeAccessIssue] - not in the stubs
        vfs.mount(rom, AT)
        sys.path.insert(0, AT)
    return newest


def state(octets):
    """Return the generations of the images in the two slots, 0 for a slot without a whole one."""
    half = len(octets) // 2
    return _generation(octets[:half]), _generation(octets[half:])


def _generation(slot):
    from hashlib import sha256

    seal = slot[len(slot) - SEAL :]
    length = int.from_bytes(seal[20:24], "big")
    if seal[: len(MAGIC)] != MAGIC or length > len(slot) - SEAL:
        return 0
    digest = sha256(slot[:length])
    digest.update(seal[:24])
    return int.from_bytes(seal[16:20], "big") if digest.digest() == seal[24:56] else 0


def _partition():
    try:
        import vfs

        return memoryview(vfs.rom_ioctl(2, 0))
    except (ImportError, AttributeError, TypeError):  # no such firmware, or a number in place of a partition
        return None
