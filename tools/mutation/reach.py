"""A pytest plugin that records for each test which lines to be mutated it runs, its processes, and its seconds.

    pytest -p tools.mutation.reach --reach FILE

FILE holds `{"places": [[file, first line, last line], ..]}` and afterwards `"tests"` as well:
`{node id: {"lines": {file: [line, ..]}, "process": bool, "seconds": s}}`. Lines that the collection runs, or a fixture
of a module or wider, count for every test of the run, as they run once for all. A process that the collection starts
(ctypes looks for libraries with one) runs no code of ours.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

_STARTS_A_PROCESS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--reach", metavar="FILE", help="record which lines each test runs")


def pytest_configure(config: pytest.Config) -> None:
    if path := config.getoption("--reach"):
        config.pluginmanager.register(_Reach(Path(path), config.rootpath))


class _Reach:
    def __init__(self, path: Path, root: Path) -> None:
        self._path = path
        self._places: dict[str, list[tuple[int, int]]] = {}
        for file, first, last in json.loads(path.read_text())["places"]:
            self._places.setdefault(str(root / file), []).append((first, last))
        self._root = root
        self._watched: dict[CodeType, bool] = {}
        self._collected, self._shared = _Seen(), _Seen()
        self._tests: dict[str, _Seen] = {}
        self._now = self._collected
        sys.addaudithook(self._heard)
        threading.settrace(self._entered)
        sys.settrace(self._entered)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._now = self._tests.setdefault(item.nodeid, _Seen())
        try:
            return (yield)
        finally:
            self._now = self._collected

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Iterator[None]:
        before = self._now
        if fixturedef.scope != "function":
            self._now = self._shared
        try:
            return (yield)
        finally:
            self._now = before

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._tests[report.nodeid].seconds += report.duration

    def pytest_sessionfinish(self) -> None:
        sys.settrace(None)
        threading.settrace(None)
        tests = {}
        for name, seen in self._tests.items():
            lines: dict[str, list[int]] = {}
            for file, line in sorted(seen.lines | self._shared.lines | self._collected.lines):
                lines.setdefault(Path(file).relative_to(self._root).as_posix(), []).append(line)
            process = seen.process or self._shared.process
            tests[name] = {"lines": lines, "process": process, "seconds": round(seen.seconds, 3)}
        self._path.write_text(json.dumps({"tests": tests}, indent=1) + "\n")

    def _heard(self, event: str, _: tuple[Any, ...]) -> None:
        if event in _STARTS_A_PROCESS:
            self._now.process = True

    def _entered(self, frame: FrameType, event: str, arg: Any) -> Callable[..., Any] | None:
        code = frame.f_code
        watched = self._watched.get(code)
        if watched is None:
            around = self._places.get(code.co_filename, [])
            watched = any(first <= code.co_firstlineno <= last for first, last in around)
            self._watched[code] = watched
        return self._ran if watched else None

    def _ran(self, frame: FrameType, event: str, arg: Any) -> Callable[..., Any]:
        if event == "line":
            self._now.lines.add((frame.f_code.co_filename, frame.f_lineno))
        return self._ran


class _Seen:
    def __init__(self) -> None:
        self.lines: set[tuple[str, int]] = set()
        self.process = False
        self.seconds = 0.0
