"""Lines from the guest to the host: virtio ports, which the host names.

A port says "hang up" while nobody has the host's end open, so reads block in a thread and are tried again.
"""

import glob
import os
import time

APPEARS_S = 10.0
RETRY_S = 0.05


class Port:
    """The virtio port with this name. Raises OSError if the guest has none."""

    def __init__(self, name: str) -> None:
        self.file = os.open(_device(name), os.O_RDWR)
        self._unread = b""

    def read(self) -> bytes:
        """Return at least one octet from the host; wait for it."""
        while not (octets := os.read(self.file, 65536)):
            time.sleep(RETRY_S)
        return octets

    def read_line(self) -> bytes:
        """Return the next line from the host, without its end; wait for it."""
        while b"\n" not in self._unread:
            self._unread += self.read()
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def write(self, octets: bytes) -> None:
        """Send octets to the host; wait until it has taken them."""
        view = memoryview(octets)
        while view:
            view = view[os.write(self.file, view[:32768]) :]


def _device(name: str) -> str:
    until = time.monotonic() + APPEARS_S
    while time.monotonic() < until:
        for path in glob.glob("/sys/class/virtio-ports/*/name"):
            with open(path) as file:
                if file.read().strip() == name:
                    return f"/dev/{path.split('/')[-2]}"
        time.sleep(RETRY_S)
    raise OSError(f"there is no virtio port {name}")
