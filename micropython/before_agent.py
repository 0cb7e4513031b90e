"""The work that a board with a VAL client does with the whole heap before the agent is loaded, and its restart."""

import gc
import os
import sys

FOLDER = getattr(os, "getenv", lambda name: None)("BOARD_VAL_CLIENT") or "/val/"


def run():
    """Open the Key Message that waits and make missing caches; then reset the board if anything was done."""
    import machine
    import strikes
    from nvs_store import NvsStore

    from device_agent.key_store import KeyStore
    from device_agent.val_client import whole_heap

    store = KeyStore(NvsStore())
    if FOLDER[:-1].rpartition("/")[2] not in os.listdir(FOLDER[:-1].rpartition("/")[0] or "/"):
        os.mkdir(FOLDER[:-1])
    if not whole_heap.waiting(store, FOLDER):
        return
    gc.threshold(-1)  # no object that stays is made, so garbage is collected only when the heap is full

    def progress(number, percent):
        print("key cache of period", number, percent, "%")

    if whole_heap.work(store, FOLDER, progress):
        strikes.over(NvsStore())
        machine.reset()  # back to a heap in one piece


run()
for name in ("strikes", "device_agent.val_client.whole_heap", "device_agent.val_client.records"):
    sys.modules.pop(name, None)
