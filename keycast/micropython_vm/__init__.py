"""The MicroPython VM for tests and virtual boards: how to find or fetch it, compile for it and run in it."""
