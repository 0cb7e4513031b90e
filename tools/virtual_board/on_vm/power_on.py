# What a board's firmware does before `main.py`: mount the ROMFS image. The file is mapped into memory as the ESP32's
# flash is, outside the heap. A second image holds the modules that stand in for hardware, native code on an ESP32.
import os
import sys

import ffi
import vfs


def _mount(image, at):
    libc = ffi.open(None)
    size = os.stat(image)[6]
    file = libc.func("i", "open", "si")(image, 0)
    start = libc.func("p", "mmap", "piiiii")(0, size, 1, 2, file, 0)  # PROT_READ, MAP_PRIVATE
    libc.func("i", "close", "i")(file)
    vfs.mount(vfs.VfsRom(ffi.as_bytearray(start, size)), at)


_mount(os.getenv("BOARD_HARDWARE"), "/hardware")
_mount(os.getenv("BOARD_ROM"), "/rom")
sys.path[:] = ["/hardware", "/rom", ".frozen"]
