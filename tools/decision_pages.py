"""Write docs/decisions.md: each security decision with the functions that implement it and the tests that show it.

`python -m tools.decision_pages` writes the page from tests/requirements.toml, the ids in the code and the marks of the
tests; a test fails when the page is out of date.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from tools import PROJECT, conformance
from tools.mutation import sites

PAGE = PROJECT / "docs" / "decisions.md"
_HEAD = """# Security decisions

Made from tests/requirements.toml, the ids in the code and the marks of the tests by `python -m tools.decision_pages`;
do not edit. `pytest --req ID` runs the tests of one decision. `python -m tools.mutation ID` changes its code, one place
at a time, and reports the changes that no test notices. `make conformance` prints the outcomes for all decisions.

The level says what a decision prevents: C, a break of exclusion or of the secrecy of a key; H, a permanent loss of
authenticity, state or availability; M, a fault that is temporary or needs luck.
"""


Marked = dict[str, dict[str, list[str]]]  # id -> test file -> tests


def page(shown_by: Marked, project: Path = PROJECT) -> str:
    """Return the text of docs/decisions.md for the checkout in `project`, where `marked` finds `shown_by`."""
    rows = [row for row in conformance.load().values() if sites.ID.fullmatch(row.id)]
    lines = [_HEAD, "| Decision | Level | What holds |", "|---|---|---|"]
    for row in rows:
        lines.append(f"| [{row.id}](#{row.id.lower()}) | {row.level} | {row.text}{_note(row)} |")
    for row in rows:
        lines += ["", f"## {row.id}", "", f"{row.text}."]
        if row.later:
            lines += ["", f"Open: {row.later}."]
        lines += ["", "In the code:", "", *_list(_places(project, row.id), "nothing yet")]
        lines += ["", "Shown by:", "", *_list(shown_by.get(row.id, {}), "no test yet")]
    return "\n".join(lines) + "\n"


def marked(project: Path) -> Marked:
    """Return id -> test file -> the tests there that carry the id in a `req` mark, in their order."""
    found: Marked = defaultdict(lambda: defaultdict(list))
    for path in sorted((project / "tests").rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        for node in _definitions(ast.parse(text).body if "req(" in text else ()):
            for id in _ids(node.decorator_list):
                found[id][path.relative_to(project).as_posix()].append(node.name)
    return found


def main() -> None:
    """Write the page into the checkout."""
    PAGE.write_text(page(marked(PROJECT)), encoding="utf-8")


def _definitions(body: Iterable[ast.stmt]) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """Yield the functions and classes of a module, and those within its classes."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node
        if isinstance(node, ast.ClassDef):
            yield from _definitions(node.body)


def _ids(decorators: list[ast.expr]) -> Iterator[str]:
    for decorator in decorators:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func).split(".")[-1] == "req":
            yield from (str(ast.literal_eval(argument)) for argument in decorator.args)


def _places(project: Path, id: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for file, name in sites.scopes(project, {id}):
        found[file].append(name)
    return found


def _list(names_by_file: dict[str, list[str]], nothing: str) -> Iterator[str]:
    if not names_by_file:
        yield f"* {nothing}"
    for file, names in names_by_file.items():
        inside = ", ".join(f"`{name}`" for name in dict.fromkeys(names) if name)
        yield f"* [{file}](../{file}){f': {inside}' if inside else ''}"


def _note(row: conformance.Requirement) -> str:
    return " (in part)" if row.later else ""


if __name__ == "__main__":
    main()
