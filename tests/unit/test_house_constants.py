"""The files of a board: the sources with their constants written out."""

import ast

from keycast.micropython_vm import board_files, compile, constants
from tools import board_manifest

NUMBERS = 'LIMIT = 4\nLONG = 30 * 86400 * 1000\nNAME = "prov"\n'


def folded(text, **others):
    sources = {"a.py": text, "cpns/numbers.py": NUMBERS, **{f"{name}.py": other for name, other in others.items()}}
    return constants.fold(sources)["a.py"]


def test_constants_of_other_modules_are_written_out_and_their_imports_go():
    text = "from cpns import numbers as n\nfrom cpns.numbers import NAME\n\ndef f(x=n.LIMIT): return x, NAME, n.LONG\n"
    assert folded(text) == "\n\n\ndef f(x=(4)): return x, ('prov'), (2592000000)\n"


def test_imports_inside_of_functions_go_too():
    text = "def f():\n    from cpns.numbers import NAME\n\n    from b import LIMIT, g\n    return NAME, LIMIT, g\n"
    want = "def f():\n    pass\n\n    from b import g\n    return ('prov'), (4), g\n"
    assert folded(text, b="LIMIT = 4\ndef g(): pass\n") == want


def test_own_constants_are_written_out_and_dropped_unless_they_are_to_be_kept():
    text = "_TAG = 3  # octets\nA, B = _TAG + 1, (\n    1 << 5)\n\ndef f():\n    return -A, B.bit_length\n"
    want = "\n\n\n\ndef f():\n    return -(4), (32).bit_length\n"
    assert folded(text).partition("octets")[2] == want
    kept = constants.fold({"a.py": text}, keep=True)["a.py"]
    assert kept.startswith("_TAG = 3  # octets\nA, B = (3) + 1, (\n    1 << 5)\n") and kept.endswith(want[3:])


def test_octets_made_of_constants_are_a_literal():
    text = "from cpns import numbers as n\nA = 2\nR = bytes((A, n.LIMIT) + (A | 8,))\n"
    text += "S = bytes((A, 256)), bytes((x,)), bytes(A)\n"
    want = "\n\nR = b'\\x02\\x04\\n'\nS = bytes(((2), 256)), bytes((x,)), bytes((2))\n"
    assert folded(text) == want


def test_the_question_which_python_this_is_has_its_answer():
    """The compiler then leaves out the branch that is never taken."""
    name = "sys.implementation.name"
    text = f'import sys\nif {name} == "micropython":\n    a()\nelif {name} != "micropython":\n    b()\n'
    assert folded(text) == "import sys\nif True:\n    a()\nelif False:\n    b()\n"


def test_lines_keep_their_numbers():
    text = "from cpns.numbers import (\n    LIMIT,\n    NAME,\n)\n\nX = (\n    1,\n    2,\n)\nprint(X, LIMIT, NAME)\n"
    assert folded(text).splitlines()[9] == "print(X, (4), ('prov'))"


def test_a_constant_that_another_module_reads_by_name_stays():
    other = 'import a\nfrom a import A, B\nfrom cpns import numbers\nprint(f"{A} {numbers.LIMIT}")\n'
    files = {"a.py": "A = 1\nB = 2\nC = 3\ndef f(): pass\n", "b.py": other, "cpns/numbers.py": NUMBERS}
    result = constants.fold(files)
    assert result["a.py"] == "A = 1\n\n\ndef f(): pass\n"
    assert result["b.py"] == 'import a\nfrom a import A\nfrom cpns import numbers\nprint(f"{A} {numbers.LIMIT}")\n'


def test_a_module_of_nothing_but_constants_keeps_them_for_applications():
    assert constants.fold({"cpns/numbers.py": NUMBERS})["cpns/numbers.py"] == NUMBERS


def test_what_is_bound_twice_is_no_constant():
    for text in (
        "A = 1\nif A:\n    A = 2\n",
        "A = 1\ndef f(A):\n    return A\n",
        "A = 1\ndef f():\n    global A\n    A += 1\nprint(A)\n",
        "from cpns import numbers\ndef f(numbers):\n    return numbers.LIMIT\n",
        "A = 1\nfor A in (1, 2):\n    print(A)\n",
        "class A:\n    B = 1\nprint(A.B)\n",
        "try:\n    A = 1\nexcept OSError as A:\n    print(A)\n",
    ):
        assert folded(text) == text


def test_what_would_cost_more_as_a_copy_is_no_constant():
    for text in ("A = 2**64\nprint(A, A)\n", 'A = "more than ten"\nprint(A, A)\n', 'A = b"1"\nprint(A, A)\n'):
        assert folded(text) == text


def test_boards_load_no_module_of_constants(tmp_path):
    """They cost neither heap nor time, and every line is where it is in the repository."""
    files = board_files.listed()
    sources = compile.write_sources(files, tmp_path)
    for name, source in sources.items():
        text = source.read_text()
        assert text.count("\n") == files[name].read_text().count("\n"), name
        loaded = set(board_manifest.imported(source))
        assert not loaded & {"cpns.numbers", "cpns.tuning", "device_agent.tuning", "suit.numbers"}, name
        ast.parse(text)


def test_sources_are_written_anew_only_when_something_has_changed(tmp_path):
    files = {"lamp.py": tmp_path / "lamp.py"}
    files["lamp.py"].write_text("_ON = 1\n\n\ndef light():\n    return _ON\n")
    written = compile.write_sources(files, tmp_path / "out")["lamp.py"]
    first = written.read_text()
    written.write_text("as it was")
    assert compile.write_sources(files, tmp_path / "out") == {"lamp.py": written}
    assert written.read_text() == "as it was", "it was made anew from the same"
    compile.write_sources(files, tmp_path / "out", keep=True)
    assert written.read_text() not in ("as it was", first)
    written.unlink()
    compile.write_sources(files, tmp_path / "out", keep=True)
    assert written.exists()
    files["lamp.py"].write_text("def light():\n    return 2\n")
    compile.write_sources(files, tmp_path / "out", keep=True)
    assert "2" in written.read_text()


def test_a_firmware_can_have_the_same_sources_frozen_in():
    """`build/sources/board` has the manifest of the repository, which names the files beside it, and the bundles."""
    compile.compile_board()
    compile.compile_val_client_board()
    for manifest, tree in ((board_files.MANIFEST, "board"), (board_files.VAL_CLIENT_MANIFEST, "board_val_client")):
        there = compile.SOURCES / tree / board_files.in_sources(manifest.name)
        files = board_files.listed(there)
        bundles = {f"{name}.py" for name in board_files.BUNDLES}
        assert files.keys() == board_files.listed(manifest).keys() | bundles
        assert all(path.is_relative_to(compile.SOURCES / tree) for path in files.values())
