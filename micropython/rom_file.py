"""The image of an agent in a file, as a file system out of which MicroPython imports, where no ROMFS can be mapped.

It stays in the heap: `index` has, for each file and folder in the image, 4 octets of SHA-256 of its path and 3 octets:
where in the file its own octets begin, 0 for a folder.
"""

from hashlib import sha256

ENTRY = 7


class RomFile:
    """The image in the file `path`. Files end where that ends, which an .mpy file does not notice."""

    def __init__(self, path, index):
        self._path = path
        self._index = index

    def mount(self, readonly, mkfs):
        """Do nothing: the image is whole."""

    def stat(self, path):
        """Return the tuple of `os.stat`, with the kind only. Raises OSError for what is not there."""
        return (0x8000 if self._find(path) else 0x4000,) + (0,) * 9

    def open(self, path, mode):
        """Return the file of the image, at the octets of `path`."""
        file = open(self._path, "rb")  # noqa: SIM115 - for the importer, who closes it
        file.seek(self._find(path))
        return file

    def _find(self, path):
        name, at = sha256(path).digest()[:4], -1
        while True:
            at = self._index.find(name, at + 1)
            if at < 0:
                raise OSError(2)  # ENOENT
            if at % ENTRY == 0:
                return int.from_bytes(self._index[at + 4 : at + ENTRY], "big")
