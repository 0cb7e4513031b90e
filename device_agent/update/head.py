"""The head of an update that is being collected: what is known of it, in a file beside its pieces.

It is written first and removed first: without it the other files do not count.
"""

import os

from cpns import cborlite
from cpns.errors import CpnsError
from device_agent.update.places import remove

HEAD, NEXT, PAGES, FRAMES, PLACED = "update.suit", "update.new", "update.pages", "update.log", "update.set"
FORMAT = 1
SPARE = 16  # coded frames of a segment that are kept beyond as many as it has blocks: some say what others said


def load(folder):
    """Return [kind, number, size, digest, slot, whether it is to be installed, envelope], or None.

    `folder` is a path that ends with a slash.
    """
    try:
        with open(folder + HEAD, "rb") as file:
            form, *head = cborlite.decode(file.read())
        return head if form == FORMAT and len(head) == 7 else None
    except (OSError, CpnsError, TypeError, ValueError):
        return None


def save(folder, head):
    """Write the head by one change of a name: whole or not at all."""
    with open(folder + NEXT, "wb") as file:
        file.write(cborlite.encode([FORMAT] + head))
    os.rename(folder + NEXT, folder + HEAD)


def forget(folder):
    """Remove the files of an update."""
    for name in (HEAD, NEXT, PAGES, FRAMES, PLACED):
        remove(folder + name)
