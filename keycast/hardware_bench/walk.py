"""Lead a person through the checks of a board, run what can be run, and collect the results."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Protocol

from keycast.hardware_bench.checks import Check

_OURS = ("-c", "from keycast import main; main()")
KEPT = 40
"""Lines of a command or of the board that a result keeps, the last ones."""


@dataclass(frozen=True)
class Result:
    """The result of one check. `lines` are the last lines that were read, `measured` what the person wrote down."""

    name: str
    result: Literal["passed", "failed", "skipped"]
    why: str = ""
    measured: str = ""
    seconds: float = 0.0
    lines: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the result as a JSON object."""
        return asdict(self)


class Person(Protocol):
    """The person at the bench."""

    def ready(self, check: Check) -> bool:
        """Show what is to be done, wait until it is; return False to skip the check."""

    def confirms(self, question: str) -> bool:
        """Return the answer to a question."""

    def reads(self, unit: str) -> str:
        """Return the number that the person reads from an instrument, or "" if there is none."""


SerialLines = Callable[[float], Iterable[str]]
"""Yields the lines of the board's serial line that come within so many seconds."""


def walk(checks: Iterable[Check], names: dict[str, str], person: Person, lines: SerialLines) -> Iterator[Result]:
    """Yield the result of each check. `names` has the words that stand for PORT, BOARD and IMAGE in commands."""
    for check in checks:
        if not person.ready(check):
            yield Result(check.name, "skipped", "by the person")
            continue
        started = time.monotonic()
        result = _run(check, names, lines)
        result = replace(result, seconds=round(time.monotonic() - started, 1))
        if result.result == "passed" and check.ask and not person.confirms(check.ask):
            result = replace(result, result="failed", why=f"answered with no: {check.ask}")
        if result.result == "passed" and check.measure:
            measured = person.reads(check.measure)
            result = replace(result, measured=measured, result="passed" if measured else "skipped")
        yield result


def _run(check: Check, names: dict[str, str], lines: SerialLines) -> Result:
    if check.command:
        return _command(check, [names.get(word, word) for word in check.command])
    seen: list[str] = []
    missing = list(check.expect)
    if missing:
        for line in lines(check.within_s):
            seen.append(line)
            if re.search(missing[0], line):
                missing.pop(0)
            if not missing:
                break
    return _judged(check, seen, missing)


def _command(check: Check, words: list[str]) -> Result:
    program = [sys.executable, "-P", *(_OURS if words[0] == "keycast" else ("-m", words[0])), *words[1:]]
    try:
        done = subprocess.run(
            program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=check.within_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        text = (error.stdout or b"").decode(errors="backslashreplace")
        why = f"{words[0]} did not end within {check.within_s} s"
        return Result(check.name, "failed", why, lines=tuple(text.splitlines()[-KEPT:]))
    seen = done.stdout.decode(errors="backslashreplace").splitlines()
    if done.returncode:
        return Result(check.name, "failed", f"{words[0]} ended with {done.returncode}", lines=tuple(seen[-KEPT:]))
    missing = list(check.expect)
    for line in seen:
        if missing and re.search(missing[0], line):
            missing.pop(0)
    return _judged(check, seen, missing)


def _judged(check: Check, seen: list[str], missing: list[str]) -> Result:
    why = f"no line with {missing[0]!r} came within {check.within_s} s" if missing else ""
    return Result(check.name, "failed" if missing else "passed", why, lines=tuple(seen[-KEPT:]))
