"""Each fuzz target accepts its seeds and some thousands of small changes; `python -m tests.fuzz` looks longer."""

import random

import pytest

from tests.fuzz.corpus import Corpus
from tests.fuzz.mutation import mutated
from tests.fuzz.target import Target, run
from tests.fuzz.targets import TARGETS

TRIES = 2000
SLOW = {
    "edhoc-message-2": 60,  # P-256 in Python
    "edhoc-message-3": 500,
    "mikey-key-file": 200,
    "hardware-file": 500,
    "master-secrets": 500,
}


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_only_expected_errors(target: Target) -> None:
    dice = random.Random(target.name)
    changed = (mutated(dice.choice(target.seeds), dice) for _ in range(SLOW.get(target.name, TRIES)))
    for data in (*target.seeds, *changed):
        try:
            run(target, data)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
            pytest.fail(f"{type(error).__name__} for {data[:500].hex()}: {error}")


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_finding_would_be_seen(target: Target) -> None:
    """The harness lets through what is not an expected error."""

    class Finding(Exception):
        pass

    def broken(data: bytes) -> None:
        raise Finding

    with pytest.raises(Finding):
        run(Target(target.name, broken, target.errors, target.seeds), target.seeds[0])


def test_the_fuzzer_keeps_what_goes_a_new_way_and_nothing_else() -> None:
    corpus = Corpus(next(target for target in TARGETS if target.name == "cbor"), random.Random(1))
    assert corpus.learn(b"\x01")
    assert not corpus.learn(b"\x02")  # another number, the same way
    assert corpus.learn(b"\x61a")  # text
    assert not corpus.learn(b"\x61b")
    assert corpus.learn(b"\x61\xff")  # refused at another place
    assert corpus.inputs == [b"\x01", b"\x61a", b"\x61\xff"]
    for _ in range(2000):
        corpus.learn(corpus.next())
    assert len(corpus.inputs) > 15  # arrays, maps, tags and their faults, found from two numbers and a letter
