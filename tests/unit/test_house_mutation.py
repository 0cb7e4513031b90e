"""The mutation tool finds the functions that name a decision, and changes what a test can see, one place at a time."""

import ast
import shutil
import subprocess

import pytest

from tools import PROJECT
from tools.mutation import operators, sites
from tools.mutation.trial import Copy

SOURCE = '''"""A door (SEC-90)."""

LIMIT = 4


def unrelated(x):
    if x:
        return 1


class Door:
    def open(self, knocks):
        """Opens once (SEC-91)."""
        if knocks > LIMIT and self.closed:
            raise ValueError("too many")
        self.opened = True
        self.counters.count("opened")
        self.tell(knocks)
        return True

    def close(self):
        # all of it (SEC-91)
        del self.opened
'''


@pytest.fixture
def project(tmp_path):
    for package in sites.PACKAGES:
        (tmp_path / package).mkdir()
    (tmp_path / "cpns" / "door.py").write_text(SOURCE)
    return tmp_path


def test_a_decision_named_in_a_function_is_mutated_there(project):
    assert [site.name for site in sites.of(project, {"SEC-91"})] == ["Door.open", "Door.close"]


def test_a_decision_named_by_the_module_alone_stands_for_all_its_functions(project):
    assert [site.name for site in sites.of(project, {"SEC-90"})] == ["unrelated", "Door.open", "Door.close"]
    assert sites.of(project, {"SEC-92"}) == []


def test_a_place_can_be_named(project):
    assert [site.name for site in sites.named(project, "cpns/door.py::Door")] == ["Door.open", "Door.close"]
    with pytest.raises(ValueError, match="no function Gate"):
        sites.named(project, "cpns/door.py::Gate")
    with pytest.raises(ValueError, match="no file"):
        sites.named(project, "cpns/gate.py")


def test_each_mutant_is_python_and_differs_in_its_place_only(project):
    (site, _) = sites.of(project, {"SEC-91"})
    found = list(operators.mutants(SOURCE, site.first, site.last))
    assert {(mutant.line, mutant.what) for mutant in found} == {
        (14, "condition turned around"),
        (14, "or instead"),
        (14, ">= instead"),
        (15, "raise left out"),
        (16, "assignment left out"),
        (18, "call left out"),  # of tell; count only tells
        (19, "the other truth value"),
    }
    for mutant in found:
        ast.parse(mutant.text)
        changed = [line for line, old in zip(mutant.text.splitlines(), SOURCE.splitlines(), strict=True) if line != old]
        assert len(changed) == 1


REACHED = """
import subprocess
import sys
import threading

import pytest

from cpns import door


@pytest.fixture(scope="module")
def opened():
    opened = door.Door()
    opened.closed = True
    return opened


@pytest.mark.req("SEC-91")
def test_refuses(opened):
    with pytest.raises(ValueError):
        opened.open(5)


@pytest.mark.req("SEC-91")
def test_elsewhere():
    thread = threading.Thread(target=door.unrelated, args=(0,))
    thread.start()
    thread.join()


@pytest.mark.req("SEC-91")
def test_in_a_process():
    subprocess.run([sys.executable, "-c", ""], check=True)


@pytest.mark.req("SEC-90")
def test_of_another_decision():
    raise AssertionError
"""


@pytest.fixture
def copy(project, tmp_path):
    (project / "tests").mkdir()
    for name in ("conftest.py", "virtual_time.py"):
        shutil.copy(PROJECT / "tests" / name, project / "tests" / name)
    (project / "pytest.ini").write_text("[pytest]\naddopts = -p no:schemathesis\n")  # as pyproject.toml has it
    (project / "tests" / "test_door.py").write_text(REACHED)
    (project / "tests" / "system").mkdir()
    (project / "tests" / "system" / "test_door_slowly.py").write_text("raise SystemExit(1)  # SEC-91\n")
    subprocess.run(["git", "init", "-q", project], check=True)
    for name in (".venv", ".cache"):
        (project / name).mkdir()
    return Copy(project, tmp_path / "copy")


def test_a_mutant_is_tried_by_the_tests_that_run_its_lines_and_by_those_that_start_a_process(project, copy):
    shutil.copytree(PROJECT / "tools", copy.folder / "tools", dirs_exist_ok=True)
    places = [*sites.of(project, {"SEC-91"}), *sites.named(project, "cpns/door.py::unrelated")]
    tests = copy.survey({"SEC-91"}, places, ["tests/system"])
    assert len(tests) == 3
    changes = {(one.line, one.what): one for site in places for one in operators.mutants(SOURCE, site.first, site.last)}

    def seeing(line, what):
        return {test.name.partition("::")[2] for test in tests if test.reaches("cpns/door.py", changes[line, what])}

    assert seeing(15, "raise left out") == {"test_refuses", "test_in_a_process"}
    assert seeing(16, "assignment left out") == {"test_in_a_process"}
    assert seeing(7, "condition turned around") == {"test_elsewhere", "test_in_a_process"}
    copy.put("cpns/door.py", changes[15, "raise left out"].text)
    assert copy.run(tests)[0] == "failed"
    assert copy.run([test for test in tests if test.name.endswith("elsewhere")])[0] == "passed"


def test_tests_that_fail_without_a_change_are_no_measure(project, copy):
    shutil.copytree(PROJECT / "tools", copy.folder / "tools", dirs_exist_ok=True)
    with pytest.raises(ValueError, match="without any change: failed"):
        copy.survey({"SEC-90"}, sites.of(project, {"SEC-90"}), ["tests/system"])
    with pytest.raises(ValueError, match="no test file names SEC-92"):
        copy.survey({"SEC-92"}, [], ["tests/system"])
