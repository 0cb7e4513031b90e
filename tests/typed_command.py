"""A `keycast` command that a test types: a process of its own, forked from the test's, which has the modules already.

The modules of `keycast` itself are imported anew in it. A start from nothing is what the program beside Python does, as
`tests/system/test_system_output.py` and `test_installed_wheel.py` type it.
"""

import logging
import os
import select
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import IO

HIDDEN_WARNINGS = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)


def keycast(
    *words: object, typed: str = "", folder: Path = Path(), timeout_s: float = 120
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end in `folder`, on a terminal of 300 columns. `typed` is what it reads."""
    command = list(map(str, words))
    with tempfile.TemporaryFile() as entered, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        entered.write(typed.encode())
        entered.seek(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks beside threads
            process = os.fork()
        if process == 0:
            code = 1
            try:
                code = _be_the_command(command, folder, (entered, out, err))
            finally:
                os._exit(code)
        code = _end_of(process, timeout_s)
        if code is None:
            raise subprocess.TimeoutExpired(command, timeout_s, _text(out), _text(err))
        return subprocess.CompletedProcess(command, code, _text(out), _text(err))


def _end_of(process: int, timeout_s: float) -> int | None:
    """Wait for a process and return its exit code; None if it had to be killed after `timeout_s`."""
    ended = select.poll()
    handle = os.pidfd_open(process)
    ended.register(handle, select.POLLIN)
    in_time = ended.poll(timeout_s * 1000)
    os.close(handle)
    if not in_time:
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status) if in_time else None


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


def _be_the_command(words: list[str], folder: Path, streams: Sequence[IO[bytes]]) -> int:
    """Make this process what a new one of `keycast` is, run the command, and return its exit code."""
    for descriptor, stream in enumerate(streams):
        os.dup2(stream.fileno(), descriptor)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(fd, mode, encoding="utf-8") for fd, mode in enumerate("rww"))
    logging.getLogger().handlers.clear()  # those of pytest
    warnings.resetwarnings()
    for hidden in HIDDEN_WARNINGS:
        warnings.simplefilter("ignore", hidden)
    os.chdir(folder)
    os.environ["COLUMNS"] = "300"
    sys.argv[:] = ["keycast", *words]
    for name in [name for name in sys.modules if name.partition(".")[0] == "keycast"]:
        del sys.modules[name]
    from keycast import main

    try:
        main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 - as Python does
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0
