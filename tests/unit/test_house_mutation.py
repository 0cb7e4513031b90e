"""The mutation tool finds the functions that name a decision, and changes what a test can see, one place at a time."""

import ast

import pytest

from tools.mutation import operators, sites

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
