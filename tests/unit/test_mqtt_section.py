"""The settings of the link over MQTT, as a configuration file has them."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from message_plane.links.mqtt_section import Broker, BrokerFiles, MqttSection, broker_of
from tests.waiting import PATIENCE_S

BROKER = "mqtts://broker.example:8883"


@pytest.mark.parametrize(
    ("url", "broker", "text"),
    [
        (BROKER, Broker("broker.example", 8883, True), BROKER),
        ("mqtts://10.0.0.1", Broker("10.0.0.1", 8883, True), "mqtts://10.0.0.1:8883"),
        ("mqtt://localhost/", Broker("localhost", 1883, False), "mqtt://localhost:1883"),
        ("mqtt://[::1]:2000", Broker("::1", 2000, False), "mqtt://[::1]:2000"),
    ],
)
def test_a_broker_has_host_port_and_encryption(url: str, broker: Broker, text: str) -> None:
    assert broker_of(url) == broker and str(broker) == text


@pytest.mark.parametrize(
    "url", ["", "broker.example", "http://a", "mqtt://", "mqtt://a:0", "mqtt://a:65536", "mqtt://u@a", "mqtts://a/x"]
)
def test_other_addresses_are_refused_with_an_example(url: str) -> None:
    with pytest.raises(ValidationError, match=r"mqtts://broker\.example:8883"):
        MqttSection(brokers=[url])


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"brokers": [BROKER, "mqtts://broker.example"]}, "each broker once"),
        ({"certificate": "own.crt"}, "certificate and key belong together"),
        ({"key": "own.key"}, "certificate and key belong together"),
        ({"brokers": ["mqtt://a"], "user": "u", "password_file": "p"}, "not encrypted"),
        ({"brokers": ["mqtt://a"], "certificate": "c", "key": "k"}, "not encrypted"),
        ({"ca": " "}, "the name of a file"),
        ({"ca": "~nobody-here/ca.crt"}, "home folder ~nobody-here is not known"),
        ({"version": "4"}, "'5' or '3.1.1'"),
        ({"broker": []}, "Extra inputs"),
    ],
)
def test_what_does_not_fit_together_is_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        MqttSection.model_validate(settings, context={"folder": Path("/etc/keycast")})


def test_files_stand_beside_the_configuration() -> None:
    settings = {"brokers": [BROKER], "ca": "ca.crt", "certificate": "/run/own.crt", "key": "keys/own.key"}
    section = MqttSection.model_validate(settings, context={"folder": Path("/etc/keycast")})
    folder = Path("/etc/keycast")
    assert section.files == BrokerFiles(folder / "ca.crt", Path("/run/own.crt"), folder / "keys" / "own.key")


def test_a_password_may_go_unencrypted_within_the_machine() -> None:
    for host in ("localhost", "127.0.0.1", "[::1]"):
        assert MqttSection(brokers=[f"mqtt://{host}"], user="u", password_file=Path("p")).user == "u"


def test_reading_it_needs_no_library_for_mqtt_or_certificates() -> None:
    heavy = "{'aiomqtt', 'cryptography'}"
    code = f"import sys, message_plane.links.mqtt_section; sys.exit(not {heavy}.isdisjoint(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=PATIENCE_S).returncode == 0
