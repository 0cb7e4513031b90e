"""Each fault of a board is on docs/boards.md by its exact words, and has a next step."""

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from keycast.board import faults
from keycast.board.faults import BoardFault
from tools import PROJECT

PAGE = (PROJECT / "docs" / "boards.md").read_text(encoding="utf-8")
ROWS = [".*".join(map(re.escape, row.split("…"))) for row in re.findall(r"^\| `([^`]+)` \| .+ \|$", PAGE, re.MULTILINE)]
ANY = {"str": "x", "int": 2**20, "float": 3.0, "bool": True, "Path": Path("fw.bin"), "int | None": 2**20}
KINDS = (
    faults.NoPort, faults.PortForbidden, faults.PortTaken, faults.ImageUnusable, faults.ImageUnfit, faults.LoaderFault,
    faults.FilesNotCopied,
)  # fmt: skip


def every() -> list[BoardFault]:
    """Each fault, with any words and numbers in it."""
    found = []
    for kind in KINDS:
        for name, make in inspect.getmembers(kind, inspect.ismethod):
            if name in vars(kind):
                parameters = inspect.signature(make).parameters.values()
                found.append(make(*(value(str(each.annotation)) for each in parameters)))
    return found


def value(annotation: str) -> Any:
    annotation = annotation.removeprefix("<class '").removesuffix("'>").rpartition(".")[2] or annotation
    if "Sequence" in annotation or annotation.endswith("]"):
        return [(1, "minicom")] if "tuple" in annotation else ["lamp"]
    return ANY.get(annotation, "x")


FAULTS = [*every(), faults.PortTaken.by("x", [(1, "minicom")]), faults.PortTaken.by("x", [])]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what[:40])
def test_a_fault_is_on_the_page_by_its_words_and_has_a_next_step(fault: BoardFault) -> None:
    assert any(re.search(row, fault.what) for row in ROWS), fault.what
    assert fault.next_step and str(fault) == f"{fault.what} {fault.next_step}"
