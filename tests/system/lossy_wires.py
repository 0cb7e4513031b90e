"""Wires between the machines of a network and its switch that lose IP packets at random, on the way to the machine.

A program of its own, because it must run in the switch's network namespace: `python lossy_wires.py LOSS SEED WIRE...`.
A WIRE is the names of its two network interfaces, `MACHINE-SIDE:SWITCH-SIDE`; LOSS is a probability. It prints a line
when it is ready, and for each line it reads how many packets it has lost until then; it ends with its input.

A broadcast is lost for each receiver by itself, as on the air. What finds addresses (ARP) is not lost.
"""

import random
import selectors
import socket
import sys

_ETH_P_ALL = 3
_SOL_PACKET = 263
_PACKET_VNET_HDR = 15  # frames come and go with what hardware would still do for them, such as checksums
_VNET_HDR_LEN = 10
_SO_RCVBUFFORCE = 33
_QUEUE = 8 << 20  # so that nothing else is lost while a busy machine lets this program wait
_FRAME_MAX = 1 << 17
_AT_ONCE = 64

_PACKET_TYPE = 2  # in an address of recvfrom()
_ETHERTYPE = slice(_VNET_HDR_LEN + 12, _VNET_HDR_LEN + 14)
_IPV4 = b"\x08\x00"


class Wires:
    """All wires; `lost` counts packets."""

    def __init__(self, loss: float, seed: int, wires: list[tuple[str, str]]) -> None:
        self._loss = loss
        self._random = random.Random(seed)
        self.lost = 0
        self.selector = selectors.DefaultSelector()
        for names in wires:
            machine, switch = map(_open, names)
            self.selector.register(machine, selectors.EVENT_READ, (switch, False))
            self.selector.register(switch, selectors.EVENT_READ, (machine, True))

    def carry(self, source: socket.socket, target: socket.socket, lossy: bool) -> None:
        """Bring what has come in at `source` to `target`."""
        for _ in range(_AT_ONCE):
            try:
                frame, address = source.recvfrom(_FRAME_MAX)
            except BlockingIOError:
                return
            if address[_PACKET_TYPE] == socket.PACKET_OUTGOING:
                continue  # what we have sent ourselves
            if lossy and frame[_ETHERTYPE] == _IPV4 and self._random.random() < self._loss:
                self.lost += 1
            else:
                target.send(frame)


def _open(name: str) -> socket.socket:
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    end.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
    end.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _QUEUE)
    end.setblocking(False)
    end.bind((name, _ETH_P_ALL))
    return end


def main(loss: str, seed: str, *wires: str) -> None:
    """Run until there is no more input."""
    all_wires = Wires(float(loss), int(seed), [tuple(wire.split(":")) for wire in wires])
    all_wires.selector.register(sys.stdin, selectors.EVENT_READ, None)
    print("ready", flush=True)
    while True:
        for key, _ in all_wires.selector.select():
            if key.data is not None:
                all_wires.carry(key.fileobj, *key.data)
            elif sys.stdin.readline():
                print(all_wires.lost, flush=True)
            else:
                return


if __name__ == "__main__":
    main(*sys.argv[1:])
