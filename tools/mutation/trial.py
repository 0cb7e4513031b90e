"""Run the tests of some decisions on a copy of the project in which one file was changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tools.mutation.operators import Mutant
from tools.mutation.sites import Site

SURVEY_LIMIT_S = 3600
LIMIT_FACTOR = 3  # a test that takes so many times as long as without the mutant counts as hanging
LIMIT_MORE_S = 30.0
NONE_RAN = 5  # pytest's exit code when nothing was selected


@dataclass(frozen=True)
class Test:
    """A test: its node id, its seconds, whether it starts a process, and the lines of each file that it runs itself."""

    name: str
    seconds: float
    process: bool
    lines: dict[str, set[int]]

    def reaches(self, file: str, mutant: Mutant) -> bool:
        """Return True if the test may notice the mutant: it runs its lines, or starts a process that may run them."""
        return self.process or not self.lines.get(file, set()).isdisjoint(range(mutant.line, mutant.last + 1))


class Copy:
    """A copy of the project's tracked and new files in `folder`, with the environment and the VM of the original."""

    def __init__(self, project: Path, folder: Path) -> None:
        """Make the copy. Raises OSError or subprocess.CalledProcessError if that fails."""
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

    def survey(self, ids: set[str], places: list[Site], without: list[str]) -> list[Test]:
        """Run all tests marked with `ids`, except those below `without`, and return which lines of `places` each runs.

        Raises ValueError, with the end of the output, unless all pass, and if there is none.
        """
        record = self.folder / "build" / "reach.json"
        record.parent.mkdir(exist_ok=True)
        record.write_text(json.dumps({"places": [[site.file, site.first, site.last] for site in places]}))
        arguments = ["-p", "tools.mutation.reach", f"--reach={record}", *(f"--req={id}" for id in sorted(ids))]
        outcome, words = self._pytest([*arguments, *self._files(ids, without)], SURVEY_LIMIT_S)
        if outcome != "passed":
            raise ValueError(f"without any change: {outcome}\n{words}")
        tests = json.loads(record.read_text())["tests"]
        return [
            Test(name, one["seconds"], one["process"], {file: set(lines) for file, lines in one["lines"].items()})
            for name, one in tests.items()
        ]

    def run(self, tests: list[Test]) -> tuple[str, float]:
        """Run `tests`, the quick ones first, until the first failure. Return outcome and seconds.

        The outcome is passed, failed or too long.
        """
        begun = time.monotonic()
        ordered = sorted(tests, key=lambda test: test.seconds)
        limit_s = LIMIT_FACTOR * sum(test.seconds for test in ordered) + LIMIT_MORE_S
        outcome, _ = self._pytest([test.name for test in ordered], limit_s)
        return outcome, time.monotonic() - begun

    def put(self, file: str, text: str) -> None:
        """Write `text` to `file`, with a new time stamp, so that files compiled from it are made anew."""
        (self.folder / file).write_text(text, encoding="utf-8")

    def _files(self, ids: set[str], without: list[str]) -> list[str]:
        """Return the test files that hold one of `ids`; to collect the others takes longer than most tests."""
        found = [
            path.relative_to(self.folder).as_posix()
            for path in sorted((self.folder / "tests").rglob("test_*.py"))
            if any(id in path.read_text(encoding="utf-8") for id in ids)
        ]
        found = [name for name in found if not any(Path(name).is_relative_to(folder) for folder in without)]
        if not found:
            raise ValueError(f"no test file names {' or '.join(sorted(ids))}")
        return found

    def _pytest(self, arguments: list[str], limit_s: float) -> tuple[str, str]:
        """Return the outcome (passed, failed, no test, too long) and the end of the output."""
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *arguments]
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
            return "too long", words[-2000:]
        return {0: "passed", NONE_RAN: "no test"}.get(process.returncode, "failed"), words[-2000:]
