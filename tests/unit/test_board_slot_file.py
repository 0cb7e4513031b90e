"""A slot of the agent that is a file, in the VM on a real littlefs: how much heap it takes, and what is whole."""

import json
import subprocess

import pytest

from keycast.micropython_vm import compile, romfs, vm
from tests.waiting import PATIENCE_S
from tools import PROJECT

PROGRAM = PROJECT / "tools" / "on_vm" / "slot_file.py"


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What the program tells of an image of the agent."""
    compile.compile_board()
    image = compile.BOARD_IMAGE.read_bytes()
    path = tmp_path_factory.mktemp("slot") / "agent.1"
    path.write_bytes(romfs.slot(image, 0, len(image) + 64))
    command = vm.ensure().command(str(PROGRAM), str(compile.BOARD_IMAGE), str(path), heap_kib=2048)
    environment = {"MICROPYPATH": str(compile.ON_VM), "BOARD_FILES": "/flash/"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=environment)
    assert not done.returncode, done.stdout + done.stderr
    return json.loads(done.stdout)


ROOM = """
import sys
import rom

rom.mount({image!r}, "/rom")
sys.path[:] = ["/rom", ".frozen"]
for name in ("esp32", "machine", "network"):
    sys.modules[name] = None
from updates import UpdatesOnDemand


class Storage:
    def get(self, key):
        return None


try:
    UpdatesOnDemand(Storage()).room("agent", 140000)
except OSError as error:
    print(error.args[0])
"""


@pytest.mark.req("SEC-30")
@pytest.mark.parametrize(
    ("heap_kib", "in_heap", "printed"),
    [(96, False, "12\n"), (140, False, "12\n"), (160, False, ""), (1024, False, ""), (96, True, "")],
)
def test_a_file_is_refused_where_the_code_is_mapped_and_the_heap_small(tmp_path, heap_kib, in_heap, printed):
    """Before anything is stored. Code that is in the heap already gives its room to that of the file."""
    compile.compile_board()
    if in_heap:
        (tmp_path / "device_agent").mkdir()
    program = compile.program_for_board(ROOM.format(image=str(compile.BOARD_IMAGE)))
    command = vm.ensure().command("-c", program, heap_kib=heap_kib)
    environment = {"MICROPYPATH": str(compile.ON_VM), "BOARD_FILES": f"{tmp_path}/"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=environment)
    assert (done.returncode, done.stdout) == (0, printed), done.stdout + done.stderr


def test_the_agent_is_imported_out_of_the_file(told):
    assert told["whole"] and told["from"] == ["/agent1/device_agent/agent.mpy", "/agent1/suit/__init__.mpy"]
    assert told["kinds"] == [0x4000, 0x8000, 0x8000] and told["missing"] == "no module named 'no_such_module'"


def test_the_mount_takes_little_of_the_heap(told):
    print(told["heap"])
    assert told["heap"] < 2048


def test_a_file_that_was_cut_or_changed_or_has_more_is_not_whole(told):
    assert told["damaged"] == [False] * 5
