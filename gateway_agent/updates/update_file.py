"""The signed file of an update, checked as a whole before it is offered and whenever it is read again."""

from dataclasses import dataclass

from cpns.errors import MalformedMessage
from gateway_agent.updates.update_key import UpdateKey
from suit import file, frames, image
from suit import numbers as n
from suit.class_id import VENDOR
from suit.coded import CodedImage

OCTETS_MAX = n.IMAGE_MAX + 64 * 1024
"""Octets of a file: the longest image, the list of its pages, and its manifest."""


@dataclass(frozen=True, slots=True)
class Update:
    """A whole update. `kind`: "agent" or "firmware"; `class_id`: which boards can run it; `size`: octets of its image.

    `envelope`: the octets that travel to boards; `coded`: the frames of the image; `pages`: the hashes of all of them.
    """

    update_id: bytes
    number: int
    kind: str
    class_id: bytes
    size: int
    envelope: bytes
    coded: CodedImage
    pages: tuple[bytes, ...]

    @property
    def pieces(self) -> int:
        """How many pieces a board pulls that has heard nothing of it."""
        return 1 + len(self.pages) + int(self.coded.code.blocks)

    def piece(self, what: int, index: int) -> bytes:
        """Return a piece: `what` is one of `suit.numbers.ENVELOPE`, `PAGE` and `FRAME`. Raises IndexError."""
        match what:
            case n.ENVELOPE if index == 0:
                return self.envelope
            case n.PAGE if 0 <= index < len(self.pages):
                return self.pages[index]
            case n.FRAME:
                return self.coded.frame(index)
        raise IndexError(f"no piece {index} of kind {what}")


def read(octets: bytes, key: UpdateKey | None) -> Update:
    """Return the update in the octets of a file. `key` must have signed it; without one any key may have.

    Raises MalformedMessage if any part does not fit the manifest, NotAuthentic if another key has signed it.
    """
    if len(octets) > OCTETS_MAX:
        raise MalformedMessage(f"the file has more than {OCTETS_MAX} octets")
    found = file.read(octets)
    if found.image is None:
        raise MalformedMessage("the file has no image: it is what travels to boards")
    if found.vendor_id != VENDOR:
        raise MalformedMessage("the update is for boards of another maker")
    if key is not None:
        key.verify(found)
    image.require(found)
    coded = CodedImage(found.image)
    pages = tuple(coded.pages())
    if b"".join(frames.hashed(page) for page in pages) != found.page_list:
        raise MalformedMessage("the hashes in the file are not those of its image")
    return Update(
        found.update_id,
        found.number,
        found.kind,
        found.class_id,
        found.size,
        found.without_image(),
        coded,
        pages,
    )
