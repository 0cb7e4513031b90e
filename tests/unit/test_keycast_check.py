"""`keycast gateway check` refuses what `keycast gateway run` refuses, in the same words, and leaves nothing behind."""

import asyncio
import contextlib
import errno
import json
import os
import re
import socket

import pytest
from typer.testing import CliRunner

from cpns.errors import CpnsError
from gateway_agent.config.load import load
from gateway_agent.errors import GatewayError
from gateway_agent.radios import ble_sender
from gateway_agent.state_files import SESSIONS_FILE
from http_door.errors import DoorError
from key_servers.errors import ServerError
from keycast.free_ports import free_port
from keycast.program import program
from keycast.services.gateway_trial import trial
from keycast.services.home import open_home
from message_plane.errors import PlaneError
from message_plane.links.mqtt_section import BrokerFiles
from private_store.errors import PrivateStoreError

CONFIG = """
[gateway]
id = "gw.home"
pn = "home"
state_dir = "state"

[message_plane]
listen = ["127.0.0.1"]
port = {port}
discovery = false

[broadcast]
interfaces = ["lo"]
"""
REFUSALS = (CpnsError, DoorError, GatewayError, ServerError, PlaneError, PrivateStoreError)


@pytest.fixture
def config(tmp_path):
    """A configuration that is right, on a port that nobody has."""
    path = tmp_path / "keycast.toml"
    path.write_text(CONFIG.format(port=free_port()))
    return path


def change(path, old, new):
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


async def run(path):
    """Every step of `keycast gateway run`, ended as soon as it is ready."""
    async with open_home(load(path)) as home:
        await home.start()


async def check(path):
    return await trial(load(path))


def refusal(step, path):
    with pytest.raises(REFUSALS) as caught:
        asyncio.run(step(path))
    return str(caught.value)


@contextlib.contextmanager
def port_in_use(path):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", load(path).message_plane.port))
        yield f"(process {os.getpid()})"


@contextlib.contextmanager
def another_address(path):
    change(path, '["127.0.0.1"]', '["192.0.2.250"]')
    yield "192.0.2.250"


@contextlib.contextmanager
def blank_pn(path):
    change(path, '"home"', '" "')
    yield "blank"


@contextlib.contextmanager
def no_interface(path):
    change(path, '["lo"]', '["wlan77"]')
    yield "wlan77"


@contextlib.contextmanager
def a_file_for_a_folder(path):
    (path.parent / "state").write_text("a file")
    yield str(path.parent / "state")


@contextlib.contextmanager
def a_folder_that_others_write(path):
    (path.parent / "state").mkdir()
    (path.parent / "state").chmod(0o777)
    yield "chmod"


@contextlib.contextmanager
def too_long_a_path(path):
    change(path, '"state"', f'"{"long" * 30}"')
    yield "shorter path"


@contextlib.contextmanager
def a_folder_under_a_file(path):
    (path.parent / "file").write_text("")
    change(path, '"state"', '"file/state"')
    yield "Cannot make the folder"


@contextlib.contextmanager
def a_folder_that_cannot_be_made(path):
    change(path, '"state"', '"/proc/state"')
    yield "Cannot make the folder /proc/state"


@contextlib.contextmanager
def a_folder_without_a_name(path):
    change(path, '"state"', '" "')
    yield "gateway.state_dir"


@contextlib.contextmanager
def a_folder_with_a_nul(path):
    change(path, '"state"', r'"a\u0000b"')
    yield "gateway.state_dir"


@contextlib.contextmanager
def an_address_twice(path):
    change(path, '["127.0.0.1"]', '["127.0.0.1", "127.0.0.1"]')
    yield "each address once"


@contextlib.contextmanager
def an_address_beside_all(path):
    change(path, '["127.0.0.1"]', '["0.0.0.0", "127.0.0.1"]')
    yield "alone"


@contextlib.contextmanager
def an_address_of_many(path):
    change(path, '["127.0.0.1"]', '["255.255.255.255"]')
    yield "an IPv4 address of this machine"


@contextlib.contextmanager
def a_damaged_store(path):
    asyncio.run(run(path))
    (path.parent / "state" / SESSIONS_FILE).write_bytes(b"no database at all " * 500)
    yield SESSIONS_FILE


@contextlib.contextmanager
def a_period_of_a_second(path):
    path.write_text(path.read_text() + "[groups]\nperiod_s = 1\n")
    yield "at least 60"


FAULTS = [
    port_in_use,
    another_address,
    blank_pn,
    no_interface,
    a_file_for_a_folder,
    a_folder_that_others_write,
    too_long_a_path,
    a_folder_under_a_file,
    a_folder_that_cannot_be_made,
    a_folder_without_a_name,
    a_folder_with_a_nul,
    an_address_twice,
    an_address_beside_all,
    an_address_of_many,
    a_damaged_store,
    a_period_of_a_second,
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_check_says_what_run_says(config, fault):
    with fault(config) as named:
        said = refusal(check, config)
        assert named in said
        assert refusal(run, config) == said


def test_what_is_right_is_right_and_nothing_of_the_trial_stays(config):
    before = sorted(config.parent.iterdir())
    found = asyncio.run(check(config))
    assert (found.pid, found.addresses) == (None, [])
    assert found.networks == [
        {"interface": "lo", "address": "127.0.0.1", "broadcast": "127.255.255.255", "problem": ""}
    ]
    assert "lo" not in {each["interface"] for each in found.left_out}
    assert sorted(config.parent.iterdir()) == before
    asyncio.run(run(config))
    kept = {path: path.read_bytes() for path in (config.parent / "state").rglob("*.key")}
    asyncio.run(check(config))
    assert {path: path.read_bytes() for path in (config.parent / "state").rglob("*.key")} == kept


@pytest.mark.parametrize("state", ["new", "new/folder/state", "empty"])
def test_a_disk_that_fills_up_is_told_of_the_folder_that_is_named_and_nothing_stays(config, state, monkeypatch):
    """At the first key: what was made until then is gone again."""
    change(config, '"state"', f'"{state}"')
    (config.parent / "empty").mkdir(mode=0o700)
    before = sorted(config.parent.rglob("*"))

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    said = refusal(check, config)
    assert sorted(config.parent.rglob("*")) == before
    assert str(config.parent / state) in said and ".keycast-check-" not in said
    assert refusal(run, config) == said


def test_a_gateway_that_runs_is_left_alone_and_what_it_does_not_have_yet_is_tried(config):
    async def beside():
        async with open_home(load(config)) as service:
            await service.start()
            found = await check(config)
            assert found.pid == os.getpid() and found.radio is None
            change(config, '["127.0.0.1"]', '["192.0.2.250"]')
            with pytest.raises(PlaneError, match=r"192\.0\.2\.250"):
                await check(config)

    asyncio.run(beside())


@pytest.mark.parametrize("runs", [False, True])
def test_the_sender_of_adverts_is_shown_and_a_machine_without_bluetooth_is_no_reason_to_refuse(
    config, runs, monkeypatch
):
    monkeypatch.setattr(ble_sender, "choose", lambda section, counters: (None, {"mgmt": "Not permitted. Next: ask"}))
    config.write_text(config.read_text() + "[ble]\n")

    async def beside():
        async with open_home(load(config)) as service:
            await service.start()
            return await check(config)

    found = asyncio.run(beside() if runs else check(config))
    assert found.radio is not None and found.radio.sender == ""
    assert found.radio.in_vain == {"mgmt": "Not permitted. Next: ask"}


def test_init_writes_the_section_of_bluetooth_if_it_is_wanted(tmp_path):
    written = {}
    for options in ([], ["--ble"], ["--ble", "--virtual-boards"]):
        path = tmp_path / f"{len(written)}.toml"
        run = CliRunner().invoke(program(["gateway"]), ["gateway", "init", str(path), *options])
        assert run.exit_code == 0, run.output
        written[" ".join(options)] = getattr(load(path), "ble", None)
    assert [section and section.sender for section in written.values()] == [None, "auto", "virtual"]


def test_init_writes_the_way_over_brokers_if_it_is_wanted(tmp_path):
    path, files = tmp_path / "keycast.toml", tmp_path / "gw files"
    words = ["gateway", "init", str(path), "--broker", "mqtts://one.example", "--broker", "mqtts://two.example"]
    words += ["--broker-files", str(files), "--server", "cpns.example"]
    assert CliRunner().invoke(program(["gateway"]), words).exit_code == 0
    uplink = load(path).uplink
    assert (uplink.kind, uplink.server_id) == ("mqtt", "cpns.example")
    assert uplink.brokers == ["mqtts://one.example:8883", "mqtts://two.example:8883"]
    assert uplink.files == BrokerFiles(files / "ca.crt", files / "client.crt", files / "client.key")
    for wrong in (["--broker", "one.example"], ["--broker-files", str(files)]):
        run = CliRunner().invoke(program(["gateway"]), ["gateway", "init", str(tmp_path / "other.toml"), *wrong])
        assert run.exit_code == 1 and "broker" in run.stderr
    assert not (tmp_path / "other.toml").exists()


def test_brokers_of_which_none_lets_the_gateway_in_are_told_with_the_next_step(config):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and nobody listens
        url = f"mqtt://127.0.0.1:{closed.getsockname()[1]}"
        config.write_text(f'{config.read_text()}[uplink]\nkind = "mqtt"\nbrokers = ["{url}"]\n')
        result = CliRunner().invoke(program(["gateway"]), ["gateway", "check", "-c", str(config)])
    assert result.exit_code == 1
    assert f"the broker {url} is not there: nothing listens at this port. Start it." in result.stderr
    assert not (config.parent / "state").exists()


def test_an_unknown_key_is_a_warning_with_its_code_and_the_nearest_key(config):
    change(config, 'interfaces = ["lo"]', 'interfaces = ["lo"]\nintervall_s = 3')
    shown = CliRunner().invoke(program(["gateway"]), ["gateway", "check", "-c", str(config)])
    assert shown.exit_code == 0 and re.search(
        r"warning KC1401: .*line 14: broadcast\.intervall_s: unknown key", shown.output
    )
    change(config, 'interfaces = ["lo"]', 'interfaces = ["none0"]')
    hindered = CliRunner().invoke(program(["gateway"]), ["gateway", "check", "-c", str(config)])
    assert hindered.exit_code == 1 and "warning KC1401: " in hindered.stderr and "'none0'" in hindered.stderr
    change(config, 'interfaces = ["none0"]', 'interfaces = ["lo"]')
    told = json.loads(
        CliRunner().invoke(program(["gateway"]), ["gateway", "check", "-c", str(config), "--json"]).output
    )
    (warning,) = told["warnings"]
    assert warning["code"] == "KC1401" and "intervall_s" in warning["text"]
