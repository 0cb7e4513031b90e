"""Record which requirement ids the tests of a run showed (`tools/conformance.py` asks for it)."""

import json
from pathlib import Path

import pytest

WORST_FIRST = ("failed", "skipped", "passed")


def pytest_addoption(parser):
    parser.addoption("--record-requirements", metavar="FILE", help="write the outcome of every test with its ids")


def pytest_configure(config):
    path = config.getoption("--record-requirements")
    if path:
        config.pluginmanager.register(RequirementRecorder(Path(path)))


class RequirementRecorder:
    """Writes `{test: {"ids": [...], "outcome": "passed"|"failed"|"skipped"}}` at the end of the run."""

    def __init__(self, path):
        self._path = path
        self._tests = {}

    def pytest_collection_modifyitems(self, items):
        for item in items:
            ids = sorted({requirement for mark in item.iter_markers("req") for requirement in mark.args})
            self._tests[item.nodeid] = {"ids": ids, "outcome": None}

    def pytest_runtest_logreport(self, report):
        # set-up, call and tear-down each report; the worst of them is the test's outcome
        test = self._tests[report.nodeid]
        seen = [outcome for outcome in (test["outcome"], report.outcome) if outcome]
        test["outcome"] = min(seen, key=WORST_FIRST.index)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self):
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(self._tests, indent=1) + "\n")
