# Map a ROMFS image into memory, as an ESP32 does with its flash, and mount it. Its code then runs outside of the heap.
import os

import ffi
import vfs


def mount(image, at):
    libc = ffi.open(None)
    size = os.stat(image)[6]
    file = libc.func("i", "open", "si")(image, 0)
    start = libc.func("p", "mmap", "piiiii")(0, size, 1, 2, file, 0)  # PROT_READ, MAP_PRIVATE
    libc.func("i", "close", "i")(file)
    vfs.mount(vfs.VfsRom(ffi.as_bytearray(start, size)), at)
