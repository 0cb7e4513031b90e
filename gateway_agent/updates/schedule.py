"""The order in which an update is broadcast. It depends on the image only, so an airing can go on at its position."""

from math import ceil

from suit import numbers as n
from suit.erasure import Code

SENT = 1.36
"""Coded frames that are sent, for each block of the image. A board that receives four of five can then restore it."""


HEADS = 3
"""How often manifest and pages are sent before the first frame. They are sent once more after AGAIN_AFTER frames."""
AGAIN_AFTER = 16


class AiringOrder:
    """The datagrams of one airing, each as (kind, index) in the numbers of `suit.numbers`.

    The manifest and the pages of hashes go first, and again soon: a board that lacks them cannot check a frame, and
    drops it. A board that loses one datagram of five misses about as many frames as are sent more than it needs.
    """

    def __init__(self, code: Code, pages: int) -> None:
        """`code` is that of the image, whose hashes fill so many `pages`."""
        self._head = 1 + pages
        self._frames: int = min(ceil(code.blocks * SENT), code.frames)
        self._again_at = HEADS * self._head + min(AGAIN_AFTER, self._frames)

    def __len__(self) -> int:
        return (HEADS + 1) * self._head + self._frames

    def at(self, position: int) -> tuple[int, int]:
        """Return what is sent at a position, 0 to below the length."""
        in_frames = position - HEADS * self._head
        if in_frames < 0:
            return self._of_head(position % self._head)
        if position < self._again_at:
            return n.FRAME, in_frames
        if position < self._again_at + self._head:
            return self._of_head(position - self._again_at)
        return n.FRAME, in_frames - self._head

    def _of_head(self, index: int) -> tuple[int, int]:
        return (n.PAGE, index - 1) if index else (n.ENVELOPE, 0)
