"""`keycast setup` at a terminal (pexpect), and from nothing to the first Group Key of a virtual board by its words.

Every process has a home folder of its own, in a network of its own (tests/shards.py).
"""

import os
import re
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pexpect
import pytest

from keycast.free_ports import free_port
from keycast.micropython_vm import compile
from keycast.virtual_board import serial_board
from tests.system import namespaces
from tests.system.keycast_process import KEYCAST
from tests.system.slowness import Slowness
from tests.system.test_serial_board_run import environment

pytestmark = pytest.mark.real_time

LIMIT_S = 150  # for one answer of a program on a busy machine
COMMANDS_MAX, FIRST_KEY_S = 3, 60
NOT_ASKED = ("--web", "no", "--metrics", "no", "--service", "no")
DOWN, CLEAR = "\x1b[B", "\x15"


@contextmanager
def typed(home: Path, *words: str, at: Sequence[str] = ()) -> Iterator[pexpect.spawn]:
    """The command in a terminal of its own; it has ended at the end, if need be by Ctrl-C.

    `at`: words that start a program on another machine.
    """
    # prompt_toolkit asks a terminal where its cursor is, and this one does not answer
    variables = environment(home) | {"TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", "COLUMNS": "200"}
    child = pexpect.spawn(
        (command := [*at, str(KEYCAST), *words])[0],
        command[1:],
        env=variables,
        cwd=home,
        encoding="utf-8",
        timeout=LIMIT_S,
        dimensions=(50, 200),
    )
    try:
        yield child
    finally:
        if child.isalive():
            child.sendintr()
            child.expect(pexpect.EOF)
        child.close()


def answer(child: pexpect.spawn, question: str, keys: str) -> None:
    child.expect_exact(question)
    child.send(f"{keys}\r")


def ended(child: pexpect.spawn) -> tuple[int, str]:
    child.expect(pexpect.EOF)
    printed = str(child.before)
    child.close()
    return int(child.exitstatus or 0), printed


def test_a_person_answers_each_question_and_sees_the_file_before_it_is_there(tmp_path: Path) -> None:
    file = tmp_path / "keycast.toml"
    with typed(tmp_path, "setup", "--interface", "lo") as child:
        answer(child, "What is this gateway called?", f"{CLEAR}gw.attic")
        answer(child, "What is the Personal Network called", f"{CLEAR}attic")
        answer(child, "Where is the CPNS Server", DOWN)
        answer(child, "What is the address of the CPNS Server?", "10.0.0.3")
        answer(child, "What is the CPNS Server called?", "")
        answer(child, "What does `keycast server credential` print there?", "")
        answer(child, "May the gateway be seen and steered on a web page?", "")
        answer(child, "May Prometheus read figures", "")
        answer(child, "Shall Home Assistant see it, over MQTT?", "n")
        answer(child, "Shall the gateway start with this machine", "")
        child.expect_exact('id = "gw.attic"')
        child.expect_exact("Write this?")
        assert not file.exists()
        child.send("y\r")
        code, printed = ended(child)
    assert code == 0 and file.stat().st_mode & 0o777 == 0o600
    assert 'host = "10.0.0.3"' in file.read_text()
    assert "keycast gateway trust-server CREDENTIAL" in printed
    assert re.search(r"keycast server add-gateway gw\.attic attic [0-9a-f]{60,} --open", printed)

    file.write_text("# mine\n" + file.read_text())
    before = file.read_text()
    with typed(tmp_path, "setup", "--interface", "lo", "--server-here", *NOT_ASKED) as child:
        answer(child, "What is this gateway called?", "")  # the answer of the file stands there
        answer(child, "What is the Personal Network called", "")
        answer(child, "Shall Home Assistant see it, over MQTT?", "n")
        child.expect_exact('-kind = "udp"')
        child.expect_exact('+kind = "embedded"')
        answer(child, "Write this?", "y")
        assert ended(child)[0] == 0
    assert file.read_text() == before.replace('kind = "udp"', 'kind = "embedded"')


@pytest.mark.parametrize("at", ["What is this gateway called?", "Write this?"])
def test_ctrl_c_leaves_everything_as_it_was(tmp_path: Path, at: str) -> None:
    """At the first question and at the last one; tests/unit/test_setup_command.py has all of them."""
    questions = (
        "this gateway called?",
        "Personal Network",
        "On which networks",
        "Where is the CPNS Server",
        "web page",
    )
    with typed(tmp_path, "setup") as child:
        for question in (*questions, "Prometheus", "Home Assistant", "start with this machine", "Write this?"):
            if question in at:
                break
            answer(child, question, "")
        child.expect_exact(at)
        child.sendintr()
        code, printed = ended(child)
    assert code == 130 and "is as it was" in printed
    assert not os.listdir(tmp_path)


def test_from_nothing_to_the_first_group_key_in_three_commands_and_a_minute(tmp_path: Path) -> None:
    """Each command is one that the command before has named. The person takes the answers that are offered."""
    if why := namespaces.missing():
        pytest.skip(why)
    compile.compile_board()  # once for each machine; whoever has run `make demo` has it
    serial_board.build()
    with namespaces.HomeNetwork(1) as network, Slowness() as here:  # nobody else has the ports there
        took = _to_the_first_key(tmp_path, network.words(1))
    assert took < here.times(FIRST_KEY_S)


def _to_the_first_key(tmp_path: Path, at: Sequence[str]) -> float:
    """How many seconds that takes."""
    begun, commands = time.monotonic(), 0
    with typed(tmp_path, "setup", "--virtual-boards", at=at) as setup:
        commands += 1
        for question in ("this gateway called", "Personal Network", "Where is the CPNS Server", "web page"):
            answer(setup, question, "")
        answer(setup, "Prometheus", "")
        answer(setup, "Home Assistant", "")
        answer(setup, "start with this machine", "")
        answer(setup, "Write this?", "y")
        code, printed = ended(setup)
    assert code == 0
    named = [line.split()[1:] for line in printed.splitlines() if line.strip().startswith("keycast ")]
    run, board = named[:2]
    assert run[:2] == ["gateway", "run"] and board[:3] == ["board", "run", "porch"]
    with typed(tmp_path, *run, at=at) as gateway:
        commands += 1
        gateway.expect("gw.home serves home")
        with typed(tmp_path, *board, at=at) as porch:
            commands += 1
            porch.expect(r"porch has its first Group Key: home/lights, version \d+\.\d+")
            took = time.monotonic() - begun
    assert commands <= COMMANDS_MAX
    return took


def test_a_gateway_in_a_terminal_prints_a_link_while_its_page_has_no_password(tmp_path: Path) -> None:
    words = ("--yes", "--interface", "lo", "--web", "this-machine", "--web-port", str(free_port()))
    with typed(tmp_path, "setup", *words) as setup:
        assert ended(setup)[0] == 0
    file = tmp_path / "keycast.toml"
    file.write_text(file.read_text() + f"[message_plane]\nport = {free_port()}\ndiscovery = false\n")
    with typed(tmp_path, "gateway", "run") as gateway:
        gateway.expect("gw.home serves home")
        gateway.expect(r"http://127\.0\.0\.1:\d+/log-in\?token=[\w-]{20,}")
    under_systemd = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(under_systemd))
        with typed(tmp_path, "gateway", "run", at=["env", f"NOTIFY_SOCKET={under_systemd}"]) as gateway:
            gateway.expect("gw.home serves home")
            assert b"READY=1" in manager.recv(4096)
    assert "token=" not in str(gateway.before)
    with typed(tmp_path, "web", "password") as password:
        answer(password, "Password of the page", "correct horse")
        answer(password, "Repeat", "correct horse")
        assert ended(password)[0] == 0
    with typed(tmp_path, "gateway", "run") as gateway:
        gateway.expect("gw.home serves home")
    assert "token=" not in str(gateway.before)
