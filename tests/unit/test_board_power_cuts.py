"""Power cuts before, within and after each write and erase of an update, in the VM on a real littlefs."""

import json
import subprocess

import pytest

from keycast.micropython_vm import compile, romfs, vm
from tools import PROJECT

EVERY = [pytest.param(1, id="each", marks=pytest.mark.long), pytest.param(16, id="some")]
PROGRAM = PROJECT / "tools" / "on_vm" / "update_power_cuts.py"


@pytest.fixture(scope="module")
def agents(tmp_path_factory):
    """Images of two agents of 17 KiB, and the files of a third, which were flashed by cable."""
    return made(tmp_path_factory.mktemp("agents"), 17 * 1024)


def made(folder, size):
    compile.compile_board()
    for name in ("one", "two"):
        tree = folder / name
        (tree / "pad").mkdir(parents=True)
        module(folder, name, tree)
        (tree / "pad" / "pad.bin").write_bytes(bytes(range(256)) * (size // 256))
        (folder / f"{name}.romfs").write_bytes(romfs.image(tree))
    module(folder, "base", folder)
    return folder


def module(folder, name, to):
    source = folder / f"{name}.py"
    source.write_text(f"NAME = {name!r}\n")
    compile.compile_file("agent_of_slot.py", source, to / "agent_of_slot.mpy", 2)


@pytest.mark.req("SEC-30")
@pytest.mark.parametrize("end", ["good", "bad"])
@pytest.mark.parametrize("kind", ["file", "staged", "partition", "firmware"])
@pytest.mark.parametrize("every", EVERY)
def test_after_each_cut_the_old_agent_or_the_new_one_runs(agents, kind, end, every):
    """And keys, floors and counters are as they were; the update comes to its end (SEC-04, SEC-22, SEC-30)."""
    *faults, told = run(agents, kind, end, every)
    assert not faults, faults[:5]
    assert told["changes"] > 120 and told["cuts"] >= told["changes"] // every
    assert told["runs"] == 2 * told["cuts"] + told["last"] and told["last"] > 2


@pytest.mark.req("SEC-30")
@pytest.mark.parametrize("kind", ["file", "staged", "partition", "firmware"])
@pytest.mark.parametrize("every", EVERY)
def test_after_a_write_that_the_flash_refuses_the_old_agent_or_the_new_one_runs(agents, kind, every):
    """Each write once; the update is refused, or comes to its end."""
    *faults, told = run(agents, kind, "fails", every)
    assert not faults, faults[:5]
    assert told["changes"] > 100 and told["runs"] == told["cuts"] >= told["changes"] // every


@pytest.mark.parametrize(("kind", "most"), [("file", 100), ("staged", 110), ("partition", 65), ("firmware", 65)])
def test_an_update_wears_the_flash_little(tmp_path, kind, most):
    """So many sectors are erased for an image of the agent (docs/flash.md)."""
    compile.compile_board()
    (told,) = run(made(tmp_path, compile.BOARD_IMAGE.stat().st_size), kind, "wear", 1)
    print(kind, told["erases"])
    assert sum(told["erases"]) < most


def run(agents, kind, end, every):
    program = str(compile.written_for_board(PROGRAM)), str(compile.BOARD_IMAGE), str(agents), kind, end, str(every)
    command = vm.ensure().command(*program, heap_kib=1 << 14)
    environment = {"MICROPYPATH": str(compile.ON_VM), "BOARD_FILES": "/flash/"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
    assert not done.returncode, done.stdout[-3000:] + done.stderr[-3000:]
    # Files of a file system that is gone tell their errors, too, when they are collected
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
