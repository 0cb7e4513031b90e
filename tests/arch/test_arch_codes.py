"""Every warning and every error of the product has a code of its own."""

import ast
import re
from collections import Counter

from tests.arch.test_arch_imports import none_of, place, relative, trees

ON_LINUX = (
    "gateway_agent/",
    "http_door/",
    "key_servers/",
    "keycast/",
    "message_plane/",
    "mikey_sakke/",
    "private_store/",
)
ELSEWHERE = ("keycast/on_board/", "keycast/board/on_board/")  # no logging there
LEVELS = {"warning", "error", "exception", "critical"}
CODE = re.compile(r"KC\d{4}")


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
