"""docs/boards.md tells errors by their exact words: each of them is one that the product says."""

import ast
import functools
import re
from pathlib import Path

import pytest

from tools import PROJECT

SECTION = "## When something is in the way"
SAYING = (
    *sorted((PROJECT / "keycast" / "board").glob("*.py")),
    *sorted((PROJECT / "keycast" / "commands" / "board").glob("*.py")),
    PROJECT / "message_plane" / "binding.py",
    PROJECT / "gateway_agent" / "control_client.py",
    PROJECT / "micropython" / "status_lines.py",
)


def sentences(source: Path) -> set[str]:
    """The texts of a module, with … for what is put into them."""
    found = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.JoinedStr):
            found.add("".join(str(each.value) if isinstance(each, ast.Constant) else "…" for each in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return found


@functools.cache
def said() -> frozenset[str]:
    """What all of them say."""
    return frozenset().union(*map(sentences, SAYING))


def rows() -> list[str]:
    _, _, section = (PROJECT / "docs" / "boards.md").read_text().partition(SECTION)
    return re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)


@pytest.mark.parametrize("words", rows())
def test_what_the_page_quotes_is_what_a_person_reads(words: str) -> None:
    known = [text for text in said() if len(text) > 3]
    # The beginning of some sentences comes from a table, so the words may be spread over two texts of one module
    assert any(words in text for text in known) or any(
        words.startswith(begin) and any(words.removeprefix(begin).lstrip(" …:") in text for text in known)
        for begin in known
    ), words
