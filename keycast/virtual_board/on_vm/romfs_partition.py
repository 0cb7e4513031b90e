# The partitions for ROMFS of a board's flash, which are files of the host, and `vfs.rom_ioctl`, with which tools write
# them. A board with a serial port has two: for the files that come by cable, and for the two slots of updates.
import os
import sys

import ffi
import uctypes
import vfs

_ERASED = 0xFF
_COUNT, _SEGMENT, _PREPARE, _WRITE, _COMPLETE = 1, 2, 3, 4, 5
_LEAST_WRITE = 4
_EINVAL = -22

segments = []


def add(octets):
    # The next partition is these octets
    segments.append(octets)


def open(path):
    # The next partition is this file
    add(mapped(path))


def mapped(path):
    # Return the octets of a file: what is written to them is in it, also if this process is killed
    libc = ffi.open(None)
    size = os.stat(path)[6]
    file = libc.func("i", "open", "si")(path, 2)
    start = libc.func("p", "mmap", "piiiii")(0, size, 3, 1, file, 0)  # PROT_READ | PROT_WRITE, MAP_SHARED
    libc.func("i", "close", "i")(file)
    return uctypes.bytearray_at(start, size)


def mount():
    try:
        vfs.mount(vfs.VfsRom(segments[0]), "/rom")
    except OSError:  # nothing is written there
        return
    sys.path.extend(("/rom", "/rom/lib"))


def rom_ioctl(command, segment=0, *rest):
    if command == _COUNT:
        return len(segments)
    if segment >= len(segments):
        return _EINVAL
    octets = segments[segment]
    if command == _SEGMENT:
        return memoryview(octets)
    if command == _PREPARE:
        at, size = rest if len(rest) == 2 else (0, rest[0])
        for i in range(at, min(at + size, len(octets))):
            octets[i] = _ERASED
        return _LEAST_WRITE
    if command == _WRITE:
        at, written = rest
        octets[at : at + len(written)] = written
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
