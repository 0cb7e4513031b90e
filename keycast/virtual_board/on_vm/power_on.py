# Mount the flash, and run `main.py`, as a board's firmware does. A second image holds the modules that stand in for
# hardware: on an ESP32 these are native code, and so they are not in the heap here either.
import os
import sys

import rom

rom.mount(os.getenv("BOARD_HARDWARE"), "/hardware")
rom.mount(os.getenv("BOARD_ROM"), "/rom")
sys.path[:] = ["/hardware", "/rom", ".frozen"]
for name in ("esp32", "machine", "network"):  # native modules are not loaded anew with a slot of the agent
    __import__(name)
if os.getenv("BOARD_PARTITIONS"):
    import partitions
    import romfs_partition

    romfs_partition.add(partitions.octets("romfs"))
    sys.modules["vfs"] = romfs_partition.module()
    del partitions, romfs_partition
if os.getenv("BOARD_APP"):  # a folder whose app.py replaces that of /hardware
    sys.path.insert(0, os.getenv("BOARD_APP"))


def _program():
    # BOARD_WINDOW_MS: how long main.py waits for a tool, 0 unless set, as most tests start many boards
    with open("/rom/main.py") as file:
        text = file.read().replace("< 2000", "< " + (os.getenv("BOARD_WINDOW_MS") or "0"))
    return compile(text, "main.py", "exec")


def run():
    exec(_program(), {"__name__": "__main__"})
