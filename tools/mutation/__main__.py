"""Mutate what a decision guards and report which changes no test of that decision notices.

    python -m tools.mutation SEC-20 SEC-21          # all functions that name one of them
    python -m tools.mutation SEC-32 --at message_plane/sessions.py::Sessions.reconcile
    python -m tools.mutation SEC-20 --most 20        # spread over them; --list runs nothing

Each mutant is tried by the tests marked with these ids. Exit code 1 if a mutant survives, 2 for a wrong call.
Writes build/mutation.json.
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

from tools import conformance
from tools.mutation import operators, sites
from tools.mutation.operators import Mutant
from tools.mutation.sites import Site
from tools.mutation.trial import Copy

OUTPUT = conformance.PROJECT / "build" / "mutation.json"
LIMIT_FACTOR = 3  # a mutant that makes tests wait for ever is found when they take so many times as long as without it
LIMIT_MORE_S = 30.0


@dataclass(frozen=True)
class Tried:
    """A mutant and what became of it: killed (a test failed), killed by time, survived."""

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
    project = conformance.PROJECT
    try:
        places = [site for at in arguments.at for site in sites.named(project, at)] or sites.of(project, ids)
    except ValueError as error:
        print(f"mutation: {error}", file=sys.stderr)
        return 2
    work = [(site, mutant) for site in places for mutant in _mutants(project, site)]
    if arguments.most and len(work) > arguments.most:  # spread over all places
        work = [work[number * len(work) // arguments.most] for number in range(arguments.most)]
    print(f"{len(work)} mutants in {len(places)} functions for {', '.join(sorted(ids))}")
    if arguments.list:
        for site, mutant in work:
            print(f"{site.file}:{mutant.line} {site.name}: {mutant.what}: {mutant.before[:80]}")
        return 0
    tried = _try_all(project, work, ids, arguments.jobs)
    if tried is None:
        return 2
    survivors = [one for one in tried if one.outcome == "survived"]
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(json.dumps({"ids": sorted(ids), "tried": [asdict(one) for one in tried]}, indent=1) + "\n")
    print(f"{len(tried) - len(survivors)} killed, {len(survivors)} survived")
    return 1 if survivors else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.mutation", description=__doc__.partition("\n")[0])
    known = conformance.load()
    parser.add_argument("ids", nargs="+", metavar="ID", help="decisions such as SEC-20; their marked tests are run")
    parser.add_argument("--at", action="append", default=[], metavar="FILE[::NAME]", help="mutate here instead")
    parser.add_argument(
        "--most", type=int, default=0, metavar="N", help="only so many, spread over all places (0: all)"
    )
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


def _try_all(project: Path, work: list[tuple[Site, Mutant]], ids: set[str], jobs: int) -> list[Tried] | None:
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder, ThreadPoolExecutor(jobs) as pool:
        copies: queue.SimpleQueue[Copy] = queue.SimpleQueue()
        for job in range(jobs):
            copies.put(Copy(project, Path(folder) / str(job)))
        first = copies.get()
        outcome, seconds, words = first.run(ids, limit_s=3600)
        copies.put(first)
        if outcome != "passed":
            print(f"mutation: without any change: {outcome}\n{words}", file=sys.stderr)
            return None
        limit_s = LIMIT_FACTOR * seconds + LIMIT_MORE_S
        print(f"the tests of {', '.join(sorted(ids))} take {seconds:.0f} s and pass without a change")

        def attempt(site: Site, mutant: Mutant) -> Tried:
            copy = copies.get()
            original = (project / site.file).read_text(encoding="utf-8")
            try:
                copy.put(site.file, mutant.text)
                ended, took, _ = copy.run(ids, limit_s)
            finally:
                copy.put(site.file, original)
                copies.put(copy)
            outcome = {"passed": "survived", "failed": "killed"}.get(ended, "killed by time")
            print(f"{outcome:9} {site.file}:{mutant.line} {site.name}: {mutant.what}: {mutant.before[:80]}", flush=True)
            return Tried(site.file, site.name, mutant.line, mutant.what, mutant.before, outcome, round(took, 1))

        return list(pool.map(lambda pair: attempt(*pair), work))


if __name__ == "__main__":
    sys.exit(main())
