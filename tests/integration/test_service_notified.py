"""`keycast gateway run` and other servers as a service manager starts them: READY, STOPPING, exit codes."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from gateway_agent.control_client import ask
from keycast.free_ports import free_port
from tests.unit.home_world import configured
from tests.waiting import PATIENCE_S

KEYCAST = os.path.join(sys.prefix, "bin", "keycast")
START_S = PATIENCE_S

pytestmark = pytest.mark.real_time


@pytest.fixture
def manager(tmp_path):
    """The socket of a service manager, and the environment that names it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as found:
        found.bind(str(tmp_path / "notify"))
        found.settimeout(START_S)
        yield found, os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "600000"}


def words_of(kind, folder):
    if kind == "gateway":
        return ["gateway", "run", "-c", str(configured(folder))]
    if kind == "cms":
        return ["cms", "run", "--state", str(folder / "state"), "--port", str(free_port())]
    return ["server", "run", "--state", str(folder / "state"), "--listen", "127.0.0.1", "--port", str(free_port())]


@pytest.mark.parametrize(("kind", "command"), [("gateway", "trust"), ("server", "alarms"), ("cms", "log.recent")])
def test_it_is_ready_when_it_answers_and_says_that_it_ends(kind, command, manager, tmp_path):
    heard, environment = manager
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen([KEYCAST, *words_of(kind, tmp_path)], env=environment, stdout=log, stderr=log)
    try:
        ready, status, _ = heard.recv(4096).decode().split("\n")
        assert ready == "READY=1" and status.startswith("STATUS=")
        ask(tmp_path / "state", command)  # the sockets are bound, and the store is open
        while heard.recv(4096) != b"WATCHDOG=1":
            pass
        process.send_signal(signal.SIGTERM)
        while not heard.recv(4096).startswith(b"STOPPING=1"):
            pass
        assert process.wait(START_S) == 0, (tmp_path / "log").read_text()
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    "words",
    [
        ["gateway", "run", "-c", "nowhere.toml"],
        ["gateway", "run", "-c", "wrong.toml"],
        ["server", "run", "--broker", "http://nowhere"],
        ["server", "run", "--rest", "8445"],
        ["kms", "run", "--listen", "nowhere"],
        ["gms", "run", "sip:gms@example.org", "--kms", "https://x", "--kms-uri", "x", "--kms-token-file", "nowhere"],
        ["cms", "run", "--listen", "nowhere"],
    ],
    ids=" ".join,
)
def test_a_wrong_configuration_has_an_exit_code_of_its_own(words, tmp_path):
    (tmp_path / "wrong.toml").write_text('[gateway]\nid = 7\npn = "home"\n')
    told = subprocess.run([KEYCAST, *words], cwd=tmp_path, capture_output=True, text=True, timeout=START_S)
    assert told.returncode == 78, told.stderr
    assert not any(each.is_dir() for each in tmp_path.iterdir()), "it has made a folder"
