"""Every portable test file again, compiled to .mpy, inside the real MicroPython VM with a board's heap, the code in
ROMFS images as on a board.

Each file is one test here and carries the requirement marks of its functions, so that the conformance table
counts both Pythons.
"""

import ast
import contextlib
import os
import subprocess
from pathlib import Path

import pytest

from keycast.micropython_vm import compile, vm
from tools import PROJECT, portable_images

HERE = Path(__file__).parent
HEAP_KIB = 96  # a board's; a file whose tests hold the gateway's end as well says `VM_HEAP_KIB = ...`
LIMIT_S = 240
RUNNER = PROJECT / "tools" / "on_vm" / "run_tests.py"
LONG = {"test_mikey_vectors", "test_device_val_cache", "test_device_val_client"}  # on CPython they take a moment
FILES = sorted(path for path in HERE.glob("test_*.py") if path != Path(__file__))


def marked_requirements(source: Path) -> list[str]:
    """The ids in all `@req(...)` decorators of a test file."""
    ids: set[str] = set()
    for function in ast.parse(source.read_text()).body:
        for decorator in getattr(function, "decorator_list", ()):
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "req":
                ids.update(ast.literal_eval(argument) for argument in decorator.args)
    return sorted(ids)


def marks(source: Path) -> list[pytest.MarkDecorator]:
    """The marks of the test that runs a file."""
    long = [pytest.mark.long] if source.stem in LONG else []
    return [pytest.mark.req(*marked_requirements(source)), *long]


def heap_kib(source: Path) -> int:
    """The heap that a test file runs in."""
    for node in ast.parse(source.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "VM_HEAP_KIB":
            return ast.literal_eval(node.value)
    return HEAP_KIB


@pytest.fixture(scope="session")
def machine():
    return vm.ensure()


@pytest.fixture(scope="session")
def portable_image():
    with contextlib.suppress(compile.CompileError):  # test_portable_code_compiles tells it, once
        portable_images.compile_portable()
    return portable_images.PORTABLE_IMAGE


def test_portable_code_compiles():
    portable_images.compile_portable()


@pytest.mark.parametrize(
    "source",
    [pytest.param(path, id=path.stem, marks=marks(path)) for path in FILES],
)
def test_on_vm(source, machine, portable_image):
    test_image = portable_images.compile_test(source)
    heap = heap_kib(source)
    run = subprocess.run(
        machine.command(str(RUNNER), str(portable_image), str(test_image), source.stem, heap_kib=heap),
        cwd=PROJECT,
        env={**os.environ, "MICROPYPATH": str(compile.ON_VM)},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=LIMIT_S,
    )
    lines = run.stdout.splitlines()
    functions = sum(line.startswith("def test_") for line in source.read_text().splitlines())
    passed = sum(line.startswith("PASS ") for line in lines)
    failures = "\n".join(line for line in lines if not line.startswith(("PASS ", "DONE ")))
    assert not failures, f"in the VM with {heap} KiB:\n{failures}"
    assert run.returncode == 0 and f"DONE {functions}" in lines, f"the VM ended early:\n{run.stdout}{run.stderr}"
    assert passed == functions > 0
