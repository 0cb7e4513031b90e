"""Print each datagram that comes to a UDP port as a line of hexadecimal digits: `hear_broadcasts.py PORT`."""

import socket
import sys

if __name__ == "__main__":
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("", int(sys.argv[1])))
        print("hears", flush=True)
        while True:
            print(listening.recv(65535).hex(), flush=True)
