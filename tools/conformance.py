"""The conformance table: each requirement, the tests that name it, and their outcomes.

`python -m tools.conformance` runs the tests, prints the table and writes build/conformance.json. Exit code 1 if a
SHALL or a security decision of the gate (tests/requirements.toml) has no passing test, a test that names an id failed,
or a test names an id that does not exist.
"""

import json
import re
import subprocess
import sys
import tomllib
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tools import PROJECT

REQUIREMENTS = PROJECT / "tests" / "requirements.toml"
RECORD = PROJECT / "build" / "tests.json"
OUTPUT = PROJECT / "build" / "conformance.json"
# Decisions on open questions are marked like requirements, but are no requirements.
QUESTION = re.compile(r"Q-\d\d")
STYLES = {"passed": "green", "failed": "bold red", "missing": "bold red", "no test": "yellow"}


@dataclass
class Requirement:
    """One row. `outcomes` maps tests that name it to passed, failed or skipped. If `gated`, one must have passed."""

    id: str
    level: str
    role: str
    text: str
    untestable: str = ""
    later: str = ""
    gated: bool = False
    outcomes: dict[str, str] = field(default_factory=dict)

    @property
    def result(self) -> str:
        """The result: passed, failed, skipped, missing (gated and without a pass), no test, not testable, or later."""
        seen = set(self.outcomes.values())
        if "failed" in seen:
            return "failed"
        if "passed" in seen:
            return "passed"
        if self.gated:
            return "missing"
        if "skipped" in seen:
            return "skipped"
        return "not testable" if self.untestable else "later" if self.later else "no test"


def load(path: Path = REQUIREMENTS) -> dict[str, Requirement]:
    """Return the requirements by id, in the order of the file."""
    data = tomllib.loads(path.read_text())
    gate = data["gate"]
    rows = {row["id"]: Requirement(**row) for row in data["requirement"]}
    ids = list(rows)
    clauses = {id for first, last in gate["clauses"] for id in ids[ids.index(first) : ids.index(last) + 1]}
    for row in rows.values():
        level = row.level.split(",")[0]  # "SHALL, step 1" is one of a numbered step
        clause = row.id in clauses and level in gate["levels"] and not row.untestable
        row.gated = clause or row.id in gate["decisions"]
    return rows


def fill(rows: dict[str, Requirement], tests: dict[str, Any]) -> list[str]:
    """Enter the outcomes of a recorded test run into `rows`. Return the ids in tests that no row defines."""
    unknown = set()
    for name, test in tests.items():
        for requirement in test["ids"]:
            if requirement in rows:
                rows[requirement].outcomes[name] = test["outcome"]
            elif not QUESTION.fullmatch(requirement):
                unknown.add(f"{requirement} ({name})")
    return sorted(unknown)


def table(rows: dict[str, Requirement]) -> Table:
    """Return the table for people. It counts passing tests on CPython and in the MicroPython VM separately."""
    shown = Table("id", "level", "requirement", "tests", "on VM", "result", title="Conformance", title_justify="left")
    for row in rows.values():
        on_vm = sum("test_on_vm.py" in name for name in row.outcomes)
        result = row.result
        reason = row.untestable or row.later
        shown.add_row(
            row.id,
            row.level,
            f"{row.text} [dim]({reason})[/]" if reason else row.text,  # also if the part that is built has tests
            str(len(row.outcomes) - on_vm or ""),
            str(on_vm or ""),
            f"[{STYLES.get(result, 'dim')}]{result}[/]",
        )
    return shown


def main() -> int:
    RECORD.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "--shards", f"--record-requirements={RECORD}", *sys.argv[1:]]
    ended = subprocess.run(command, cwd=PROJECT).returncode
    if not RECORD.exists():
        print("conformance: the tests could not be run; see above", file=sys.stderr)
        return 1
    rows = load()
    unknown = fill(rows, json.loads(RECORD.read_text()))
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table(rows))
    counts = Counter(row.result for row in rows.values())
    failing = [row.id for row in rows.values() if row.result in ("failed", "missing")]
    rest = [row.id for row in rows.values() if row.result == "no test"]
    OUTPUT.write_text(
        json.dumps(
            {
                "counts": dict(counts),
                "failing": failing,
                "unknown": unknown,
                "pytest_exit_code": ended,
                "requirements": [{**asdict(row), "result": row.result} for row in rows.values()],
            },
            indent=1,
        )
        + "\n"
    )
    print(", ".join(f"{number} {result}" for result, number in counts.most_common()))
    for complaint, ids in (("without a passing test", failing), ("named but not defined", unknown), ("no test", rest)):
        if ids:
            print(f"{complaint}: {', '.join(ids)}")
    return 1 if failing or unknown or ended else 0


if __name__ == "__main__":
    sys.exit(main())
