"""All coded frames of an image, and the pages with their hashes: for who signs or broadcasts it."""

from suit import numbers as n
from suit.erasure import Code, xor
from suit.frames import hashed


class CodedImage:
    """The coded frames of `image`, octets. `code` is its erasure.Code."""

    def __init__(self, image: bytes) -> None:
        self._image = image
        self.code = Code(len(image))

    def block(self, index: int) -> bytes:
        """Return block `index`, filled up with zeros to 1,024 octets."""
        return self._image[index * n.BLOCK : (index + 1) * n.BLOCK].ljust(n.BLOCK, b"\0")

    def frame(self, index: int) -> bytes:
        """Return coded frame `index`, 1,024 octets. Raises IndexError for one that the code does not have."""
        if not 0 <= index < self.code.frames:
            raise IndexError(f"no coded frame {index} among {self.code.frames}")
        return bytes(xor(self.block, self.code.members(index)))

    def pages(self) -> list[bytes]:
        """Return the pages: the hashes of all coded frames, `numbers.PAGE_FRAMES` in each."""
        hashes = [hashed(self.frame(index)) for index in range(self.code.frames)]
        return [b"".join(hashes[at : at + n.PAGE_FRAMES]) for at in range(0, len(hashes), n.PAGE_FRAMES)]

    def page_list(self) -> bytes:
        """Return the hashes of the pages: what stands in an envelope as "#frames"."""
        return b"".join(hashed(page) for page in self.pages())
