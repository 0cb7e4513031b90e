"""The check of the disk: room, whether it can be written, and how long a synced write takes."""

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from keycast.doctor.finding import Finding, bad, good, warning
from keycast.doctor.surroundings import Surroundings

MIB = 1 << 20
BAD_BELOW, WARNING_BELOW = 20 * MIB, 200 * MIB
INODES_MIN = 100
FSYNC_MAX_S = 0.05
"""A synced write that takes longer makes each key wait: a worn or very slow SD card."""
_TRIES = 5
_OCTETS = 4096
_PAGE = "docs/operate.md"


def look(here: Surroundings) -> Iterator[Finding]:
    """Yield free space and the time of a synced write on the disk of the state folder."""
    folder = _nearest(here.state or Path.cwd())
    space = os.statvfs(folder)
    free = space.f_bavail * space.f_frsize
    step = f"Make room on the disk of {folder}."
    few_files = space.f_files and space.f_favail < INODES_MIN
    left = f"room for {space.f_favail} more files is left" if few_files else f"{_size(free)} are left"
    if free < BAD_BELOW or (space.f_files and space.f_favail == 0):
        yield bad(f"The disk of {folder} is full: {left}.", step, _PAGE)
    elif free < WARNING_BELOW or few_files:
        yield warning(f"The disk of {folder} is nearly full: {left}.", step, _PAGE)
    else:
        yield good(f"{_size(free)} are free on the disk of {folder}")
    try:
        seconds = fsync_s(folder)
    except OSError as error:
        yield bad(
            f"Nothing can be written in {folder}: {error.strerror}.",
            "Look at the disk: findmnt, dmesg. An SD card at its end becomes read-only.",
            _PAGE,
        )
        return
    if seconds > FSYNC_MAX_S:
        yield warning(
            f"A synced write takes {seconds * 1000:.0f} ms, and each new key waits for some.",
            "Replace the SD card by a better one (class A2), or use an SSD.",
            _PAGE,
        )
    else:
        yield good(f"a synced write takes {seconds * 1000:.1f} ms")


def fsync_s(folder: Path) -> float:
    """Return the seconds that a small write with fsync takes in `folder`, the median of a few. Raises OSError."""
    taken = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(_TRIES):
            begun = time.perf_counter()
            file.write(bytes(_OCTETS))
            file.flush()
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def _nearest(folder: Path) -> Path:
    """Return `folder`, or the nearest one above it that exists."""
    absolute = folder.absolute()
    return next(each for each in (absolute, *absolute.parents) if each.is_dir())


def _size(octets: int) -> str:
    return f"{octets / (MIB << 10):.1f} GiB" if octets >= MIB << 10 else f"{octets / MIB:.0f} MiB"
