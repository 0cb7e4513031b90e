"""docs/decisions.md says where each security decision is implemented and shown, as the code and the tests stand now."""

import pytest

from tools import PROJECT, conformance, decision_pages
from tools.mutation import sites


@pytest.fixture(scope="module", autouse=True)
def _files_are_forgotten():
    yield
    sites.forget_files()


@pytest.fixture(scope="module")
def shown():
    return decision_pages.marked(PROJECT)


def test_the_page_is_as_the_code_and_the_tests_are(shown):
    assert decision_pages.PAGE.read_text() == decision_pages.page(shown), "run `python -m tools.decision_pages`"


def test_every_decision_of_the_gate_is_named_in_the_code_and_by_a_test(shown):
    for row in conformance.load().values():
        if sites.ID.fullmatch(row.id) and row.gated:
            assert sites.of(PROJECT, {row.id}), f"{row.id}: no function of the product names it"
            assert shown.get(row.id), f"{row.id}: no test names it"
