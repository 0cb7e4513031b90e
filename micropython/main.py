"""The file that MicroPython runs at boot, by this name. It must be source; all other modules are .mpy.

For two seconds an octet on the serial line, then the held button, leads to the REPL, where no watchdog runs and tools
copy files. Our other files are read after the octet only: to import one that is not whole may never end.
"""

import select
import sys
import time

print("keycast: start: any key within 2 s for the REPL")
trial = False
try:
    line = select.poll()
    line.register(sys.stdin, select.POLLIN)
    begun = time.ticks_ms()
    called = False
    while not called and time.ticks_diff(time.ticks_ms(), begun) < 2000:
        # a converter that gets power may send zeros
        called = bool(line.poll(50)) and sys.stdin.buffer.read(1) != b"\0"
    line = None
    if not called:
        import agent_slots

        trial = agent_slots.mount()
        del agent_slots
        import start

        if start.ready(trial):
            del start, sys.modules["start"]
            import board

            board.run(trial)
except KeyboardInterrupt:
    pass
except Exception as error:  # noqa: BLE001 - a board that resets now would come back to the same error
    sys.print_exception(error)
    if trial:  # it is started again, or the agent before it
        import machine

        try:
            import strikes

            strikes.note(None, error, True)
        finally:
            machine.reset()
    print("keycast: safe-mode the files of this board do not run: use `keycast board rescue`")
print("keycast: waiting for a tool")
