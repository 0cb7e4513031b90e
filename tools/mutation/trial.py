"""Run the tests of some decisions on a copy of the project in which one file was changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

# Tests that cost little first: most mutants are found by them.
ORDER = ("tests/unit", "tests/property", "tests/portable", "tests/integration", "tests/system")
NONE_RAN = 5  # pytest's exit code when nothing was selected


class Copy:
    """A copy of the project's tracked and new files in `folder`, with the environment and the VM of the original."""

    def __init__(self, project: Path, folder: Path) -> None:
        """Raises OSError or subprocess.CalledProcessError if the copy cannot be made."""
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=project,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        self.folder = folder
        for name in filter(None, listed.split("\0")):
            if (project / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(project / name, folder / name)
        for name in (".venv", ".cache"):
            (folder / name).symlink_to(project / name)

    def run(self, ids: set[str], limit_s: float) -> tuple[str, float, str]:
        """Run the tests marked with `ids` until the first failure; returns outcome, seconds and the last words.

        Outcomes: passed, failed, too long, no test.
        """
        begun = time.monotonic()
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *ORDER]
        command += [f"--req={id}" for id in sorted(ids)]
        environment = {**os.environ, "PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            words, _ = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            words, _ = process.communicate()
            return "too long", time.monotonic() - begun, words[-2000:]
        outcome = {0: "passed", NONE_RAN: "no test"}.get(process.returncode, "failed")
        return outcome, time.monotonic() - begun, words[-2000:]

    def put(self, file: str, text: str) -> None:
        """Write `text` to `file`, with a time stamp of its own, so that what was compiled from it is made anew."""
        (self.folder / file).write_text(text, encoding="utf-8")
