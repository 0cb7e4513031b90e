"""Pieces of an update in a file, in the order in which they came: index u16 || octets, all of one size.

A log-structured file system writes only at the end of a file cheaply, and keeps what was there at the last flush when
the power is cut. So pieces are appended, and a log that is opened again has whole pieces only.
"""

FLUSH_EACH = 16  # pieces: what a power cut loses at most
_HEAD = 2
_CHUNK = 1024


class PieceLog:
    """The log at `path`, which is made if need be. A piece has `size` octets, or none: then its index is noted only.

    Raises OSError.
    """

    def __init__(self, path, size):
        self._size = size
        self._order = bytearray()  # the indexes
        self._loose = 0
        try:
            self._file = open(path, "r+b")  # noqa: SIM115 - open until `close`
        except OSError:
            self._file = open(path, "w+b")  # noqa: SIM115
        self._read_order()

    def add(self, index, octets=b""):
        """Append a piece."""
        head = index.to_bytes(_HEAD, "big")
        self._file.seek(self._at(len(self._order) // _HEAD))
        self._file.write(head)
        self._file.write(octets)
        self._order += head
        self._loose += 1
        if self._loose >= FLUSH_EACH:
            self.flush()

    def read(self, index):
        """Return the octets of a piece, or None if it is not there."""
        for place, each in enumerate(self.indexes()):
            if each == index:
                self._file.seek(self._at(place) + _HEAD)
                return self._file.read(self._size)
        return None

    def indexes(self):
        """Iterate over the indexes of all pieces, in the order in which they came."""
        order = self._order
        return (order[at] << 8 | order[at + 1] for at in range(0, len(order), _HEAD))

    def flush(self):
        """Return when all pieces are in the flash."""
        if self._loose:
            self._file.flush()
            self._loose = 0

    def close(self):
        """Close the file."""
        self._file.close()

    def _at(self, place):
        return place * (_HEAD + self._size)

    def _read_order(self):
        length = self._file.seek(0, 2)
        whole = length // (_HEAD + self._size)
        if not self._size:
            self._file.seek(0)
            while len(self._order) < whole * _HEAD:
                self._order += self._file.read(min(_CHUNK, whole * _HEAD - len(self._order)))
            return
        for place in range(whole):
            self._file.seek(self._at(place))
            self._order += self._file.read(_HEAD)
