# What a board's firmware does before `main.py`: mount the flash. A second image holds the modules that stand in for
# hardware, native code on an ESP32 and therefore not in its heap either.
import os
import sys

import rom

rom.mount(os.getenv("BOARD_HARDWARE"), "/hardware")
rom.mount(os.getenv("BOARD_ROM"), "/rom")
sys.path[:] = ["/hardware", "/rom", ".frozen"]
