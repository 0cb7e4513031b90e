"""Tests by requirement: run those that name an id (`pytest --req SEC-20`), record which ids a run showed.

`tools/conformance.py` asks for the record, `tools/mutation` for the selection.
"""

import json
from pathlib import Path

import pytest

WORST_FIRST = ("failed", "skipped", "passed")


def pytest_addoption(parser):
    parser.addoption("--record-requirements", metavar="FILE", help="write the outcome of every test with its ids")
    parser.addoption("--req", metavar="ID", action="append", help="run only the tests that name this requirement")


def pytest_configure(config):
    path = config.getoption("--record-requirements")
    if path:
        config.pluginmanager.register(RequirementRecorder(Path(path)))


def pytest_collection_modifyitems(config, items):
    wanted = set(config.getoption("--req") or ())
    if wanted:
        named = [item for item in items if wanted & requirements_of(item)]
        config.hook.pytest_deselected(items=[item for item in items if item not in named])
        items[:] = named


def requirements_of(item):
    """The ids in all `req` marks of a test."""
    return {requirement for mark in item.iter_markers("req") for requirement in mark.args}


class RequirementRecorder:
    """Writes `{test: {"ids": [...], "outcome": "passed"|"failed"|"skipped"}}` at the end of the run."""

    def __init__(self, path):
        self._path = path
        self._tests = {}

    def pytest_collection_modifyitems(self, items):
        for item in items:
            self._tests[item.nodeid] = {"ids": sorted(requirements_of(item)), "outcome": None}

    def pytest_runtest_logreport(self, report):
        # set-up, call and tear-down each report; the worst of them is the test's outcome
        test = self._tests[report.nodeid]
        seen = [outcome for outcome in (test["outcome"], report.outcome) if outcome]
        test["outcome"] = min(seen, key=WORST_FIRST.index)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self):
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(self._tests, indent=1) + "\n")
