"""A `keycast` command that a test types: a process of its own, forked from the test's, which has the modules already.

The modules of `keycast` itself are imported anew in it. A start from nothing is what the program beside Python does, as
`tests/system/test_system_output.py` and `test_installed_wheel.py` type it.
"""

import io
import logging
import multiprocessing
import os
import subprocess
import sys
import tempfile
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
        fork = multiprocessing.get_context("fork")
        process = fork.Process(target=_be_the_command, args=(command, folder, (entered, out, err)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks beside threads
            process.start()
        process.join(timeout_s)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(command, timeout_s, _text(out), _text(err))
        return subprocess.CompletedProcess(command, process.exitcode, _text(out), _text(err))


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return io.TextIOWrapper(io.BytesIO(file.read()), "utf-8").read()


def _be_the_command(words: list[str], folder: Path, streams: Sequence[IO[bytes]]) -> None:
    """Make this process what a new one of `keycast` is, and run the command."""
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

    main()
