"""What a person types to run a CPNS Server over MQTT, and what `keycast server status` shows."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from key_servers.cpns_server.config import ServerConfig
from keycast.commands import server as server_command
from keycast.program import program
from message_plane.links.mqtt_section import BrokerFiles

BROKER = "mqtts://mqtt.example.org:8883"
WRONG_CONFIGURATION = 78


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> list[ServerConfig]:
    """The settings with which a Server would run."""
    found: list[ServerConfig] = []

    async def run(state: Path, config: ServerConfig, *_: Any) -> None:
        found.append(config)

    monkeypatch.setattr(server_command, "_run", run)
    return found


def typed(*words: str) -> Any:
    return CliRunner().invoke(program(["server"]), ["server", *words])


def test_with_a_broker_and_without_an_address_it_is_reached_over_mqtt_only(settings: list[ServerConfig]) -> None:
    for words in ((), ("--broker", "mqtts://mqtt.example.org"), ("--broker", BROKER, "--listen", "10.0.0.1")):
        assert typed("run", *words).exit_code == 0
    assert [config.listen for config in settings] == [["0.0.0.0"], [], ["10.0.0.1"]]
    assert [config.mqtt.brokers for config in settings] == [[], [BROKER], [BROKER]]
    assert settings[1].is_remote


def test_the_files_of_a_client_are_in_one_folder(settings: list[ServerConfig], tmp_path: Path) -> None:
    words = ("--broker", BROKER, "--broker", "mqtts://two.example", "--broker-files", str(tmp_path))
    assert typed("run", *words).exit_code == 0
    files = BrokerFiles(tmp_path / "ca.crt", tmp_path / "client.crt", tmp_path / "client.key")
    assert settings[0].mqtt.files == files and settings[0].mqtt.brokers[1] == "mqtts://two.example:8883"


def test_the_folder_of_all_ends_is_told_from_that_of_one(settings: list[ServerConfig], tmp_path: Path) -> None:
    for each in ("server", "gateways/gw.home"):
        (tmp_path / each).mkdir(parents=True)
        (tmp_path / each / "client.crt").touch()
    run = typed("run", "--broker", BROKER, "--broker-files", str(tmp_path))
    assert (
        run.exit_code == WRONG_CONFIGURATION
        and f"Name those of the Server: {tmp_path / 'server'}" in run.stderr
        and not settings
    )
    words = ["gateway", "init", str(tmp_path / "keycast.toml"), "--broker", BROKER, "--broker-files", str(tmp_path)]
    init = CliRunner().invoke(program(["gateway"]), words)
    assert init.exit_code == 1 and f"Name those of this gateway: {tmp_path / 'gateways' / 'gw.home'}" in init.stderr
    assert not (tmp_path / "keycast.toml").exists()


def test_in_place_of_a_certificate_there_may_be_a_password(settings: list[ServerConfig], tmp_path: Path) -> None:
    files = ("--broker-files", str(tmp_path), "--broker-password-file", "password")
    for words in (files, files[2:]):
        assert typed("run", "--broker", BROKER, *words).exit_code == 0
    with_files, alone = (config.mqtt.files for config in settings)
    assert with_files == BrokerFiles(ca=tmp_path / "ca.crt", password=Path("password"))
    assert alone == BrokerFiles(password=Path("password"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--broker", "mqtt.example.org"), "'mqtt.example.org' is not the address of a broker, for example mqtts://"),
        (("--broker", BROKER, "--broker", BROKER), "each broker once"),
        (("--broker-files", "server"), "No broker is named"),
        (("--broker-password-file", "password"), "No broker is named"),
        (("--rest", "0.0.0.0:8445"), "keycast server rest-files FOLDER"),
        (("--broker", "mqtt://mqtt.example.org", "--broker-files", "server"), "not encrypted"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_sentence(
    settings: list[ServerConfig], words: tuple[str, ...], told: str
) -> None:
    run = typed("run", *words)
    assert run.exit_code == WRONG_CONFIGURATION and told in run.stderr and settings == []


STATUS: dict[str, Any] = {
    "server_id": "cpns.example", "listen": ["mqtt:00"], "gateway_count": 2, "group_count": 1, "alarms": [],
    "database": "SQLite", "shards": 64, "processes": 1,
    "brokers": [
        {"url": BROKER, "connected": True, "since": 1_700_000_000, "problem": ""},
        {"url": "mqtt://b:1", "connected": False, "since": 1_700_000_000, "problem": "it is not there."},
    ],
    "counters": {"handshakes_done": 3},
}  # fmt: skip
ALARM = {"kind": "broker", "gateway_id": "", "sg_id": "", "since": 1_700_000_000, "text": "It is away.", "count": 1}


def test_the_status_shows_the_brokers_and_ends_with_2_while_an_alarm_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = SimpleNamespace(value=STATUS)
    monkeypatch.setattr(server_command, "ask", lambda *_: answer.value)
    run = typed("status")
    assert run.exit_code == 0 and f"broker {BROKER}: connected since" in run.stdout
    assert "broker mqtt://b:1: not connected since" in run.stdout and "it is not there." in run.stdout
    assert "3 handshakes_done" in run.stdout
    assert json.loads(typed("status", "--json").stdout)["gateway_count"] == 2
    answer.value = STATUS | {"gateway_count": None, "group_count": None}
    run = typed("status")
    assert run.exit_code == 2 and "gateways: not known" in run.stdout
    answer.value = STATUS | {"alarms": [ALARM]}
    run = typed("status")
    assert run.exit_code == 2 and "It is away." in run.stdout
