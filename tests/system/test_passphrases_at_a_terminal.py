"""Passphrases that are typed at a terminal: of a backup and its restore, of the key that signs updates."""

import io
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pexpect
import pytest

from suit.image import NEEDED
from tests.unit.home_world import configured
from tests.unit.mpy_code import mpy
from tests.waiting import PATIENCE_S

KEYCAST = str(Path(sys.executable).with_name("keycast"))
PASSPHRASE, WRONG = "correct horse battery", "another horse battery"
WITHIN_S = PATIENCE_S


@contextmanager
def running(folder: Path) -> Iterator[None]:
    with subprocess.Popen([KEYCAST, "gateway", "run"], cwd=folder, stdout=subprocess.PIPE, text=True) as gateway:
        assert gateway.stdout is not None and "gw.home" in gateway.stdout.readline()
        yield
        gateway.send_signal(signal.SIGTERM)
        assert gateway.wait(WITHIN_S) == 0


def typed(folder: Path, *words: str, answers: tuple[str, ...] = ()) -> tuple[int, str]:
    """Exit code and text of a command in a terminal; each of `answers` is typed after a question with "assphrase"."""
    shown = io.StringIO()
    command = pexpect.spawn(KEYCAST, list(words), cwd=str(folder), encoding="utf-8", timeout=WITHIN_S)
    command.logfile_read = shown
    for answer in answers:
        command.expect(r": $|: \r?$")
        command.sendline(answer)
    command.expect(pexpect.EOF)
    command.close()
    return command.exitstatus, " ".join(shown.getvalue().split())


@pytest.mark.long
@pytest.mark.req("SEC-02", "SEC-23")
def test_a_passphrase_is_typed_twice_for_a_backup_and_once_for_its_restore(tmp_path: Path) -> None:
    configured(tmp_path)
    with running(tmp_path):
        code, told = typed(tmp_path, "gateway", "backup", "b", "--with-identity", answers=(PASSPHRASE, PASSPHRASE))
        assert (code, "b is written, and opens." in told) == (0, True), told
        code, told = typed(tmp_path, "gateway", "restore", "b")
        assert code == 1 and "Stop it first" in told and "assphrase" not in told
    assert PASSPHRASE.encode() not in (tmp_path / "b").read_bytes() and not list((tmp_path / "state").glob("backup.*"))
    code, told = typed(tmp_path, "gateway", "restore", "b", answers=(WRONG,))
    assert code == 1 and "The passphrase is not that of this backup." in told
    code, told = typed(tmp_path, "gateway", "restore", "b", answers=(PASSPHRASE,))
    assert (code, "Generation" in told) == (0, True), told
    assert WRONG not in told and PASSPHRASE not in told


@pytest.mark.req("SEC-30")
def test_a_passphrase_is_typed_twice_for_an_update_key_and_once_for_each_signature(tmp_path: Path) -> None:
    agent = tmp_path / "agent"
    for name in NEEDED:
        (agent / name).parent.mkdir(parents=True, exist_ok=True)
        (agent / name).write_bytes(mpy())
    code, told = typed(tmp_path, "update", "key", "k", answers=(PASSPHRASE, WRONG, PASSPHRASE, PASSPHRASE))
    assert code == 0 and "k signs updates." in told and PASSPHRASE not in told
    code, told = typed(tmp_path, "update", "key", "k")
    assert code == 1 and "k exists already. A key is never overwritten" in told and "assphrase" not in told
    sign = ("update", "sign", "agent", "-o", "a.suit", "--key", "k")
    code, told = typed(tmp_path, *sign, answers=(WRONG,))
    assert code == 1 and "The passphrase is not that of this update key." in told
    code, told = typed(tmp_path, *sign, answers=(PASSPHRASE,))
    assert code == 0 and "a.suit is signed" in told and PASSPHRASE not in told
    assert PASSPHRASE.encode() not in b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())


def test_ctrl_c_at_the_question_for_a_passphrase_ends_the_command_and_makes_nothing(tmp_path: Path) -> None:
    for answers in (("\x03",), (PASSPHRASE, "\x03")):
        code, told = typed(tmp_path, "update", "key", "k", answers=answers)
        assert code == 130 and "Traceback" not in told and not list(tmp_path.iterdir())
