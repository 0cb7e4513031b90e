"""A board's parsers give the same verdict on both Pythons, so findings of the fuzzer on CPython hold on boards."""

import os
import random
import subprocess
from pathlib import Path

import pytest

from keycast.micropython_vm import vm
from tests.fuzz.corpus import Corpus
from tests.fuzz.portable_parsers import PARSERS, verdict
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS
from tests.waiting import PATIENCE_S
from tools import PROJECT

HERE = Path(__file__).parent
GUIDED = 1500  # inputs watched, to find those that go new ways
CHANGED = 300  # small changes to those
HEAP_KIB = 4096  # sources, not .mpy; what a parser may take is tested elsewhere
LIMIT_S = PATIENCE_S


def inputs(target: Target) -> list[bytes]:
    corpus = Corpus(target, random.Random(target.name))
    for seed in target.seeds:
        corpus.learn(seed)
    for _ in range(GUIDED):
        corpus.learn(corpus.next())
    return corpus.inputs + [corpus.next() for _ in range(CHANGED)]


@pytest.mark.parametrize("target", [target for target in TARGETS if target.name in PARSERS], ids=lambda it: it.name)
def test_both_pythons_judge_alike(target: Target) -> None:
    tried = inputs(target)
    lines = "".join(f"{target.name} {data.hex()}\n" for data in tried)
    run = subprocess.run(
        vm.ensure().command(str(HERE / "portable_parsers.py"), heap_kib=HEAP_KIB),
        cwd=PROJECT,
        env={**os.environ, "MICROPYPATH": f"{PROJECT}:.frozen"},
        input=lines,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert run.returncode == 0, run.stdout[-500:] + run.stderr
    there = run.stdout.split()
    assert len(there) == len(tried)
    here = [verdict(target.name, data) for data in tried]
    assert len(set(here)) > 1 or target.name == "coap-endpoint", "nothing was told apart"
    differences = [
        (data.hex(), ours, theirs) for data, ours, theirs in zip(tried, here, there, strict=True) if ours != theirs
    ]
    assert not differences, differences[:5]
