"""Ctrl-C at moments at which no command can answer it: while modules are loaded, and where Python only reports it."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from keycast.program import program
from keycast.terminal import interrupts
from tests.waiting import PATIENCE_S

pytestmark = pytest.mark.real_time

WITHIN_S = PATIENCE_S
WHILE_LOADED = """
import builtins, signal
import keycast

load = builtins.__import__

def interrupted(name, *more):
    if name == "keycast.program":
        signal.raise_signal(signal.SIGINT)
    return load(name, *more)

builtins.__import__ = interrupted
keycast.main()
"""
LOST = """
import signal, sys, time
from keycast.terminal import interrupts

class Finalized:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)  # Python can raise nothing out of this function

if sys.argv[1] == "kept":
    interrupts.lose_none()
try:
    Finalized()
    print("it goes on", flush=True)
    time.sleep(float(sys.argv[2]))
except KeyboardInterrupt:
    sys.exit(interrupts.INTERRUPTED)
"""


@pytest.mark.parametrize("words", [["status"], ["status", "--json"]])
def test_ctrl_c_while_modules_are_loaded_ends_a_command_without_a_traceback(words: list[str]) -> None:
    run = subprocess.run([sys.executable, "-c", WHILE_LOADED, *words], capture_output=True, text=True, timeout=WITHIN_S)
    assert run.returncode == interrupts.INTERRUPTED and not run.stderr
    assert json.loads(run.stdout)["code"] == "cancelled" if "--json" in words else not run.stdout


@pytest.mark.parametrize(
    ("pressed", "code", "told"),
    [(KeyboardInterrupt, interrupts.INTERRUPTED, "Ended by Ctrl-C"), (EOFError, 1, "Standard input ended")],
)
@pytest.mark.parametrize("is_json", [False, True])
def test_ctrl_c_at_a_question_ends_a_command_as_anywhere_else(
    monkeypatch: pytest.MonkeyPatch, pressed: type[Exception], code: int, told: str, is_json: bool
) -> None:
    def answered(*_: object, **__: object) -> str:
        try:
            raise pressed
        except pressed:
            raise typer.Abort from None  # as Click does at a terminal

    monkeypatch.setattr("keycast.commands.board.pair.ask", lambda *_: [])
    monkeypatch.setattr(sys, "argv", words := ["keycast", "board", "pair", "lamp.porch", *["--json"] * is_json])
    monkeypatch.setattr(typer, "prompt", answered)
    run = CliRunner().invoke(program(words[1:]), words[1:])
    assert run.exit_code == code
    if is_json:
        said = json.loads(run.stdout)
        assert said["code"] == "cancelled" and said["error"].startswith(told)
    elif pressed is EOFError:
        assert run.stderr.startswith(f"keycast: {told}") and "Aborted" not in run.stderr


@pytest.mark.parametrize(("how", "stays_s", "code"), [("kept", WITHIN_S, interrupts.INTERRUPTED), ("lost", 0, 0)])
def test_ctrl_c_counts_where_python_can_only_report_it(how: str, stays_s: int, code: int) -> None:
    """Without our hook Python goes on, as the second case shows."""
    run = subprocess.run(
        [sys.executable, "-c", LOST, how, str(stays_s)], capture_output=True, text=True, timeout=WITHIN_S
    )
    assert run.returncode == code and run.stdout == "it goes on\n"
    assert ("KeyboardInterrupt" in run.stderr) is (how == "lost")


def test_other_faults_that_python_can_only_report_are_reported() -> None:
    text = "from keycast.terminal import interrupts\ninterrupts.lose_none()\n"
    text += "class Finalized:\n    def __del__(self):\n        raise ValueError('of a finalizer')\nFinalized()\n"
    run = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=WITHIN_S)
    assert run.returncode == 0 and "ValueError: of a finalizer" in run.stderr


def test_what_tests_start_can_be_interrupted() -> None:
    """Also where the tests run in the background of a shell, which leaves SIGINT ignored."""
    told = subprocess.run(
        [sys.executable, "-c", "import signal; print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"],
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
    )
    assert told.stdout == "False\n"


def test_tests_in_the_background_of_a_shell_can_be_interrupted() -> None:
    here = f"{Path(__file__)}::{test_what_tests_start_can_be_interrupted.__name__}"
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", here],
        cwd=Path(__file__).parents[2],
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
    )
    assert run.returncode == 0, run.stdout
