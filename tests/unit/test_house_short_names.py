"""The files of a board: the sources with private names and parameters that share few names."""

import ast
import subprocess

from keycast.micropython_vm import board_files, constants, short_names, vm


def short(text, **others):
    sources = {"a.py": text, **{f"{name}.py": other for name, other in others.items()}}
    return both(sources)["a.py"]


def both(sources):
    texts, _ = short_names.shorten_members(sources)
    return short_names.shorten_globals(texts)[0]


def test_private_names_and_parameters_become_names_that_each_firmware_has():
    text = "def _f(x, y=1):\n    return x + y\n\nclass A:\n    def __init__(self, z):\n        self._z = _f(z)\n"
    want = "def bytecode(append, y=1):\n    return append + y\n\nclass A:\n    def __init__(self, append):\n"
    assert short(text) == want + "        self.append = bytecode(append)\n"


def test_what_each_name_was_is_told():
    text = "class A:\n    def _f(self, x):\n        return self._g\n\n    _g = 1\n"
    texts, members = short_names.shorten_members({"b/c.py": text + "\ndef _h(): pass\n"})
    assert members == {"b.c": {"append": ["_f", "x"], "bytecode": ["_g"]}}
    assert short_names.shorten_globals(texts)[1] == {"b.c": {"clear": ["_h"]}}


def test_public_names_and_parameters_with_a_default_or_that_calls_name_stay():
    text = "def f(a, b, c=1):\n    return a\n\nclass C:\n    d = 1\n    def e(self): return self.d\n\nf(a=1, b=2)\n"
    assert short(text) == text


def test_an_application_may_name_all_parameters_of_its_interface():
    text = "def f(a):\n    return _g(a)\n\ndef _g(a):\n    return a\n"
    changed = both({"device_agent/api.py": text})["device_agent/api.py"]
    assert changed == "def f(a):\n    return bytecode(a)\n\ndef bytecode(append):\n    return append\n"


def test_names_that_are_in_use_are_not_taken():
    text = "import append\n\ndef _f(x):\n    bytecode = 1\n    return [clear for clear in x]\n"
    scope = {}
    exec(short(text).replace("import append\n", ""), scope)
    (function,) = [value for value in scope.values() if callable(value)]
    assert function([1, 2]) == [1, 2]


def test_a_function_within_a_function_does_not_hide_what_it_reads():
    text = "def _f(x):\n    def g(y):\n        return x, y\n    return g, lambda z: (x, z)\n"
    scope = {}
    exec(short(text), scope)
    (function,) = [value for value in scope.values() if callable(value)]
    g, h = function(1)
    assert (g(2), h(3)) == ((1, 2), (1, 3))


def test_what_is_bound_in_other_ways_too_stays():
    for text in (
        "def _f(x):\n    import x\n    return x\nprint('_f')\n",
        "_x = None\nif f():\n    from b import x as _x\nprint(_x)\n",
        "_x = 1\ntry:\n    f()\nexcept OSError as _x:\n    pass\n",
        "_x = 1\ndef f():\n    _x = 2\n    return _x\n",
        "_x = 1\ndef f():\n    global _x\n    _x = 2\n",
        "def f(x):\n    return [x for x in x]\n",
        "def f(x):\n    def g():\n        nonlocal x\n        x = 2\n    return g\n",
        "class A:\n    _x = 1\n    y = _x\n",
        "import asyncio\nasyncio.core._io_queue\nasyncio._x\n",
    ):
        assert short(text) == text


def test_modules_that_use_each_others_private_attributes_change_them_alike():
    texts = {
        "a.py": "class A:\n    def __init__(self):\n        self._x = 1\n        self._y = 2\n",
        "b.py": "from a import A\nclass B(A):\n    def __init__(self):\n        self._a = 3\n        self._y = 4\n",
        "c.py": "def f(a):\n    return a._x\n",
        "d.py": "class D:\n    def __init__(self):\n        self._z = 1\n",
    }
    changed = both(texts)
    names = {
        name: [n.attr for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Attribute)]
        for name, text in changed.items()
    }
    (x, y), (a, also_y), (also_x,), (z,) = (names[name] for name in texts)
    assert (x, y) == (also_x, also_y) and len({x, y, a}) == 3
    assert z == "append"


def test_texts_with_values_change_as_a_whole_and_lines_keep_their_numbers():
    text = "class A:\n    def f(self, x):\n        return f'{self._g(x)} {x!r}' + (\n            '1')\n\n"
    want = text.replace("_g", "append").replace("x", "append")
    assert short(text + "    def _g(self): pass\n") == want + "    def append(self): pass\n"


def test_a_board_has_few_names():
    """All files of a board, and each is still Python."""
    files = board_files.listed()
    texts = constants.fold({name: source.read_text() for name, source in files.items()})
    _, were = short_names.shorten_members(texts)
    changed = both(texts)
    for name, text in changed.items():
        ast.parse(text)
        assert text.count("\n") == texts[name].count("\n"), name
    assert "_grace_after_leave" in {old for names in were["cpns.key_ring"].values() for old in names}
    set_by_us = {
        node.attr
        for text in changed.values()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    }
    assert not [name for name in set_by_us if name.startswith("_") and not name[1:].isdigit()]


def test_the_free_names_are_in_the_firmware():
    """A program that uses them adds none of them to the table of names; another name it does add."""
    uses = "".join(f" x.{name}\n" for name in (*short_names.FREE, "another"))
    program = f"import micropython\ndef f(x):\n{uses}\nmicropython.qstr_info(1)\n"
    run = subprocess.run(vm.ensure().command("-c", program), capture_output=True, text=True, check=True)
    added = {line[2:-1] for line in run.stdout.splitlines() if line.startswith("Q(")}
    assert "another" in added and not added & set(short_names.FREE)
