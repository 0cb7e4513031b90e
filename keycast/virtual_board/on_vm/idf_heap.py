# A model of the memory that an ESP32's Wi-Fi and its Python heap share, for tests of what happens when it gets short.
# A model, not a measurement: one free block and a crumb; the Python heap takes the largest block when more is in use
# than it had; a datagram is received if there is a block for it. The VM's own heap is no part of it.
# BOARD_IDF_HEAP: octets free when Wi-Fi is on; without it this board tells nothing of such memory.
# BOARD_PYTHON_HEAP: octets of the Python heap before it grows.
import gc
from os import getenv

CRUMB = 1600
RECEIVE = 2048  # octets of a buffer for one datagram

blocks = [int(getenv("BOARD_IDF_HEAP")), CRUMB]
python_heap = int(getenv("BOARD_PYTHON_HEAP") or 65536)


def look():
    # -> octets of the largest free block, after the Python heap has grown if it has to
    global python_heap
    if gc.mem_alloc() > python_heap and max(blocks) > CRUMB:
        grown = max(blocks)
        blocks.remove(grown)
        python_heap += grown
    return max(blocks)


def take(octets):
    # True if there was a block for them
    if look() < octets:
        return False
    largest = max(blocks)
    blocks.remove(largest)
    blocks.append(largest - octets)
    return True


def give(octets):
    blocks.append(octets)


def starves():
    # no buffer for a datagram
    return look() < RECEIVE
