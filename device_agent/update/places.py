"""Where an image comes to lie: a file, which is written once from its begin to its end, or blocks of a partition.

The last octets behind a slot of the agent are its seal: MAGIC, generation u32, length u32, and SHA-256 over the image
and these 24 octets (`micropython/agent_slots.py`). It is written last. The generation of an image that came over the
air is 0, as the record `slot` says which one runs.
"""

from suit import numbers as n

SECTOR = 4096  # octets that a flash erases at once
_IN_SECTOR = SECTOR // n.BLOCK
_ERASE = 6  # MicroPython's ioctl of block devices


class FilePlace:
    """A slot of the agent that is the file at `path`."""

    in_place = False

    def __init__(self, path):
        self._path = path
        self._file = None

    def put(self, block, octets):
        """Write a block; they come in order."""
        if self._file is None:
            self._file = open(self._path, "wb")  # noqa: SIM115 - open until `seal` or `free`
        self._file.write(octets)

    def seal(self, octets):
        """Make the image whole by its seal, and return when it is in the flash."""
        self._file.write(octets)  # pyright: ignore[reportOptionalMemberAccess]
        self._file.close()  # pyright: ignore[reportOptionalMemberAccess]

    def free(self):
        """Remove what is there."""
        if self._file:
            self._file.close()
            self._file = None
        remove(self._path)


class PartitionPlace:
    """`size` octets from sector `first` of a partition. Blocks are written in any order.

    `partition` has the block device protocol of `esp32.Partition`. A sector is erased before its first block. After a
    power cut a block may be written again: the same octets may be programmed twice.
    """

    in_place = True

    def __init__(self, partition, first, size):
        self._partition = partition
        self._first = first
        self._last = size // SECTOR - 1
        self._erased = bytearray(self._last // 8 + 1)

    def has(self, block):
        """Learn that a block was written before the last start."""
        self._mark(block // _IN_SECTOR)

    def put(self, block, octets):
        """Write a block."""
        self._program(block // _IN_SECTOR, block % _IN_SECTOR * n.BLOCK, octets)

    def read(self, block):
        """Return the octets of a block."""
        octets = bytearray(n.BLOCK)
        self._partition.readblocks(self._first + block // _IN_SECTOR, octets, block % _IN_SECTOR * n.BLOCK)
        return octets

    def seal(self, octets):
        """Make the image whole by its seal, at the end."""
        self._program(self._last, SECTOR - len(octets), octets)

    def free(self):
        """Leave what is there: it does not count without a record."""

    def _program(self, sector, at, octets):
        if not self._erased[sector >> 3] >> (sector & 7) & 1:
            self._partition.ioctl(_ERASE, self._first + sector)
            self._mark(sector)
        self._partition.writeblocks(self._first + sector, octets, at)

    def _mark(self, sector):
        self._erased[sector >> 3] |= 1 << (sector & 7)


def remove(path):
    """Remove a file, without an error if it is not there."""
    import os

    try:
        os.remove(path)
    except OSError:  # there is none
        return
