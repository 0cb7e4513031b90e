"""The file that MicroPython runs at boot, by this name. It must be source; all other modules are .mpy."""

import board

board.run()
