"""Every warning and every error of the product has a code of its own, and each code has its paragraph in the docs."""

import ast
import re
from collections import Counter

from tests.arch.test_arch_imports import PROJECT, none_of, place, relative, trees

ON_LINUX = (
    "gateway_agent/",
    "http_door/",
    "key_servers/",
    "keycast/",
    "message_plane/",
    "mikey_sakke/",
    "suit/",
    "private_store/",
)
ELSEWHERE = ("keycast/on_board/", "keycast/board/on_board/")  # no logging there
LEVELS = {"warning", "error", "exception", "critical"}
CODE = re.compile(r"KC\d{4}")
HEADING = re.compile(r"^### (KC\d{4}(?:, KC\d{4})*)$", re.MULTILINE)


def product():
    for path, tree in trees().items():
        if relative(path).startswith(ON_LINUX) and not relative(path).startswith(ELSEWHERE):
            yield path, tree


def is_coded(text):
    """Whether a format begins with a code: a literal one, or one of a table that is named CODES or a function's."""
    if isinstance(text, ast.Constant):
        return isinstance(text.value, str) and re.match(r"KC\d{4} \S", text.value) is not None
    if isinstance(text, ast.JoinedStr):
        code, *rest = text.values
        from_table = isinstance(code, ast.FormattedValue) and "code" in ast.unparse(code.value).lower()
        return from_table and all(isinstance(each, ast.Constant) for each in rest)
    return False


def test_every_warning_and_error_begins_with_its_code():
    none_of(lines_without_a_code())


def lines_without_a_code():
    for path, tree in product():
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
                continue
            if node.func.attr == "log" and ast.unparse(node.func.value).endswith(("_log", "logger", "logging")):
                yield f"{place(path, node)}: name the level in the code, as in warning(...), which has a code then"
            if node.func.attr in LEVELS and not is_coded(node.args[0]):
                yield f'{place(path, node)}: write the code first, as in {node.func.attr}("KC1234 ...", ...)'


def codes():
    """Every code of the source with its place, in the order of the files."""
    for path, tree in product():
        nodes = list(ast.walk(tree))
        prose = {node.value for node in nodes if isinstance(node, ast.Expr)}  # docstrings may name a code
        for node in nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in prose:
                for code in CODE.findall(node.value):
                    yield code, place(path, node)


def test_a_code_stands_at_one_place_of_the_source():
    found = list(codes())
    times = Counter(code for code, _ in found)
    assert len(times) > 60  # else this reads the wrong files
    none_of(f"{where}: {code} is of another line, too" for code, where in found if times[code] > 1)


def test_every_code_has_its_paragraph_and_every_paragraph_its_code():
    page = (PROJECT / "docs" / "troubleshooting.md").read_text()
    told = Counter(code for heading in HEADING.findall(page) for code in CODE.findall(heading))
    here = dict(codes())
    none_of(
        [f"{here[code]}: docs/troubleshooting.md has no paragraph ### {code}" for code in here.keys() - told.keys()]
        + [f"docs/troubleshooting.md: nothing says {code} any more" for code in told.keys() - here.keys()]
        + [f"docs/troubleshooting.md: {code} has two paragraphs" for code, times in told.items() if times > 1]
    )


def test_a_paragraph_quotes_the_line_as_it_is():
    none_of(lines_that_are_not_quoted())


def lines_that_are_not_quoted():
    parts = HEADING.split((PROJECT / "docs" / "troubleshooting.md").read_text())
    told = {
        code: " ".join(text.split())
        for codes, text in zip(parts[1::2], parts[2::2], strict=True)
        for code in CODE.findall(codes)
    }
    for path, tree in product():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.match(r"KC\d{4} ", node.value):
                fixed = [part.strip(" ;:.,'\"") for part in re.split(r"%[a-z]", node.value[7:])]
                for part in fixed:
                    if len(part) > 12 and part not in told.get(node.value[:6], ""):
                        yield f"{place(path, node)}: docs/troubleshooting.md lacks {part!r} below {node.value[:6]}"
