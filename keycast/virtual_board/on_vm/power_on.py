# What a board's firmware does before `main.py`: mount the flash. A second image holds the modules that stand in for
# hardware, native code on an ESP32 and therefore not in its heap either.
import os
import sys

import rom

rom.mount(os.getenv("BOARD_HARDWARE"), "/hardware")
rom.mount(os.getenv("BOARD_ROM"), "/rom")
sys.path[:] = ["/hardware", "/rom", ".frozen"]
if os.getenv("BOARD_APP"):  # the folder of another app.py than that of /hardware
    sys.path.insert(0, os.getenv("BOARD_APP"))
