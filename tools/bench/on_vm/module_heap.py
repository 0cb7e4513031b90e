# Runs inside the VM after power_on. It imports modules in turn and prints the octets that each adds to the heap.
import gc
import os


def told(names):
    gc.collect()
    before = gc.mem_alloc()
    print("vm", before)
    for name in names:
        __import__(name)
        gc.collect()
        after = gc.mem_alloc()
        print(name, after - before)
        before = after


told(os.getenv("BOARD_MODULES").split())
