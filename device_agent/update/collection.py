"""What of an update has come so far, in the files of a board: its envelope, its pages of hashes, its coded frames.

Coded frames whose index is below a limit may have their place in a partition, and are only noted in a file: the blocks
of an image that comes to lie there, or all frames of one that is a file. After a power cut all is there but the last
pieces.
"""

from device_agent.update.piece_log import PieceLog
from suit import numbers as n
from suit.erasure import Code

_DAMAGED = 5  # EIO: the flash has what was never written


class FlashCollection:
    """An update that is being collected in `folder`, a path that ends with a slash (ports.Collection).

    `head` is that in its file (`head.py`); `place` is where the image comes to lie. `stage` is None or the
    places.PartitionPlace of the first `limit` coded frames; the file of the others may have `room` frames.
    """

    def __init__(self, folder, head, place, stage, limit, room):
        from device_agent.update import head as stored  # it leaves the heap again

        self.kind, self.number, self.size, self.digest, self.slot, self.due, _ = head
        self.place = place
        self.code = Code(self.size)
        self._folder = folder
        self._pages = PieceLog(folder + stored.PAGES, n.PAGE_FRAMES * n.HASH)
        self._frames = PieceLog(folder + stored.FRAMES, n.BLOCK)
        self._placed = PieceLog(folder + stored.PLACED, 0) if stage else None
        self._stage, self._limit = stage, limit
        self._room = room
        self._held = bytearray((self.code.frames + 7) // 8)
        self._wanted = [stored.SPARE] * self.code.segments  # frames that are of use yet
        for block in range(self.code.blocks):
            self._wanted[self.code.segment(block)] += 1
        for index in self._frames.indexes():
            self._mark(index)
        if self._placed:
            for index in self._placed.indexes():
                self._mark(index)
                stage.has(index)

    @property
    def envelope(self):
        """The octets of the envelope, which do not stay in the heap."""
        from device_agent.update import head as stored

        head = stored.load(self._folder)
        return head[-1] if head else b""

    def pages(self):
        """Return how many pages of hashes there are."""
        return -(-self.code.frames // n.PAGE_FRAMES)

    def put_page(self, index, octets):
        """Store page `index`, whose digest was compared."""
        if self.page(index) is None:
            self._pages.add(index, octets + bytes(n.PAGE_FRAMES * n.HASH - len(octets)))
            self._pages.flush()

    def page(self, index):
        """Return the hashes in page `index`, or None if it is not there."""
        octets = self._pages.read(index)
        if octets is not None:
            return octets[: (self.code.frames - index * n.PAGE_FRAMES) * n.HASH]

    def put(self, index, octets):
        """Store coded frame `index`, whose hash was compared. One that is of no use any more is not stored."""
        if self.held(index):
            return
        if self._placed and index < self._limit:
            self._stage.put(index, octets)
            self._placed.add(index)
        elif self._wanted[self.code.segment(index)] > 0 and self._room > 0:
            self._frames.add(index, octets)
            self._room -= 1
        else:
            return
        self._mark(index)

    def held(self, index):
        """Return True if coded frame `index` is stored."""
        return bool(self._held[index >> 3] >> (index & 7) & 1)

    def frame(self, index):
        """Return the octets of a coded frame that is stored."""
        if self._placed and index < self._limit:
            return self._stage.read(index)
        return self._frames.read(index)

    def flush(self):
        """Return when all that was put is in the flash."""
        self._frames.flush()
        if self._placed:
            self._placed.flush()

    def full(self, due=True):
        """Have the next start install the update, and close the files; with False it is collected further."""
        from device_agent.update import head as stored

        self.flush()
        self.due = due
        head = [self.kind, self.number, self.size, self.digest, self.slot, due, self.envelope]
        stored.save(self._folder, head)
        self.close()

    def close(self):
        """Close the files."""
        for log in (self._pages, self._frames, self._placed):
            if log:
                log.close()

    def drop(self):
        """Forget the update, and free its files."""
        from device_agent.update import head as stored

        self.close()
        stored.forget(self._folder)

    def _mark(self, index):
        if index >= self.code.frames:
            raise OSError(_DAMAGED)
        self._held[index >> 3] |= 1 << (index & 7)
        self._wanted[self.code.segment(index)] -= 1
