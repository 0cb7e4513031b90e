"""Claims of this process on what the programs of one machine share: names in the abstract Unix sockets of its network.

No file is left behind, and the kernel ends the claims of a process with it, however that ends.
"""

import errno
import socket


def claim(what: str) -> socket.socket | None:
    """Return a socket that holds the claim on `what` until it is closed, None if another process or socket has it."""
    held = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        held.bind(f"\0keycast {what}")
    except OSError as error:
        held.close()
        if error.errno != errno.EADDRINUSE:
            raise
        return None
    return held
