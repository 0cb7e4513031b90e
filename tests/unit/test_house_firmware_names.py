"""The files of a board: public names within it only become names that its firmware has."""

import ast
import json
import re
import subprocess
from importlib import metadata

import pytest

from keycast.micropython_vm import board_files, compile, firmware_names, surface, vm
from keycast.virtual_board import board
from tools import PROJECT
from tools.bench import module_heap

NONE = frozenset[str]()


def borrowed(text, outside=NONE, **others):
    """The text of a module "a" with its names, beside others, and what these were."""
    sources = {"a.py": text, **{f"{name}.py": other for name, other in others.items()}}
    return firmware_names.borrow(sources, (), outside)


def changed(text, outside=NONE, **others):
    return borrowed(text, outside, **others)[0]["a.py"]


def added(names):
    """Those of `names` that MicroPython does not have in its firmware."""
    program = "import micropython\ndef f(x):\n"
    program += "".join(f" x.{name}\n" for name in names) + "micropython.qstr_info(1)\n"
    run = subprocess.run(vm.ensure().command("-c", program), capture_output=True, text=True, check=True)
    return {line[2:-1] for line in run.stdout.splitlines() if line.startswith("Q(")} & set(names)


@pytest.fixture(scope="module")
def told():
    compile.compile_board()
    return json.loads((compile.SOURCES / "board" / "traces.json").read_text())


def test_a_name_is_another_one_in_all_modules_alike():
    text = "class Lamp:\n    def __init__(self, lit=False):\n        self.lit = lit\n\n    def toggle(self): pass\n"
    texts, were = borrowed(text, b="import a\na.Lamp(lit=True).toggle()\n")
    names = {old: new for new, old in were.items()}
    assert names.keys() == {"Lamp", "lit", "toggle"} and set(names.values()) < set(firmware_names.NAMES)
    assert texts["b.py"] == f"import a\na.{names['Lamp']}({names['lit']}=True).{names['toggle']}()\n"
    undone = texts["a.py"]
    for new, old in were.items():
        undone = re.sub(rf"\b{new}\b", old, undone)
    assert undone == text


@pytest.mark.parametrize(
    "text",
    [
        "class A:\n    def f(self): pass\n\ngetattr(A(), 'f')()\nA = 'A'\n",
        "class A:\n    def f(self): pass\n\nprint(f'{A().f}')\n",
        "import json\n\nclass dumps:\n    def dumps(self): return json.dumps({})\n",
        "from machine import Pin\n\nclass value:\n    def value(self): return Pin(1).value()\n\nPin = 1\n",
        "import esp32\n\nclass shared: pass\n\nesp32.Partition(1).shared()\nesp32.find(shared=1)\n",
        "def mtu(): pass\n\nradio.config(mtu=1)\n",
        "def f(given): pass\n\n'f'\nf(dict(given=1))\n",
        "class Fault(Exception): pass\n",
        "class A:\n    def __enter__(self): pass\n\n'A'\n",
        "def f():\n    local = 1\n    return local\n\n'f'\n",
        "class append:\n    def close(self): pass\n",
    ],
    ids=str,
)
def test_a_name_that_somebody_else_knows_stays(text):
    assert changed(text) == text


def test_names_that_come_from_outside_stay_and_those_in_use_are_not_taken():
    text = "class A:\n    def f(self): pass\n"
    assert changed(text, {"A", "f"}) == text
    first, second = firmware_names.NAMES[:2]
    assert changed(f"class A:\n    {first} = 1\n", {"A", second}) not in (text, f"class {second}:\n    {first} = 1\n")
    assert changed("class A: pass\n", {first}) == f"class {second}: pass\n"


def test_a_module_that_was_joined_goes_on_to_have_its_public_names():
    sources = {"all.py": "def f(): pass\n\nclass A(Exception): pass\n", "a.py": "from all import f as g, A, f\n"}
    texts, were = firmware_names.borrow(sources, {"a.py"}, ())
    [(new, _)] = were.items()
    assert texts == {
        "all.py": sources["all.py"].replace("f()", f"{new}()"),
        "a.py": f"from all import {new} as g, A, {new} as f\n",
    }


def test_a_program_from_inside_has_the_names_of_the_board():
    text = "from a import f, A\nfrom b import f as g\nimport c\nf.f(A, c)\nx = 'f'\n"
    assert firmware_names.program(text, {"b"}, {"e": "f", "pi": "A"}) == (
        "from a import f as e, A as pi\nfrom b import e as g\nimport c\ne.e(pi, c)\nx = 'f'\n"
    )


def test_the_firmware_has_the_names_that_it_lends():
    assert added([*firmware_names.NAMES, "another"]) == {"another"}


def test_the_firmware_has_no_name_that_is_replaced(told):
    """So no object of MicroPython is asked for one of them."""
    assert added(told["borrowed"].values()) == set(told["borrowed"].values())


def test_an_esp32_has_the_names_by_its_stubs(told):
    """A name that a firmware lacks costs a board 7 octets, as one of our own does."""
    words: set[str] = set()
    for name in ("micropython-esp32-stubs", "micropython-stdlib-stubs"):
        for file in metadata.files(name) or ():
            if file.name.endswith(".pyi"):
                words.update(re.findall(r"\w+", str(file.locate().read_text())))
    assert not set(firmware_names.NAMES) - words


NATIVE = ("bluetooth", "esp32", "machine", "network", "socket", "vfs", "asyncio", "select", "os", "time", "io")


def test_no_object_of_an_esp32_has_a_name_that_is_replaced(told):
    """But `duty` of PWM and the like, which no board uses."""
    words: set[str] = set()
    for file in metadata.files("micropython-esp32-stubs") or ():
        if file.parts[0].removesuffix(".pyi") in NATIVE:
            tree = ast.parse(str(file.locate().read_text()))
            words.update(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef))
    assert {"WLAN", "gatts_notify", "set_boot"} <= words
    assert set(told["borrowed"].values()) & words <= {"duty"}


def test_what_programs_and_applications_use_stays(told):
    """The examples of the documentation, and the programs that tools send over the cable."""
    pages = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
    blocks = [block for page in pages for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)]
    programs = [path.read_text() for path in sorted(surface.PROGRAMS.glob("*.py"))]
    blocks = [block for block in blocks if "node." in block]  # others are for the computer of a gateway
    assert len(blocks) >= 2 and len(programs) >= 4
    used = {name for text in (*blocks, *programs) for name in surface.identifiers(ast.parse(text))}
    assert {"join", "send", "begin", "save"} <= used
    assert not used & set(told["borrowed"].values())


def test_modules_that_programs_import_keep_all_their_public_names(told):
    """As a program may be of a version before or after that of the files."""
    kept = {
        "PartitionPlace",
        "Station",
        "entity_id",
        "fall_back",
        "signing_epoch",
        "NotAuthentic",
        "timeout_s",
        "ready",
    }
    assert not (kept - {"PartitionPlace"}) & set(told["borrowed"].values())
    assert "PartitionPlace" in told["borrowed"].values()


NAMES_MAX = 620  # a table for more takes 4.5 KB in one piece


def test_the_names_of_a_board_have_room_in_its_table(tmp_path):
    """Of one with both radios and end-to-end groups, and all that it loads but the modules of an update."""
    board.build()
    files = board_files.listed(compile.SOURCES / "board" / board_files.in_sources(board_files.MANIFEST.name))
    modules = ["asyncio", *module_heap.HARDWARE, "bluetooth", "app"]
    ours = map(board_files.dotted, module_heap.leaves_first(files))
    modules += [name for name in ours if not name.startswith(("suit", "device_agent.update."))]
    assert {"board", "ble", "pne_agent", "pne_end_to_end", "update_slots"} < {*modules}
    program = f"import power_on, micropython\nfor name in {modules}: __import__(name)\nmicropython.qstr_info()"
    run = subprocess.run(
        vm.ensure().command("-c", program, heap_kib=256),
        env={
            "MICROPYPATH": f"{board.ON_VM_TREE}:.frozen",
            "BOARD_ROM": str(compile.BOARD_IMAGE),
            "BOARD_HARDWARE": str(board.HARDWARE_IMAGE),
            "BOARD_NVS": str(tmp_path),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    [names] = re.findall(r"n_qstr=(\d+)", run.stdout)
    assert 500 < int(names) <= NAMES_MAX
