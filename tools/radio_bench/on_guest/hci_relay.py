"""Make a Bluetooth adapter of the guest whose controller is a program of the host: `hci_relay.py PORT`.

HCI packets go between the kernel's virtual adapter (/dev/vhci) and a virtio port. When this program ends, the adapter
is gone, as one that is pulled out.
"""

import os
import sys
import threading

from tools.radio_bench.on_guest.virtio_ports import Port

CREATE = b"\xff\x00"  # a primary controller
HEADERS = {1: (4, 3, 1), 2: (5, 3, 2), 3: (4, 3, 1), 4: (3, 2, 1), 5: (5, 3, 2)}
"""Of each kind of packet: octets of its header with the kind, place of the length in it, octets of the length."""


def whole(octets: bytes) -> int:
    """Return the length of the first packet in `octets`, 0 if it is not whole yet."""
    if not octets or len(octets) < HEADERS[octets[0]][0]:
        return 0
    header, at, size = HEADERS[octets[0]]
    length = header + int.from_bytes(octets[at : at + size], "little")
    return length if len(octets) >= length else 0


def to_host(adapter: int, port: Port) -> None:
    """Pass packets of the kernel to the host, for ever."""
    while True:
        port.write(os.read(adapter, 4096))


def main(name: str) -> None:
    """Make the adapter, print its name, and pass packets both ways."""
    port = Port(name)
    adapter = os.open("/dev/vhci", os.O_RDWR)
    os.write(adapter, CREATE)
    print(f"hci{int.from_bytes(os.read(adapter, 64)[2:4], 'little')}", flush=True)
    threading.Thread(target=to_host, args=(adapter, port), daemon=True).start()
    unread = b""
    while True:
        unread += port.read()
        while length := whole(unread):
            os.write(adapter, unread[:length])  # the kernel reads one packet of each write
            unread = unread[length:]


if __name__ == "__main__":
    main(sys.argv[1])
