"""Each fuzz target takes its seeds and some thousands of small changes to them; `python -m tests.fuzz` looks longer."""

import random

import pytest

from tests.fuzz.mutation import mutated
from tests.fuzz.targets import TARGETS, Target, run

TRIES = 2000
SLOW = {"edhoc-message-2": 60}  # P-256 in Python


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_only_expected_errors(target: Target) -> None:
    dice = random.Random(target.name)
    for _ in range(SLOW.get(target.name, TRIES)):
        data = mutated(dice.choice(target.seeds), dice)
        try:
            run(target, data)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
            pytest.fail(f"{type(error).__name__} for {data.hex()}: {error}")


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_finding_would_be_seen(target: Target) -> None:
    """The harness lets through what is not an expected error."""

    def broken(data: bytes) -> None:
        raise IndexError(len(data))

    with pytest.raises(IndexError):
        run(Target(target.name, broken, target.errors, target.seeds), target.seeds[0])
