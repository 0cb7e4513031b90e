# Mount the flash, as a board's firmware does before `main.py`. A second image holds the modules that stand in for
# hardware: on an ESP32 these are native code, and so they are not in the heap here either.
import os
import sys

import rom

rom.mount(os.getenv("BOARD_HARDWARE"), "/hardware")
rom.mount(os.getenv("BOARD_ROM"), "/rom")
sys.path[:] = ["/hardware", "/rom", ".frozen"]
if os.getenv("BOARD_APP"):  # a folder whose app.py replaces that of /hardware
    sys.path.insert(0, os.getenv("BOARD_APP"))
