"""Tests by requirement: run those that name an id (`pytest --req SEC-20`), record which ids a run showed.

Asynchronous tests run in virtual time unless they are marked `real_time`. `--without-long` leaves out those that are
marked `long`.

`tools/conformance.py` reads the record, `tools/mutation` uses the selection. A run of all tests says at its start how
long it takes.
"""

import asyncio
import gc
import json
import signal
import time
from pathlib import Path

import hypothesis
import pytest

from tests.virtual_time import VirtualTimeLoop

WORST_FIRST = ("failed", "skipped", "passed")
USUAL_MIN = {"all tests": 12, "all tests that are not long": 7}
SECONDS_OF_WHOLE_RUNS = "keycast/seconds_of_whole_runs"  # in pytest's cache: by what was run
REQUIREMENTS = "requirements"  # of each report: the ids of its test
BEGUN_AT = pytest.StashKey()

# No property is about the speed of the machine. A property without a number of its own is tried with so many examples.
GARBAGE = 20_000, 20, 20  # more than Python's 700, 10, 10, as what stands is searched after each file anyway
EXAMPLES = {"all tests": 100, "all tests that are not long": 40}
for name, examples in EXAMPLES.items():
    hypothesis.settings.register_profile(
        name, max_examples=examples, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
hypothesis.settings.load_profile("all tests")


def pytest_addoption(parser):
    parser.addoption("--record-requirements", metavar="FILE", help="write the outcome of every test with its ids")
    parser.addoption("--shards", action="store_true", help="run on all processors, each process in its own network")
    parser.addoption("--per-processor", metavar="N", type=int, default=4, help="so many shards on each processor (4)")
    parser.addoption("--without-long", action="store_true", help="leave out the tests that are marked `long`")
    parser.addoption("--req", metavar="ID", action="append", help="run only the tests that name this requirement")


def is_shard(config):
    """Whether this process was started by another one to run a part of the tests."""
    return hasattr(config, "workerinput")


def pytest_report_header(config):
    if not is_whole(config):
        return None
    seconds = config.cache.get(SECONDS_OF_WHOLE_RUNS, {}).get(which(config))
    if seconds is None:
        return f"{which(config)}: about {USUAL_MIN[which(config)]} min on a machine with two cores"
    return f"{which(config)}: the last whole run took {seconds // 60} min {seconds % 60} s here"


def which(config):
    """Which tests a whole run has."""
    return "all tests that are not long" if config.getoption("without_long") else "all tests"


def is_whole(config):
    """Whether all tests are asked for, to their end, and pytest's cache is there to keep how long that took."""
    if is_shard(config) or not config.pluginmanager.has_plugin("cacheprovider"):
        return False
    options = ("keyword", "markexpr", "req", "maxfail", "lf", "collectonly")
    return config.args == config.getini("testpaths") and not any(config.getoption(name) for name in options)


def let_ctrl_c_end_what_tests_start():
    """As in a terminal: a shell that runs this in the background (`&`, nohup) leaves SIGINT ignored, and programs
    inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionstart(session):
    session.config.stash[BEGUN_AT] = time.monotonic()


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Collect no garbage among what the tests are made of, which stays: neither now nor while they run."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GARBAGE)
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item, nextitem):
    """Nor among what the tests of the files before have left: a board's code collects garbage hundreds of times."""
    result = yield
    if nextitem is None or nextitem.path != item.path:
        gc.collect()
        gc.freeze()
    return result


def pytest_sessionfinish(session, exitstatus):
    if is_whole(session.config) and exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        seconds = round(time.monotonic() - session.config.stash[BEGUN_AT])
        known = session.config.cache.get(SECONDS_OF_WHOLE_RUNS, {})
        session.config.cache.set(SECONDS_OF_WHOLE_RUNS, {**known, which(session.config): seconds})


def pytest_configure(config):
    let_ctrl_c_end_what_tests_start()
    hypothesis.settings.load_profile(which(config))
    if config.getoption("--shards"):
        from tests import shards  # needs what one process alone does not

        config.pluginmanager.register(shards.plugin(config))
    path = config.getoption("--record-requirements")
    if path and not is_shard(config):
        config.pluginmanager.register(RequirementRecorder(Path(path)))


def pytest_asyncio_loop_factories(item):
    real = item.get_closest_marker("real_time")
    return {"real time": asyncio.SelectorEventLoop} if real else {"virtual time": VirtualTimeLoop}


def pytest_collection_modifyitems(config, items):
    wanted = set(config.getoption("--req") or ())
    if wanted:
        leave_out(config, items, lambda item: not wanted & requirements_of(item))
    if config.getoption("--without-long"):
        leave_out(config, items, lambda item: item.get_closest_marker("long"))
    for item in items:
        item.user_properties.append((REQUIREMENTS, sorted(requirements_of(item))))


def leave_out(config, items, is_left_out):
    """Remove the tests for which `is_left_out` is true from `items`, and have pytest count them as deselected."""
    kept, left_out = [], []
    for item in items:
        (left_out if is_left_out(item) else kept).append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = kept


def requirements_of(item):
    """The ids in all `req` marks of a test."""
    return {requirement for mark in item.iter_markers("req") for requirement in mark.args}


class RequirementRecorder:
    """Writes `{test: {"ids": [...], "outcome": "passed"|"failed"|"skipped"}}` at the end of the run."""

    def __init__(self, path):
        self._path = path
        self._tests = {}

    def pytest_runtest_logreport(self, report):
        # set-up, call and tear-down each report; the worst of them is the test's outcome
        ids = dict(report.user_properties).get(REQUIREMENTS, [])  # none of a shard that broke down
        test = self._tests.setdefault(report.nodeid, {"ids": ids, "outcome": report.outcome})
        test["outcome"] = min(test["outcome"], report.outcome, key=WORST_FIRST.index)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self):
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(self._tests, indent=1) + "\n")
