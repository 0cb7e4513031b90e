"""`python -m tests.fuzz TARGET [--seconds N]`: look for octets that a parser does not expect.

Where atheris is installed (x86-64) it is guided by coverage. Elsewhere it makes small changes to good inputs: in the
first half of the time it watches them run, and changes those further that take new ways through the code; in the second
half they run unwatched, several times as fast. A finding is printed as hexadecimal text and ends the run with exit code
1.
"""

import random
import sys
import time
from collections.abc import Callable
from typing import Annotated

import typer

from tests.fuzz.corpus import Corpus
from tests.fuzz.target import Target, run
from tests.fuzz.targets import TARGETS


def main(
    name: Annotated[str, typer.Argument(help=f"One of: {', '.join(target.name for target in TARGETS)}; or all.")],
    seconds: Annotated[int, typer.Option(min=1, help="How long to look, for each target.")] = 60,
) -> None:
    """Fuzz one parser, or all one after another. Example: python -m tests.fuzz coap --seconds 300"""
    chosen = [target for target in TARGETS if name in (target.name, "all")]
    if not chosen:
        raise typer.BadParameter(f"no target {name!r}")
    if len(chosen) == 1 and _guided(chosen[0], seconds):
        return
    for target in chosen:
        tries, ways = _by_mutation(target, seconds)
        typer.echo(f"{target.name}: {tries:,} inputs, {ways:,} went new ways, nothing found")


def _guided(target: Target, seconds: int) -> bool:
    """Run atheris; it ends the process itself. False where it is not installed."""
    try:
        import atheris
    except ImportError:
        return False
    atheris.instrument_all()
    atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", "-max_len=2048"], lambda data: run(target, data))
    atheris.Fuzz()
    return True


def _by_mutation(target: Target, seconds: int) -> tuple[int, int]:
    """Returns how many inputs were tried, and how many of them went new ways."""
    corpus = Corpus(target, random.Random())
    begun = time.monotonic()
    tries = 0

    def attempt(work: Callable[[bytes], object], data: bytes) -> None:
        nonlocal tries
        tries += 1
        try:
            work(data)
        except Exception:
            typer.echo(f"{target.name}: {data.hex()}")
            raise

    for seed in target.seeds:
        attempt(corpus.learn, seed)
    while time.monotonic() < begun + seconds / 2:
        attempt(corpus.learn, corpus.next())
    while time.monotonic() < begun + seconds:
        attempt(lambda data: run(target, data), corpus.next())
    return tries, len(corpus.inputs)


typer.run(main)
