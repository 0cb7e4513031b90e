"""A file that a person named and that holds no secret. One that is read is an ordinary file of a limited size."""

import contextlib
import os
import stat
from pathlib import Path

from private_store.errors import Fault, StoreUnusable

PEM_MAX = 1 << 20
"""Octets of a file of certificates: those of all authorities of a system are a quarter of it."""
_KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFSOCK: "a socket"}


def read(path: Path, most: int, fault: Fault = StoreUnusable, *, missing: str = "Name the right one.") -> bytes:
    """Return the content of `path`, at most `most` octets. `missing` tells a person what to do when it is absent.

    Raises `fault` if it is no ordinary file or too large. A pipe is refused rather than waited for.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise fault(f"There is no file {path}.", missing) from None
    except OSError as error:
        raise fault(f"Cannot read {path}: {error.strerror}.", "Check its owner and mode.") from None
    except ValueError:  # a NUL in it
        raise fault(f"{str(path)!r} can be the name of no file.", missing) from None
    try:
        kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
        if kind == stat.S_IFDIR:
            raise fault(f"{path} is a folder.", "Name the file in it.")
        if kind != stat.S_IFREG:
            raise fault(f"{path} is {_KINDS.get(kind, 'something else')}, no file.", "Save it as a file and name that.")
        with open(descriptor, "rb", closefd=False) as file:
            octets = file.read(most + 1)
    except OSError as error:
        raise fault(f"Cannot read {path}: {error.strerror}.", "Check its disk.") from None
    finally:
        os.close(descriptor)
    if len(octets) > most:
        raise fault(f"{path} has more than {most} octets.", "Name the right one.")
    return octets


def require_new(path: Path, fault: Fault = StoreUnusable) -> None:
    """Raise `fault` if there is something at `path`, or no folder for it, for commands that work long before they
    write."""
    if os.path.lexists(path):
        raise fault(f"{path} exists already.", "Use it, or move it away first.")
    if not path.parent.is_dir():
        raise fault(f"There is no folder {path.parent} for {path.name}.", "Make it first, or name another file.")


def write_new(path: Path, octets: bytes, fault: Fault = StoreUnusable) -> None:
    """Write a file that must not exist yet, and that others may read. Raises `fault`, and then leaves no file."""
    require_new(path, fault)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise fault(f"Cannot write {path}: {error.strerror}.", "Check its folder.") from None
    try:
        with open(descriptor, "wb") as file:
            file.write(octets)
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        with contextlib.suppress(OSError):
            path.unlink()
        if isinstance(error, OSError):
            raise fault(f"Cannot write {path}: {error.strerror}.", "Check the space on its disk.") from None
        raise
