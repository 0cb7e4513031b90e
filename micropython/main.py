"""What a board runs at boot. MicroPython looks for this name and wants source; everything else is .mpy."""

import board

board.run()
