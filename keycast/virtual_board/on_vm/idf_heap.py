# A model of the memory that an ESP32's Wi-Fi and its Python heap share, for tests of a board that gets short of it.
# It is not measured: there is one free block and a small one. The Python heap takes the largest block when more is in
# use than it has; a datagram is received if there is a block for it. The VM's own heap is not part of it.
# BOARD_IDF_HEAP: octets that are free when Wi-Fi is on; without it this board has no such memory.
# BOARD_PYTHON_HEAP: octets of the Python heap before it grows.
import gc
from os import getenv

CRUMB = 1600
RECEIVE = 2048  # octets of a buffer for one datagram

blocks = [int(getenv("BOARD_IDF_HEAP")), CRUMB]
python_heap = int(getenv("BOARD_PYTHON_HEAP") or 65536)


def look():
    # Return the octets of the largest free block, after the Python heap has grown if it must
    global python_heap
    if gc.mem_alloc() > python_heap and max(blocks) > CRUMB:
        grown = max(blocks)
        blocks.remove(grown)
        python_heap += grown
    return max(blocks)


def take(octets):
    # Return True if there was a block for them
    if look() < octets:
        return False
    largest = max(blocks)
    blocks.remove(largest)
    blocks.append(largest - octets)
    return True


def give(octets):
    blocks.append(octets)


def starves():
    # Return True if there is no buffer for a datagram
    return look() < RECEIVE
