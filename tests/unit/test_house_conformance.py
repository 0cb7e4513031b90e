"""The conformance table shows the tests and their results as they are."""

from dataclasses import replace
from pathlib import Path

import pytest

from tools import PROJECT, conformance


def ran(outcome, *ids):
    return {f"test_{outcome}_{ids[0]}": {"ids": list(ids), "outcome": outcome}}


@pytest.fixture
def rows():
    return conformance.load()


def test_the_list_is_complete_and_in_order(rows):
    assert [f"CPNS-GKM-{number:02}" for number in range(1, 93)] == [id for id in rows if id.startswith("CPNS")]
    assert [f"SEAL-GMK-{number:02}" for number in range(1, 49)] == [id for id in rows if id.startswith("SEAL")]
    assert [f"MC-GMK-{number:02}" for number in range(1, 23)] == [id for id in rows if id.startswith("MC")]
    assert [f"SEC-{number:02}" for number in range(1, 39)] == [id for id in rows if id.startswith("SEC")]


def test_the_gate_holds_every_shall_and_no_row_that_cannot_be_tested(rows):
    for row in rows.values():
        if row.id.startswith("CPNS") and row.level == "SHALL":
            assert row.gated, row.id
        if row.id.startswith(("SEAL", "MC")) and row.level.startswith("SHALL"):
            assert row.gated, row.id
        assert not (row.gated and (row.untestable or row.later)), row.id


def test_every_clause_and_decision_that_can_be_tested_is_named_by_a_test(rows):
    """Whatever its level: the gate of `make conformance` asks for the SHALLs only."""
    files = [path for path in (PROJECT / "tests").rglob("test_*.py") if path != Path(__file__)]
    text = "".join(path.read_text() for path in files)
    unnamed = [id for id in rows if f'"{id}"' not in text]
    assert [id for id in unnamed if not (rows[id].untestable or rows[id].later)] == []
    assert not any(f'"{id}"' in text for id in rows if rows[id].untestable)


def test_a_shall_without_a_test_is_missing(rows):
    assert rows["CPNS-GKM-23"].result == "missing"
    assert rows["CPNS-GKM-01"].result == "no test"
    assert rows["CPNS-GKM-32"].result == "not testable"
    assert replace(rows["SEC-30"], later="it is not built yet").result == "later"


def test_one_failure_outweighs_all_passes_and_a_skip_is_no_pass(rows):
    conformance.fill(rows, ran("passed", "CPNS-GKM-23", "CPNS-GKM-24"))
    conformance.fill(rows, ran("failed", "CPNS-GKM-24") | ran("skipped", "CPNS-GKM-25", "CPNS-GKM-01"))
    assert rows["CPNS-GKM-23"].result == "passed"
    assert rows["CPNS-GKM-24"].result == "failed"
    assert rows["CPNS-GKM-25"].result == "missing"
    assert rows["CPNS-GKM-01"].result == "skipped"


def test_a_test_that_never_ran_shows_nothing(rows):
    conformance.fill(rows, {"test_x": {"ids": ["CPNS-GKM-23"], "outcome": None}})
    assert rows["CPNS-GKM-23"].result == "missing"


def test_an_id_that_does_not_exist_is_noticed_and_a_question_is_none(rows):
    assert conformance.fill(rows, ran("passed", "CPNS-GKM-99", "Q-07")) == ["CPNS-GKM-99 (test_passed_CPNS-GKM-99)"]
