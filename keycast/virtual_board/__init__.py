"""Virtual boards: each is a process of the real MicroPython VM on this machine, and runs the files of an ESP32."""
