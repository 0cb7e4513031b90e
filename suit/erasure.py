"""A systematic erasure code that only XORs: the frames in which an image is broadcast (docs/protocol.md section 16).

An image is k blocks of `numbers.BLOCK` octets, the last one filled up with zeros. They are dealt out to segments in
turn, so that a burst of losses hits all segments alike. Coded frame t < k is block t. Each further one is the XOR of
about half of the blocks of one segment, which a hash chooses. A segment has SEGMENT_MAX blocks at most, so that the
equations of a segment are integers of 128 bits, which a board solves in a moment.

The receiver of any m or a few more repair frames of a segment finds the m blocks that it misses. Whoever holds them
needs only one block in memory at a time: `solve` says which frames to add.
"""

from hashlib import sha256

from suit import numbers

SEGMENT_MAX = 128


class Code:
    """The code of an image of `size` octets. `blocks` is k, `frames` the number of all coded frames."""

    def __init__(self, size):
        self.blocks = -(-size // numbers.BLOCK)
        self.segments = -(-self.blocks // SEGMENT_MAX)
        self.repairs = (-(-self.blocks // self.segments) + 1) // 2  # of a segment: half as many as its blocks
        self.frames = self.blocks + self.segments * self.repairs

    def segment(self, index):
        """Return the segment of a coded frame."""
        return (index if index < self.blocks else index - self.blocks) % self.segments

    def members(self, index):
        """Return the blocks whose XOR is coded frame `index`, in a list."""
        if index < self.blocks:
            return [index]
        segment, mask = self.segment(index), self._mask(index)
        return [block for block in range(segment, self.blocks, self.segments) if mask >> block // self.segments & 1]

    def solve(self, segment, held):
        """Return, for each block of a segment that is not held, (block, coded frames whose XOR it is), or None.

        `held(index)` says whether a coded frame is held. None: the frames that are held are not enough yet.
        """
        blocks = range(segment, self.blocks, self.segments)
        missing = [block for block in blocks if not held(block)]
        if not missing:
            return []
        rows = [index for index in self._repairs_of(segment) if held(index)]
        if len(rows) < len(missing):
            return None
        masks = [self._mask(index) for index in rows]
        wanted = 0
        for block in missing:
            wanted |= 1 << block // self.segments
        # Each equation: which missing blocks it has, and which of `rows` were added up for it
        equations = [(mask & wanted, 1 << place) for place, mask in enumerate(masks)]
        for step in range(len(missing)):
            bit = 1 << missing[step] // self.segments
            for place in range(step, len(equations)):
                if equations[place][0] & bit:
                    break
            else:
                return None
            pivot = equations[place]
            equations[place] = equations[step]
            for other in range(len(equations)):
                if other != step and equations[other][0] & bit:
                    equations[other] = equations[other][0] ^ pivot[0], equations[other][1] ^ pivot[1]
            equations[step] = pivot
        return [
            (block, self._sum(blocks, rows, masks, equation[1], wanted)) for block, equation in zip(missing, equations)
        ]

    def _sum(self, blocks, rows, masks, chosen, wanted):
        # The coded frames of which a missing block is the XOR: some repair frames, and the blocks that these have more
        frames, mask = [], 0
        for place, index in enumerate(rows):
            if chosen >> place & 1:
                frames.append(index)
                mask ^= masks[place]
        mask &= ~wanted
        return frames + [block for place, block in enumerate(blocks) if mask >> place & 1]

    def _repairs_of(self, segment):
        return range(self.blocks + segment, self.frames, self.segments)

    def _mask(self, index):
        repair, segment = divmod(index - self.blocks, self.segments)
        name = b"keycast/xor/1" + segment.to_bytes(2, "big") + repair.to_bytes(2, "big")
        return int.from_bytes(sha256(name).digest()[:16], "big")


def xor(read, indexes):
    """Return the XOR of coded frames, `numbers.BLOCK` octets. `read(index)` returns a frame."""
    total = 0
    for index in indexes:
        total ^= int.from_bytes(read(index), "big")
    return total.to_bytes(numbers.BLOCK, "big")
