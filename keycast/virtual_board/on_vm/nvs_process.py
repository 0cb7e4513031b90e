# Starts the process of a board's NVS. The names of this module are in the VM's heap for good, so they are few.
import os

import ffi
import uctypes

_BOX = 8192  # octets
_SHARED, _ANONYMOUS = 1, 0x20
_SIGKILL = 9

_libc = ffi.open(None)
_exit = _libc.func("v", "_exit", "i")


def start(path, size):
    # Return the flash, which is the file at `path`, the box, our end of the line to the process, and what is to be done
    # with that. The flash is locked against the host while this process, the board, lives.
    handle = _opened(path, size)
    flash, box, ends = _mapped(size, _SHARED, handle), _mapped(_BOX, _SHARED | _ANONYMOUS, -1), bytearray(8)
    _libc.func("i", "socketpair", "iiip")(1, 1, 0, ends)  # AF_UNIX, SOCK_STREAM
    ours, theirs = ends[0] | ends[1] << 8, ends[4] | ends[5] << 8
    close, read, write = _function("close", "i"), _function("read", "ipi"), _function("write", "ipi")
    if not _function("fork", "")():
        octet = bytearray(1)
        _function("prctl", "ii")(1, _SIGKILL)  # PR_SET_PDEATHSIG: the power of the board is its power
        _function("setsid", "")()  # no Ctrl-C
        for end in (0, 1, handle, ours):
            close(end)
        import nvs_calls

        nvs_calls.serve(flash, box, lambda: read(theirs, octet, 1) == 1, lambda: write(theirs, octet, 1), _exit)
    close(theirs)
    return flash, box, ours, read, write, _exit


def _function(name, kinds):
    return _libc.func("i", name, kinds)


def _mapped(size, flags, handle):
    return uctypes.bytearray_at(_libc.func("P", "mmap", "PIiiil")(0, size, 3, flags, handle, 0), size)


def _opened(path, size):
    handle = _function("open", "sii")(path, 0o102, 0o600)  # O_RDWR | O_CREAT
    _function("flock", "ii")(handle, 2)
    if os.stat(path)[6] != size:
        with open(path, "wb") as file:
            for _ in range(size // 64):
                file.write(b"\xff" * 64)
    return handle
