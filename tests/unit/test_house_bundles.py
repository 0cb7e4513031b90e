"""The files of a board: modules that are always loaded, joined into bundles."""

import ast
import sys
import types

import pytest

from keycast.micropython_vm import board_files, bundles, compile, short_names

ERRORS = "class Wrong(Exception):\n    pass\n\ndef parse(code):\n    return Wrong(code)\n"
CODEC = "import struct\nfrom errors import Wrong\n\ndef parse(octets):\n    return struct.unpack('B', octets)[0]\n\n"
CODEC += "def _check(octets):\n    if not octets:\n        raise Wrong('empty')\n"
AGENT = "import struct\nimport codec as c\nimport errors\nfrom codec import parse as read\n\n"
AGENT += "def use(octets, parse=None):\n    kept = [c.parse(octets) for octets in [octets]]\n"
AGENT += "    return kept, read(octets), f'{c.parse(octets)!r} {errors.parse(3)!r}', struct.calcsize('B'), parse\n\n"
AGENT += "def _check(x):\n    import late\n    return late.double(x)\n"
LATE = "from codec import parse, _check\nimport errors\n\n"
LATE += "def double(x):\n    _check(x)\n    return 2 * parse(x), errors.Wrong\n"
HOUSE = {"errors.py": ERRORS, "codec.py": CODEC, "agent.py": AGENT, "late.py": LATE, "main.py": "import agent\n"}


def run(texts, name):
    """Import the module `name` of a house of texts, and return it."""
    modules = {}

    def load(name, scope=None, *_):
        if f"{name}.py" not in texts:
            return __import__(name)
        if name not in modules:
            modules[name] = module = types.ModuleType(name)
            module.__dict__["__builtins__"] = {**vars(sys.modules["builtins"]), "__import__": load}
            exec(texts[f"{name}.py"], module.__dict__)
        return modules[name]

    return load(name)


@pytest.mark.parametrize(
    "joined", [{"all": ("agent",)}, {"base": ("errors",), "more": ("agent",)}, {"base": ("codec",)}]
)
def test_joined_modules_do_what_they_did(joined):
    texts, _ = bundles.join(HOUSE, joined)
    for house in (HOUSE, texts):
        agent = run(house, "agent")
        kept, read, text, size, parse = agent.use(b"\x07", 5)
        assert (kept, read, text, size, parse) == ([7], 7, "7 Wrong(3)", 1, 5)
    late = run(texts, "late")
    assert late.double(b"\x04")[0] == 8
    with pytest.raises(Exception, match="empty"):
        late.double(b"")


def test_each_module_is_there_once_and_its_own_name_leads_to_the_bundle():
    texts, lines = bundles.join(HOUSE, {"all": ("agent",)})
    assert run(texts, "codec").parse(b"\x05") == 5
    assert texts["codec.py"].startswith("from all import ") and " as parse" in texts["codec.py"]
    assert "_check" not in texts["codec.py"]
    assert texts["main.py"] == "import all\n"
    assert texts["all.py"].count("import struct") == 1
    assert lines == {"all": [(1, "errors.py"), (6, "codec.py"), (15, "agent.py")]}


def test_names_at_the_top_level_are_those_of_attributes():
    house = {"a.py": "def long_name(x):\n    return x.other\n\nclass Kept(OSError):\n    pass\n"}
    texts, _ = bundles.join(house, {"all": ("a",)})
    functions = [node.name for node in ast.parse(texts["all.py"]).body]
    assert functions[0] in short_names.FREE and functions[1] == "Kept"
    assert texts["a.py"] == f"from all import Kept, {functions[0]} as long_name\n"


def test_lines_of_a_bundle_are_those_of_its_modules():
    texts, lines = bundles.join(HOUSE, {"all": ("agent",)})
    bundle = texts["all.py"].splitlines()
    for first, path in lines["all"]:
        for number, line in enumerate(HOUSE[path].splitlines()):
            if line.startswith(("def ", "class ")):
                assert bundle[first + number - 1].split()[0] == line.split()[0]


def test_what_a_bundle_does_not_allow_is_refused():
    for agent, why in (
        ("import errors\nprint(errors)\n", "line 2: errors is used otherwise"),
        ("import errors\nerrors.Wrong = 1\n", "errors.Wrong is set from outside"),
        ("import errors\nprint(errors.nothing)\n", "errors.nothing, which is not defined"),
        ("import errors\nimport json as struct\n\nimport codec\n", "struct is something else"),
    ):
        with pytest.raises(bundles.NotJoined, match=why):
            bundles.join({**HOUSE, "agent.py": agent}, {"all": ("agent",)})


def test_a_module_that_sets_its_public_variables_anew_is_left_out():
    state = "now = 0\n\ndef tell(new):\n    global now\n    now = new\n"
    agent = "import state\n\ndef use():\n    state.tell(2)\n    return state.now\n"
    texts, _ = bundles.join({"state.py": state, "agent.py": agent}, {"all": ("agent",)})
    assert texts["state.py"] == state
    assert run(texts, "agent").use() == 2


def test_a_board_loads_its_bundles_and_no_module_that_is_in_one():
    compile.compile_board()
    sources = compile.SOURCES / "board"
    files = board_files.listed(sources / board_files.in_sources(board_files.MANIFEST.name))
    stubs = {name for name, path in files.items() if path.read_text().startswith("from pne_")}
    assert {"cpns/errors.py", "device_agent/api.py", "device_agent/agent.py"} <= stubs
    for name in ("board.py", "start.py", "pne_start.py", "pne_agent.py"):
        for node in ast.walk(ast.parse(files[name].read_text())):
            modules = [node.module] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not {f"{str(module).replace('.', '/')}.py" for module in modules} & stubs, (name, modules)
