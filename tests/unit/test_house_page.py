"""docs/house.md names files and functions as the code has them now."""

import ast
import re

from tools import PROJECT

PAGE = (PROJECT / "docs" / "house.md").read_text()
_STEP = re.compile(r"^\| `([\w/]+\.py)` \| .* \| `([\w.]+)` \|$", re.MULTILINE)


def defined(path):
    """The functions and classes of a module, those of classes as `Class.method`."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        if isinstance(node, ast.ClassDef):
            yield from (f"{node.name}.{each.name}" for each in node.body if hasattr(each, "name"))


def test_every_step_of_the_way_of_a_key_is_a_function_of_its_module():
    steps = _STEP.findall(PAGE)
    assert len(steps) > 10
    assert [(file, name) for file, name in steps if name not in defined(PROJECT / file)] == []


def test_every_file_that_the_page_names_exists():
    named = set(re.findall(r"`((?:[a-z_]+/)+(?:\w+\.py)?)`", PAGE))
    assert len(named) > 30
    assert [each for each in sorted(named) if not (PROJECT / each).exists()] == []
