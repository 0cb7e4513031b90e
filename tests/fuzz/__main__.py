"""`python -m tests.fuzz TARGET [--seconds N]`: look for octets that a parser does not expect.

Coverage-guided by atheris where it is installed (x86-64), by small changes to good inputs elsewhere. A finding is
printed as hexadecimal text and ends the run with exit code 1.
"""

import random
import sys
import time
from typing import Annotated

import typer

from tests.fuzz.mutation import mutated
from tests.fuzz.targets import TARGETS, Target, run


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
        tries = _by_mutation(target, seconds)
        typer.echo(f"{target.name}: {tries:,} inputs, nothing found")


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


def _by_mutation(target: Target, seconds: int) -> int:
    dice = random.Random()
    pool = list(target.seeds)
    ends = time.monotonic() + seconds
    tries = 0
    while time.monotonic() < ends:
        data = mutated(dice.choice(pool), dice)
        try:
            run(target, data)
        except Exception:
            typer.echo(f"{target.name}: {data.hex()}")
            raise
        tries += 1
        if len(pool) < 256 and tries % 97 == 0:
            pool.append(data)
    return tries


typer.run(main)
