"""`pytest --shards`: the tests of a folder shared by several processes, each in a network of its own."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import shards
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]
NETWORK = os.readlink("/proc/self/ns/net")
FILE = """
import os, socket, tempfile, pytest
from tests import privileges

@pytest.mark.req("SEC-{number}")
def test_has_a_network_and_rights_of_its_own(tmp_path):
    assert tmp_path.is_relative_to(tempfile.gettempdir()) and os.path.ismount(tempfile.gettempdir())
    assert os.readlink("/proc/self/ns/net") != os.environ["NETWORK_OF_THE_STARTER"]
    assert "eth0" in [name for _, name in socket.if_nameindex()]
    assert not privileges.MISSING

def test_fails_in_some():
    assert {number} < 3, "of those that fail"

def test_is_skipped():
    pytest.skip("for this reason")

@pytest.mark.long
def test_takes_long():
    assert False, "it is left out"
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "conftest.py").write_text("from tests.conftest import *\n")
    for number in range(5):
        (tmp_path / f"test_{number}.py").write_text(FILE.replace("{number}", str(number)))
    return tmp_path


def run(folder, **environment):
    command = [sys.executable, "-m", "pytest", "--shards", "--record-requirements=record.json", "-rsfE"]
    command += ["--without-long", "-c", str(ROOT / "pyproject.toml"), "--rootdir", ".", "."]
    return subprocess.run(
        command,
        preexec_fn=partial(os.sched_setaffinity, 0, {min(os.sched_getaffinity(0))}),  # four processes share the tests
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NETWORK_OF_THE_STARTER": NETWORK, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


@pytest.mark.skipif(bool(why := shards.why_no_networks()), reason=f"this machine makes no networks: {why}")
def test_all_that_happens_in_shards_is_told_and_recorded(folder):
    result = run(folder)
    assert result.returncode == 1
    assert result.stdout.count("FAILED test_") == 2 * 2  # when it happens, and at the end
    assert "] test_4.py\n" in result.stdout and "[5 of 5] test_" in result.stdout
    assert "of those that fail" in result.stdout and result.stdout.count("for this reason") == 5
    assert "2 failed, 8 passed, 5 skipped" in result.stdout
    assert "\n5 tests were left out: `make test-all` has all\n" in result.stdout
    record = json.loads((folder / "record.json").read_text())
    assert record["test_4.py::test_fails_in_some"] == {"ids": [], "outcome": "failed"}
    assert record["test_4.py::test_has_a_network_and_rights_of_its_own"] == {"ids": ["SEC-4"], "outcome": "passed"}
    assert len(record) == 15


def test_where_there_are_no_networks_the_same_tests_run_one_after_the_other(folder):
    (folder / "unshare").write_text("#!/bin/sh\necho not allowed here >&2\nexit 1\n")
    (folder / "unshare").chmod(0o755)
    result = run(folder, PATH=f"{folder}:{os.environ['PATH']}")
    assert result.returncode == 1
    assert "one test after the other" in result.stdout and "not allowed here" in result.stdout
    assert "5 skipped, 5 deselected" in result.stdout
    assert len(json.loads((folder / "record.json").read_text())) == 15


def test_what_is_said_to_take_long_is_there():
    assert all((ROOT / shards.file_of(unit)).exists() for unit in shards.LONG_S)


class Node:
    """A shard as its scheduler sees it."""

    shutting_down = False

    def __init__(self, ids):
        self.ids, self.gets, self.gateway = ids, [], SimpleNamespace(id="a shard")

    def send_runtest_some(self, indexes):
        self.gets += [self.ids[index] for index in indexes]

    def shutdown(self):
        self.shutting_down = True


def test_long_files_leave_a_shard_to_others_for_each_processor(monkeypatch):
    """Each file has one test; those that are named by a capital letter take long, A the longest."""
    monkeypatch.setattr(shards, "PROCESSORS", 1)
    ids = [f"test_{name}.py::test" for name in "ABCDEFwxyz"]
    seconds = {name: 30 - number if name[5].isupper() else 1 for number, name in enumerate(ids)}
    config = SimpleNamespace(
        getvalue=lambda name: ["3*popen"],
        option=SimpleNamespace(loadscopereorder=False),
        cache=SimpleNamespace(get=lambda name, otherwise: seconds),
        pluginmanager=SimpleNamespace(has_plugin=lambda name: True),
    )
    scheduling = shards.Scheduling(config)
    nodes = [Node(ids) for _ in range(3)]
    for node in nodes:
        scheduling.add_node(node)
        scheduling.add_node_collection(node, ids)
    scheduling.schedule()
    assert [node.gets for node in nodes] == [[ids[0], ids[2]], [ids[1], ids[3]], [ids[6], ids[7]]]
    scheduling.mark_test_complete(nodes[2], ids.index(ids[6]))
    assert nodes[2].gets[2:] == [ids[8]]  # E and F have to wait for the first two shards
    scheduling.mark_test_complete(nodes[0], ids.index(ids[0]))
    assert nodes[0].gets[2:] == [ids[4]]


def test_a_file_goes_to_one_process_and_files_in_the_vm_to_any():
    vm = "tests/portable/test_on_vm.py::test_on_vm[test_stack_coap]"
    assert [shards.unit(vm), shards.unit("tests/unit/test_a.py::test_b[x::y]")] == [vm, "tests/unit/test_a.py"]
    assert {shards.unit(f"tests/arch/test_{name}.py::test_b") for name in "cd"} == {"tests/arch"}
