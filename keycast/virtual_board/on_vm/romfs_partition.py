# The partition `romfs` of a board's flash, which is a file of the host, and `vfs.rom_ioctl`, with which tools write it.
import os
import sys

import ffi
import uctypes
import vfs

_ERASED = 0xFF
_COUNT, _SEGMENT, _PREPARE, _WRITE, _COMPLETE = 1, 2, 3, 4, 5
_LEAST_WRITE = 4
_EINVAL = -22

_octets = None


def use(octets):
    # The partition is these octets
    global _octets
    _octets = octets


def open(path):
    # Map the file into memory: what is written there is in the file, also if this process is killed
    libc = ffi.open(None)
    size = os.stat(path)[6]
    file = libc.func("i", "open", "si")(path, 2)
    start = libc.func("p", "mmap", "piiiii")(0, size, 3, 1, file, 0)  # PROT_READ | PROT_WRITE, MAP_SHARED
    libc.func("i", "close", "i")(file)
    use(uctypes.bytearray_at(start, size))


def mount():
    try:
        vfs.mount(vfs.VfsRom(_octets), "/rom")
    except OSError:  # nothing is written there
        return
    sys.path.extend(("/rom", "/rom/lib"))


def rom_ioctl(command, segment=0, *rest):
    if command == _COUNT:
        return 1
    if segment:
        return _EINVAL
    if command == _SEGMENT:
        return memoryview(_octets)
    if command == _PREPARE:
        at, size = rest if len(rest) == 2 else (0, rest[0])
        for i in range(at, min(at + size, len(_octets))):
            _octets[i] = _ERASED
        return _LEAST_WRITE
    if command == _WRITE:
        at, octets = rest
        _octets[at : at + len(octets)] = octets
        return 0
    return 0 if command == _COMPLETE else _EINVAL


class _Module:
    pass


def module():
    # `vfs` with `rom_ioctl`; names cannot be added to the VM's own module
    extended = _Module()
    for name in dir(vfs):
        setattr(extended, name, getattr(vfs, name))
    extended.rom_ioctl = rom_ioctl
    return extended
