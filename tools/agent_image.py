"""Images that a gateway takes for an agent, of any size: random octets with the files that every agent has."""

import random

from keycast.micropython_vm import romfs
from suit.image import MPY, NEEDED

_CODE = bytes((ord("M"), MPY, 0, 31))


def agent_image(octets: int, seed: int = 1) -> bytes:
    """Return an image of so many octets, an even number above 300. Raises ValueError for a size that none has."""
    filling = random.Random(seed).randbytes(octets)
    for left_out in range(octets):
        image = romfs.image_of(dict.fromkeys(NEEDED, _CODE) | {"zz.mpy": _CODE + filling[left_out:]})
        if len(image) == octets:
            return image
        if len(image) < octets:
            break
    raise ValueError(f"no image has {octets} octets")
