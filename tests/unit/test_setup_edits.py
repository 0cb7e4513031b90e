"""`keycast setup` changes in a configuration file what was said, and nothing else."""

import tomllib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_agent.config.load import parse
from gateway_agent.errors import ConfigError
from keycast.setup.answers import HERE, HOME_NETWORK, MQTT, NOBODY, THIS_MACHINE, UDP, Answers, answers_in, settings_of
from keycast.setup.edits import changes_between, difference, edited
from keycast.setup.first_file import HEAD, new_text

BY_HAND = """\
# the gateway in the attic
[gateway]   # who it is
id = "gw.home"   # as on its label
pn = 'home'
state_dir = "/var/keycast"

# only these two: the third is the neighbour's
[broadcast]
interfaces = [
  "eth0",  # the cable
  "wlan0", # upstairs
]
port = 5688

[delivery]
stale_after_s = 7200  # the lock matters

# seen from the kitchen
[web]
port = 8687
# not from outside
listen = ["127.0.0.1"]

# Home Assistant
[mqtt]
broker = "mqtt://10.0.0.2"
allow = ["update"]
"""


def changed(text: str, **how: Any) -> str:
    before = answers_in(tomllib.loads(text))
    return edited(text, changes_between(settings_of(before), settings_of(replace(before, **how))))


def lines_changed(text: str, new: str) -> list[str]:
    return [line for line in difference(text, new, "")[2:] if line[0] in "+-"]


def test_without_another_answer_the_file_stays_as_it_is() -> None:
    assert changed(BY_HAND) == BY_HAND
    assert changed(BY_HAND.replace("\n", "\r\n")) == BY_HAND.replace("\n", "\r\n")


def test_a_value_is_exchanged_where_it_stands_beside_its_comment() -> None:
    assert lines_changed(BY_HAND, changed(BY_HAND, gateway="gw.attic")) == [
        '-id = "gw.home"   # as on its label',
        '+id = "gw.attic"   # as on its label',
    ]


def test_a_list_keeps_what_is_said_beside_its_other_values() -> None:
    new = changed(BY_HAND, interfaces=("eth0", "wlan1"))
    assert '  "eth0",  # the cable' in new and "# only these two" in new
    assert tomllib.loads(new)["broadcast"] == {"interfaces": ["eth0", "wlan1"], "port": 5688}


def test_a_new_key_stands_below_the_last_one_and_above_what_is_said_of_the_next_section() -> None:
    new = changed(BY_HAND, page_certificate="a.pem", page_key_file="b.pem")
    assert lines_changed(BY_HAND, new) == ['+tls_certificate = "a.pem"', '+tls_key = "b.pem"']
    assert new.index("tls_key") < new.index("# Home Assistant\n[mqtt]")


def test_a_section_goes_without_what_is_said_of_the_next_one() -> None:
    new = changed(BY_HAND, page=NOBODY)
    assert "web" not in tomllib.loads(new) and "# not from outside" not in new
    assert "# Home Assistant\n[mqtt]" in new


def test_a_new_section_stands_at_the_end_with_the_comment_of_a_first_file() -> None:
    new = changed(BY_HAND.rstrip("\n"), uplink=UDP, host="10.0.0.3")
    assert new.startswith(BY_HAND) and new.endswith('server_id = "server.local"\nhost = "10.0.0.3"\n')
    assert '\n\n[uplink]\nkind = "udp" # CPNS Server' in new


def test_settings_of_another_kind_of_uplink_stay_for_the_way_back() -> None:
    new = changed(changed(BY_HAND, uplink=UDP, host="10.0.0.3"), uplink=HERE)
    assert tomllib.loads(new)["uplink"] == {"kind": "embedded", "server_id": "server.local", "host": "10.0.0.3"}


def test_a_password_that_is_not_wanted_any_more_is_not_named_any_more() -> None:
    first = changed(BY_HAND, mqtt_user="ha", mqtt_password_file="ha.password")
    assert tomllib.loads(first)["mqtt"]["password_file"] == "ha.password"
    new = changed(first, mqtt_user="", mqtt_password_file="")
    assert tomllib.loads(new)["mqtt"] == {"broker": "mqtt://10.0.0.2", "allow": ["update"]}


def test_a_way_of_writing_that_cannot_be_changed_is_told() -> None:
    text = 'gateway = {id = "gw.home", pn = "home", state_dir = "s"}\nweb.port = 8687\nweb.listen = ["127.0.0.1"]\n'
    assert tomllib.loads(changed(text, gateway="gw.attic", page=NOBODY)) == {
        "gateway": {"id": "gw.attic", "pn": "home", "state_dir": "s"}
    }
    with pytest.raises(ConfigError, match=r"gateway\.id cannot be changed here. Change that in an editor"):
        edited('gateway = {id = "gw.home"}\n', {("gateway", "id"): float("nan")})


names = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=20)
answers = st.builds(
    Answers,
    gateway=names,
    pn=names,
    state=names.filter(str.strip),
    interfaces=st.lists(names, min_size=1, unique=True).map(tuple),
    uplink=st.sampled_from([HERE, UDP]),
    host=names,
    page=st.sampled_from([NOBODY, THIS_MACHINE, HOME_NETWORK]),
    page_port=st.integers(1, 65535),
    mqtt_broker=st.sampled_from(["", "mqtt://10.0.0.2"]),
    mqtt_user=names,
)


@settings(max_examples=30)
@given(answers, answers)
def test_the_new_answers_are_read_back_whatever_was_there(before: Answers, after: Answers) -> None:
    text = new_text(settings_of(before))
    assert settings_of(answers_in(tomllib.loads(text))) == settings_of(before)
    new = edited(text, changes_between(settings_of(before), settings_of(after)))
    found = settings_of(answers_in(tomllib.loads(new)))
    assert found == settings_of(after)
    assert new.startswith(HEAD)


def test_a_first_file_has_its_comments_in_one_column_and_is_accepted() -> None:
    files = {"brokers": ("mqtts://mqtt.example.org",), "broker_files": "/home/pi/gw.home"}
    text = new_text(settings_of(Answers(uplink=MQTT, server="cpns.example", ble="auto", **files)))
    assert {line.index("#") for line in text.splitlines()[1:] if " # " in line and len(line.split(" # ")[0]) < 28} == {
        28
    }
    section: Any = parse(text.encode()).uplink
    assert str(section.certificate) == "/home/pi/gw.home/client.crt" and section.server_id == "cpns.example"
    assert answers_in(tomllib.loads(text)).broker_files == "/home/pi/gw.home"
