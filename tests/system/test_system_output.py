"""Answers that cannot be written: one sentence or none, no traceback, and a fitting exit code."""

import os
import subprocess

import pytest

from tests.privileges import needs_root
from tests.system.keycast_process import KEYCAST

FULL = "keycast: the answer cannot be written: No space left on device."


def run(words, shell=""):
    """`keycast` with these words, in a shell that does what stands behind them."""
    command = ["bash", "-c", f"{KEYCAST} {words} {shell}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, cwd="/")


@pytest.mark.parametrize(
    "words", ["--version", "--help", "gateway settings", "gateway settings --json", "status --json -c none.toml"]
)
def test_an_answer_onto_a_full_disk_is_told(words):
    result = run(words, "> /dev/full")
    assert (result.returncode, result.stderr.strip()) == (1, FULL)


def test_a_reader_that_has_gone_ends_the_command_quietly_as_sigpipe_would():
    nobody, pipe = os.pipe()
    os.close(nobody)
    command = [str(KEYCAST), "gateway", "settings"]
    result = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, text=True, timeout=240, check=False)
    os.close(pipe)
    assert (result.returncode, result.stderr) == (141, "")


def test_letters_that_a_terminal_does_not_have_are_shown_by_their_numbers(tmp_path):
    file = f"{tmp_path}/\u043b\u0430\u043c\u043f\u0430.toml"
    command = [str(KEYCAST), "gateway", "init", file]
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    result = subprocess.run(command, capture_output=True, text=True, timeout=240, env=env, check=False)
    assert (result.returncode, result.stderr) == (
        0,
        "",
    ) and r"/\u043b\u0430\u043c\u043f\u0430.toml is wr" in result.stdout


@pytest.mark.parametrize(("shell", "code"), [(">&-", 0), (">&- 2>&- <&-", 0), ("2>&-", 0), ("2>/dev/full", 0)])
def test_what_is_closed_is_no_fault(shell, code):
    assert run("gateway settings", shell).returncode == code


@pytest.mark.parametrize("shell", ["2>&-", "2>/dev/full", ">&- 2>&-"])
def test_a_refusal_that_nobody_hears_is_still_one(shell):
    result = run("status -c none.toml", shell)
    assert (result.returncode, result.stdout, result.stderr) == (1, "", "")


@needs_root
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("gateway init full/keycast.toml", "Cannot write full/keycast.toml: No space left on device."),
        ("kms init kms.example.org --state full/kms", "No space left on device"),
    ],
)
def test_a_new_file_on_a_full_disk_is_told_and_leaves_nothing(tmp_path, words, sentence):
    """On a file system of one page, which a stopgap fills."""
    (tmp_path / "full").mkdir()
    fill = "mount -t tmpfs -o size=4k none full && head -c 4096 /dev/zero > full/stopgap"
    line = f"cd {tmp_path} && {fill} && {KEYCAST} {words}; code=$?; find full -type f ! -name stopgap; exit $code"
    result = subprocess.run(["unshare", "--mount", "bash", "-c", line], capture_output=True, text=True, timeout=240)
    assert result.returncode == 1 and sentence in result.stderr and "Traceback" not in result.stderr
    assert result.stdout == ""


@needs_root
def test_a_system_without_shared_memory_is_told():
    line = f"umount --lazy /dev/shm; mount -t tmpfs -o ro none /dev/shm && {KEYCAST} seal demo"
    result = subprocess.run(["unshare", "--mount", "bash", "-c", line], capture_output=True, text=True, timeout=240)
    assert result.returncode == 1 and "Mount a tmpfs on /dev/shm" in result.stderr
    assert "Traceback" not in result.stdout + result.stderr
