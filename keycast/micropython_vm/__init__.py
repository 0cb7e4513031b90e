"""The MicroPython VM of tests and virtual boards: find or fetch it, compile for it, run in it."""
