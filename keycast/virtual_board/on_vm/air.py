# The state that this folder's modules share: this board's address and its radio link.
# Addresses come from the environment; on loopback each board has a 127.0.x.y of its own.
from os import getenv

ADDRESS = getenv("BOARD_ADDRESS") or "127.0.0.2"
NETMASK = getenv("BOARD_NETMASK") or "255.0.0.0"
# The ports that stand for those of the protocol, which on loopback may belong to another house
PORTS = {5683: int(getenv("BOARD_PORT") or 5683), 5687: int(getenv("BOARD_BROADCAST_PORT") or 5687)}
# The port that stands for 5683 at this board alone, if the gateway has that one at all addresses of this machine
OWN_PORT = int(getenv("BOARD_OWN_PORT") or PORTS[5683])
# The access point that is heard, or None if each name and password is accepted
WIFI_NAME, WIFI_PASSWORD = getenv("BOARD_WIFI_NAME"), getenv("BOARD_WIFI_PASSWORD")

loss = 0  # of 65,536 datagrams
radio_on = False
connected = False
out_of_range = bool(getenv("BOARD_OUT_OF_RANGE"))  # the access point cannot be heard
refused = int(getenv("BOARD_REFUSED") or 0)  # the reason for which the access point does not let the board in, or 0
counts = {"sent": 0, "received": 0, "lost": 0}

_state = 1


def broadcast_address():
    pairs = zip(ADDRESS.split("."), NETMASK.split("."))
    return ".".join(str(int(a) & int(m) | 255 - int(m)) for a, m in pairs)


def set_loss(probability, seed):
    # xorshift32: the same seed loses the same datagrams, and other random numbers stay as they are
    global loss, _state
    loss = int(probability * 65536)
    _state = seed & 0x3FFFFFFF or 1


def lost():
    # Return True if a datagram is lost, and count it
    global _state
    if not connected:
        counts["lost"] += 1
        return True
    if loss:
        x = _state
        x ^= x << 13 & 0xFFFFFFFF
        x ^= x >> 17
        x ^= x << 5 & 0xFFFFFFFF
        _state = x
        if x & 0xFFFF < loss:
            counts["lost"] += 1
            return True
    return False


set_loss(float(getenv("BOARD_LOSS") or 0), int(getenv("BOARD_SEED") or 1))
