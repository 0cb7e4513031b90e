"""Names for processes and checks whether a named process is still there, for the lease of the sessions (SEC-23)."""

from __future__ import annotations

import os
import time
from pathlib import Path

_PROC = Path("/proc")


def boot_milliseconds() -> int:
    """Return milliseconds since this machine started, time asleep included. It is the same for all its processes."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def boot_id() -> str:
    """Return a name for this run of the kernel. Times since boot can be compared only within one run."""
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def this_process() -> str:
    """Return a name for this process that no other process has had or will have on this machine."""
    pid = os.getpid()
    return f"{boot_id()}/{_namespace()}/{pid}/{_started(pid)}"


def same_boot(holder: str) -> bool:
    """Return True if `holder` was named during this run of the kernel."""
    return holder.split("/")[0] == boot_id()


def certainly_gone(holder: str) -> bool:
    """Return True if the process named `holder` can never run again; False also if that cannot be seen from here.

    A stopped process (SIGSTOP) is not gone.
    """
    boot, namespace, pid, started = holder.split("/")
    if boot != boot_id():
        return True
    if namespace != _namespace():
        return False
    return _started(int(pid)) != started


def _namespace() -> str:
    return os.readlink(_PROC / "self/ns/pid")


def _started(pid: int) -> str:
    """Return the start time of `pid` in clock ticks since boot, "" if there is no such process or it is a zombie."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] in "ZX" else fields[19]
