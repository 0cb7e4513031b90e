"""Mutate the code of a decision, and report the changes that no test of that decision notices.

    python -m tools.mutation ID ID                  # all functions that name one of them
    python -m tools.mutation ID --at message_plane/sessions.py::Sessions.reconcile
    python -m tools.mutation ID --most 20            # spread over them; --list runs nothing

The tests marked with these ids are run once with the code as it is. Then each mutant is tried by those of them that run
its lines, the quick ones first. A mutant whose lines none of them runs is reported without a try.
Exit code 1 if a mutant survives, 2 for a wrong call. Writes build/mutation.json.
"""

from __future__ import annotations

import argparse
import json
import queue
import signal
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from tools import PROJECT, conformance
from tools.mutation import operators, sites
from tools.mutation.operators import Mutant
from tools.mutation.sites import Site
from tools.mutation.trial import Copy, Test

OUTPUT = PROJECT / "build" / "mutation.json"


@dataclass(frozen=True)
class Tried:
    """A mutant and its outcome: killed (a test failed), killed by time, survived, or no test comes here."""

    file: str
    function: str
    line: int
    what: str
    before: str
    outcome: str
    seconds: float


def main() -> int:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    arguments = _arguments()
    ids = set(arguments.ids)
    project = PROJECT
    try:
        places = [site for at in arguments.at for site in sites.named(project, at)] or sites.of(project, ids)
    except ValueError as error:
        print(f"mutation: {error}", file=sys.stderr)
        return 2
    work = [(site, mutant) for site in places for mutant in _mutants(project, site)]
    print(f"{len(work)} mutants in {len(places)} functions for {', '.join(sorted(ids))}")
    if arguments.list:
        for site, mutant in work:
            print(f"{site.file}:{mutant.line} {site.name}: {mutant.what}: {mutant.before[:80]}")
        return 0
    try:
        tried = _try_all(project, work, arguments)
    except ValueError as error:
        print(f"mutation: {error}", file=sys.stderr)
        return 2
    survivors = [one for one in tried if not one.outcome.startswith("killed")]
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(json.dumps({"ids": sorted(ids), "tried": [asdict(one) for one in tried]}, indent=1) + "\n")
    print(f"{len(tried) - len(survivors)} killed, {len(survivors)} survived")
    return 1 if survivors else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.mutation", description=__doc__.partition("\n")[0])
    known = conformance.load()
    parser.add_argument("ids", nargs="+", metavar="ID", help="decisions (SEC-..); their marked tests are run")
    parser.add_argument("--at", action="append", default=[], metavar="FILE[::NAME]", help="mutate here instead")
    parser.add_argument(
        "--most", type=int, default=0, metavar="N", help="only so many, spread over all places (0: all)"
    )
    parser.add_argument("--without", action="append", default=[], metavar="DIR", help="leave out the tests below it")
    parser.add_argument("--in-process", action="store_true", help="leave out tests that start a process")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="how many at a time")
    parser.add_argument("--list", action="store_true", help="print the mutants and run nothing")
    arguments = parser.parse_args()
    if unknown := [id for id in arguments.ids if id not in known]:
        parser.error(f"{', '.join(unknown)}: not in tests/requirements.toml")
    if arguments.most < 0 or arguments.jobs < 1:
        parser.error("--jobs is 1 or more, --most 0 or more")
    return arguments


def _mutants(project: Path, site: Site) -> list[Mutant]:
    return list(operators.mutants((project / site.file).read_text(encoding="utf-8"), site.first, site.last))


def _try_all(project: Path, work: list[tuple[Site, Mutant]], arguments: argparse.Namespace) -> list[Tried]:
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder, ThreadPoolExecutor(arguments.jobs) as pool:
        copies: queue.SimpleQueue[Copy] = queue.SimpleQueue()
        for job in range(arguments.jobs):
            copies.put(Copy(project, Path(folder) / str(job)))
        first = copies.get()
        tests = first.survey(set(arguments.ids), list(dict.fromkeys(site for site, _ in work)), arguments.without)
        copies.put(first)
        tests = [test for test in tests if not (arguments.in_process and test.process)]
        seconds = sum(test.seconds for test in tests)
        print(f"{len(tests)} tests of {', '.join(arguments.ids)} take {seconds:.0f} s and pass without a change")
        work = _spread(work, arguments.most, tests)
        return list(pool.map(lambda pair: _try(project, pair[0], pair[1], tests, copies), work))


def _spread(work: list[tuple[Site, Mutant]], most: int, tests: list[Test]) -> list[tuple[Site, Mutant]]:
    """Return the mutants that no test reaches, and at most `most` of the others (0: all), spread over all places."""
    reached = [pair for pair in work if any(test.reaches(pair[0].file, pair[1]) for test in tests)]
    if not most or len(reached) <= most:
        return work
    chosen = {reached[number * len(reached) // most] for number in range(most)}
    return [pair for pair in work if pair in chosen or pair not in reached]


def _try(project: Path, site: Site, mutant: Mutant, tests: list[Test], copies: queue.SimpleQueue[Copy]) -> Tried:
    outcome, seconds = "no test comes here", 0.0
    if seeing := [test for test in tests if test.reaches(site.file, mutant)]:
        copy = copies.get()
        try:
            copy.put(site.file, mutant.text)
            ended, seconds = copy.run(seeing)
        finally:
            copy.put(site.file, (project / site.file).read_text(encoding="utf-8"))
            copies.put(copy)
        outcome = {"passed": "survived", "failed": "killed"}.get(ended, "killed by time")
    print(f"{outcome:9} {site.file}:{mutant.line} {site.name}: {mutant.what}: {mutant.before[:80]}", flush=True)
    return Tried(site.file, site.name, mutant.line, mutant.what, mutant.before, outcome, round(seconds, 1))


if __name__ == "__main__":
    sys.exit(main())
