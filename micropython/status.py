"""The state of the board, told on the serial line and by its light whenever it changes (docs/board_start.md)."""

import sys

code = ""  # of the state that was told last
blinks = 0, 0  # long and short ones


def tell(new, more=""):
    """Tell the state `new`, a code of `status_lines`, unless it was told last. `more` is added to its sentence."""
    global code, blinks
    if new == code:
        return
    code, sentence = new, ""
    try:
        from status_lines import LINES

        *blinks, sentence = LINES[new]
    except MemoryError:
        pass
    print("keycast:", new, sentence + more)
    sys.modules.pop("status_lines", None)
