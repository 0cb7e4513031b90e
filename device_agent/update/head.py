"""The head of an update that is being collected: what is known of it, in a file beside its pieces.

It is written first and removed first: without it the other files do not count.
"""

from cpns import cborlite
from cpns.errors import CpnsError
from device_agent.update.places import remove

HEAD, PAGES, FRAMES, PLACED = "update.suit", "update.pages", "update.log", "update.set"
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
    """Write the head. A log-structured file system keeps the one before until the file is closed."""
    with open(folder + HEAD, "wb") as file:
        file.write(cborlite.encode([FORMAT] + head))


def forget(folder):
    """Remove the files of an update."""
    for name in (HEAD, PAGES, FRAMES, PLACED):
        remove(folder + name)
