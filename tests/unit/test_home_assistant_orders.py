"""Commands over MQTT: what is carried out, and what is ignored and counted. The section [mqtt] beside it."""

import asyncio
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from gateway_agent.home_assistant import left_behind
from gateway_agent.home_assistant.home_broker import files_in_words, in_words, means_of
from gateway_agent.home_assistant.naming import MqttNames
from gateway_agent.home_assistant.orders import AT_ONCE, GivenOrder, OrderDesk
from gateway_agent.home_assistant.section import HomeAssistantSection
from gateway_agent.home_assistant.service import HomeAssistant
from message_plane.errors import BrokerFilesRefused
from message_plane.links.mqtt_section import broker_of
from message_plane.links.mqtt_trouble import BrokerTrouble

SG = "home/lights"
ALL = ("update", "permit", "expel", "delete")


class Desk:
    def __init__(self, *allowed):
        self.counters = Counter()
        self._desk = OrderDesk(allowed, self.counters)

    def read(self, payload, *, sg_id=SG, is_retained=False, now=100.0):
        return self._desk.read(sg_id, payload, is_retained=is_retained, now=now)


@pytest.mark.parametrize(
    ("payload", "order"),
    [
        (b"update", GivenOrder("group.update", {"sg_id": SG})),
        (b" update\n", GivenOrder("group.update", {"sg_id": SG})),
        (b"permit lamp.porch", GivenOrder("group.permit", {"sg_id": SG, "pne_id": "lamp.porch"})),
        (b"expel lamp.porch", GivenOrder("group.expel", {"sg_id": SG, "pne_id": "lamp.porch"})),
        (b"delete", GivenOrder("group.delete", {"sg_id": SG})),
    ],
)
def test_what_is_allowed_is_carried_out(payload, order):
    desk = Desk(*ALL)
    assert desk.read(payload) == order and not desk.counters


@pytest.mark.parametrize("payload", [b"permit a", b"expel a", b"delete"])
def test_only_an_update_is_allowed_unless_the_configuration_says_more(payload):
    desk = Desk(*HomeAssistantSection().allow)
    assert desk.read(b"update") is not None
    assert desk.read(payload) is None
    assert desk.counters == {"home_assistant_not_allowed": 1}


def test_nothing_is_allowed_with_an_empty_list():
    desk = Desk(*HomeAssistantSection(allow=[]).allow)
    assert desk.read(b"update") is None


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"", "unknown"),
        (b"re-key", "unknown"),
        (b"update now", "unknown"),
        (b"expel", "unknown"),
        (b"group.delete", "unknown"),
        (b"pair lamp 12345678", "unknown"),
        (b"\xff\xfe\x00", "unknown"),
        (b'{"do": "group.delete"}', "unknown"),
        (b"update" + bytes(1 << 20), "too_long"),
    ],
)
def test_rubbish_is_ignored_and_counted(payload, why):
    desk = Desk(*ALL)
    assert desk.read(payload) is None
    assert desk.counters == {f"home_assistant_{why}": 1}


def test_what_the_broker_has_kept_is_no_command():
    desk = Desk(*ALL)
    assert desk.read(b"update", is_retained=True) is None
    assert desk.counters == {"home_assistant_retained": 1}


def test_a_group_that_is_not_here_is_ignored():
    desk = Desk(*ALL)
    assert desk.read(b"update", sg_id=None) is None


def test_a_flood_is_cut_to_one_a_second():
    desk = Desk(*ALL)
    done = [desk.read(b"update", now=100 + turn / 100) for turn in range(1000)]
    carried_out = sum(order is not None for order in done)
    assert carried_out == AT_ONCE + 9  # in 9.99 s
    assert desk.counters["home_assistant_too_many"] == 1000 - carried_out
    assert desk.read(b"update", now=111.0) is not None  # somebody who waits is heard again


def test_what_is_not_allowed_takes_nothing_from_the_rate():
    desk = Desk("update")
    for payload in (b"delete", b"expel lamp", b"", bytes(1 << 20)) * 100:
        assert desk.read(payload) is None
    assert desk.read(b"update") is not None


async def test_when_home_assistant_has_started_the_gateways_announce_within_five_seconds_and_not_together():
    sight = SimpleNamespace(config=SimpleNamespace(gateway=SimpleNamespace(id="gw")), counters=Counter())
    loop = asyncio.get_running_loop()
    delays = []
    for _ in range(100):
        gateway = HomeAssistant(HomeAssistantSection(), sight)
        for payload in (b"offline", b"", b"online\0", b"ONLINE"):
            gateway._arrived("homeassistant/status", payload, retained=False)
        assert gateway._wishes.announcing is None
        before = loop.time()
        gateway._arrived("homeassistant/status", b"online", retained=False)
        timer = gateway._wishes.announcing
        delays.append(timer.when() - before)
        gateway._arrived("homeassistant/status", b"online", retained=False)  # again: one announcement is due
        assert gateway._wishes.announcing is timer and not timer.cancelled()
        timer.cancel()
        gateway._announce_again()
        assert gateway._wishes.announcing is None
    assert 0 <= min(delays) < 1 and 4 < max(delays) < 5.1


def test_the_topic_of_the_start_is_below_that_of_the_discovery():
    assert MqttNames("keycast", "elsewhere", "gw").birth == "elsewhere/status"


@pytest.mark.parametrize(
    "settings",
    [
        {"broker": "http://a"},
        {"prefix": "a/#"},
        {"prefix": ""},
        {"prefix": "a//b"},
        {"discovery": "$SYS"},
        {"allow": ["pair"]},
        {"allow": ["everything"]},
        {"certificate": Path("c.pem")},
        {"password_file": Path("secret")},
        {"broker": "mqtt://broker.example", "user": "keycast", "password_file": Path("secret")},
    ],
)
def test_a_section_that_cannot_work_is_refused(settings):
    with pytest.raises(ValidationError):
        HomeAssistantSection(**settings)


def test_the_shortest_section_is_a_broker_on_this_machine_that_lets_everybody_in():
    assert HomeAssistantSection().broker == "mqtt://127.0.0.1:1883"
    assert HomeAssistantSection(broker="mqtt://broker.example", user="keycast", password_file=Path("s"), plain=True)


def test_a_trouble_names_the_line_to_change(tmp_path):
    path = tmp_path / "keycast.toml"
    path.write_text('[gateway]\nid = "gw"\n[mqtt]\nbroker = "mqtt://127.0.0.1"\nuser = "keycast"\n')
    section = HomeAssistantSection(user="keycast")
    broker = broker_of(section.broker)
    away = in_words(BrokerTrouble(broker, "is not there", "Start it."), section, path)
    assert f"{path}, line 4: broker in [mqtt]" in away and "Start it." in away
    refused = in_words(BrokerTrouble(broker, "", "", of_user=True), section, path)
    assert f"{path}, line 5: user in [mqtt]" in refused and "password_file" in refused
    assert "See user in [mqtt]" in in_words(BrokerTrouble(broker, "", "", of_user=True), section, None)


def test_a_file_that_is_missing_is_told_with_the_line_that_names_it(tmp_path):
    path = tmp_path / "keycast.toml"
    path.write_text('[mqtt]\nbroker = "mqtt://127.0.0.1"\nuser = "keycast"\npassword_file = "none"\n')
    section = HomeAssistantSection(user="keycast", password_file=tmp_path / "none")
    with pytest.raises(BrokerFilesRefused) as missing:
        means_of(section, MqttNames("keycast", "homeassistant", "gw"))
    told = files_in_words(missing.value, section, path)
    assert f"{tmp_path / 'none'} does not exist" in told and f"{path}, line 4: password_file in [mqtt]" in told


def test_what_was_told_is_remembered(tmp_path):
    assert left_behind.load(tmp_path) == set()
    left_behind.save(tmp_path, {"a/b", "c"})
    left_behind.save(tmp_path, {"a/b"})
    assert left_behind.load(tmp_path) == {"a/b"}


@pytest.mark.parametrize("text", ["", "{", "[1, null]", '"a"', "5", '["a/#", ""]', "[" * 100_000])
def test_a_damaged_memory_costs_only_what_it_remembered(tmp_path, text):
    (tmp_path / left_behind.FILE).write_text(text)
    (tmp_path / left_behind.FILE).chmod(0o600)
    assert left_behind.load(tmp_path) <= {"a"}
