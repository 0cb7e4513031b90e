"""Boards on this machine: the files of an ESP32 in the real MicroPython VM, one process each."""
