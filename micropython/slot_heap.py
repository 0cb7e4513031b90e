"""Whether the agent can run out of a file: loaded when an update is offered, and never while a board starts."""

import gc
import os
import sys

from slot_images import FOLDER, mapped

HEAP = 150000  # octets of a heap, used and free, in which the agent can run out of a file
_ENOMEM = 12


def check():
    """Raise OSError 12 if code runs in place, without two slots, and the heap has no room for it as well."""
    del sys.modules[__name__]
    gc.collect()
    # `gc.mem_free` counts what the heap can still take of the memory that it shares with the radios
    if mapped() is None and gc.mem_alloc() + gc.mem_free() < HEAP:
        try:
            os.stat(FOLDER + "device_agent")  # the files that came by cable are in the heap already
        except OSError:
            raise OSError(_ENOMEM, "an agent in a file needs a heap of %d octets" % HEAP) from None
