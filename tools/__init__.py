"""Programs over the packages: the keycast command, virtual boards, the MicroPython VM, benches."""
