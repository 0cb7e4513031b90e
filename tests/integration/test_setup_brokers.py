"""`keycast setup` tries real brokers with passwords that are in no file yet, and names what they refuse."""

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from keycast.setup.answers import MQTT, Answers
from keycast.setup.broker_trials import BrokerTrials
from message_plane.links.mqtt_topics import tag_of
from tests.unit.mosquitto_broker import Mosquitto, mosquitto

pytestmark = pytest.mark.real_time

PASSWORD = "correct horse"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker that asks for a password: of the user ha, and of this gateway by its tag."""
    folder = tmp_path / "broker"
    folder.mkdir()
    passwords = folder / "passwords"
    passwords.touch(0o600)
    with mosquitto(tmp_path / "broker", more=f"password_file {passwords}\nallow_anonymous false") as broker:
        for user in ("ha", tag_of("gw.home")):
            subprocess.run(["mosquitto_passwd", "-b", passwords, user, PASSWORD], check=True, capture_output=True)
        broker.kill()
        broker.start()
        yield broker


def test_the_broker_of_home_assistant_lets_it_in_or_says_what_to_change(tmp_path: Path, broker: Mosquitto) -> None:
    trials = BrokerTrials(tmp_path)
    answers = Answers(mqtt_broker=broker.url, mqtt_user="ha")
    assert trials.home_assistant(answers, PASSWORD) == ""
    assert "refuses the user ha or its password" in trials.home_assistant(answers, "wrong")
    assert "refuses a gateway without a user" in trials.home_assistant(replace(answers, mqtt_user=""), "")
    (tmp_path / "ha.password").write_text(PASSWORD)
    (tmp_path / "ha.password").chmod(0o600)
    assert trials.home_assistant(replace(answers, mqtt_password_file="ha.password"), "") == ""
    assert "does not exist" in trials.home_assistant(replace(answers, mqtt_password_file="none"), "")
    broker.kill()
    assert "nothing listens at this port" in trials.home_assistant(answers, PASSWORD)


def test_a_password_is_not_sent_where_it_could_be_read(tmp_path: Path) -> None:
    answers = Answers(mqtt_broker="mqtt://192.0.2.1", mqtt_user="ha")
    assert "is not encrypted" in BrokerTrials(tmp_path).home_assistant(answers, PASSWORD)


def test_the_brokers_of_the_uplink_let_it_in_or_say_what_to_change(tmp_path: Path, broker: Mosquitto) -> None:
    trials, answers = BrokerTrials(tmp_path), Answers(uplink=MQTT, brokers=(broker.url,))
    assert trials.uplink(answers, PASSWORD) == ""
    assert broker.url in trials.uplink(answers, "wrong")
    assert not [each for each in tmp_path.iterdir() if each.name != "broker"]
