"""The file that MicroPython runs at boot, by this name. It must be source; all other modules are .mpy.

For two seconds an octet on the serial line, or the held button, leads to the REPL, where no watchdog runs and tools
copy files. Nothing of the other files is needed for that, however broken they are.
"""

import sys


def called():
    """Return True if an octet comes within 2 s, or the button is held for a fifth of a second."""
    import select
    import time

    print("keycast: start: any key within 2 s for the REPL")
    try:
        from start import button

        held = button()
    except Exception:  # noqa: BLE001 - begin() shows it, after the window
        held = bool
    line = select.poll()
    line.register(sys.stdin, select.POLLIN)
    begun, ticks = time.ticks_ms(), 0
    while time.ticks_diff(time.ticks_ms(), begun) < 2000:
        if line.poll(50) and sys.stdin.buffer.read(1) != b"\0":  # a converter that gets power may send zeros
            return True
        ticks = ticks + 1 if held() else 0
        if ticks == 4:
            return True
    return False


try:
    if not called():
        import start

        if start.ready():
            del start, called, sys.modules["start"]
            import board

            board.run()
except KeyboardInterrupt:
    pass
except Exception as error:  # noqa: BLE001 - a board that resets now would come back to the same error
    sys.print_exception(error)
    print("keycast: safe-mode the files of this board do not run: use `keycast board rescue`")
print("keycast: waiting for a tool")
