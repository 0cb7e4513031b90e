"""The messages to Home Assistant: their form, their names, and what they can not say."""

import json
import string
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from gateway_agent.home_assistant import documents
from gateway_agent.home_assistant.naming import MqttNames, tag
from gateway_agent.home_assistant.publisher import Publisher
from gateway_agent.home_assistant.shown import ShownBoard, ShownGateway, ShownGroup, ShownHome, ShownUpdate
from tests.unit.home_assistant_schema import faults

NAMES = MqttNames("keycast", "homeassistant", "gw.home")
GATEWAY = ShownGateway("0.1.0", "0.1.0", True, ())
GROUP = ShownGroup("home/lights", "0.7", 3, 2, 600)
BOARD = ShownBoard("lamp.porch", "1.2", True, 1_700_000_000, 1_700_000_060, "wifi", "0.7", (("home/lights", "0.7"),))
HOME = ShownHome(GATEWAY, (GROUP,), (BOARD,))
PARTS = (GATEWAY, GROUP, BOARD)
ANY_NAME = st.text(min_size=1, max_size=80)
ALLOWED = set(string.ascii_letters + string.digits + "_-")


def found(shown, *, allowed=("update",), names=NAMES):
    topic, payload = documents.discovery(names, shown, "0.1.0", allowed)
    assert list(faults(topic, payload)) == []
    return json.loads(payload)


@pytest.mark.parametrize("shown", PARTS, ids=["gateway", "group", "board"])
@pytest.mark.parametrize("allowed", [(), ("update",), ("update", "permit", "expel", "delete")])
def test_a_discovery_message_is_what_the_documentation_asks_for(shown, allowed):
    found(shown, allowed=allowed)


def test_each_entity_that_people_are_promised_is_there():
    assert set(found(GATEWAY)["cmps"]) == {"alarm", "uplink", "version", "release"}
    assert set(found(GROUP)["cmps"]) == {"version", "confirmed", "members", "key_age", "re_keyed", "update"}
    assert set(found(BOARD)["cmps"]) == {"heard", "confirmed", "link", "version", "update"}
    assert found(GROUP)["cmps"]["re_keyed"]["evt_typ"][0] == "re-keyed"


def test_groups_and_boards_are_behind_the_gateway():
    gateway = found(GATEWAY)["dev"]["ids"]
    assert found(GROUP)["dev"]["via_device"] == found(BOARD)["dev"]["via_device"] == gateway
    assert "via_device" not in found(GATEWAY)["dev"]


def test_a_board_is_available_only_if_the_gateway_is_too():
    document = found(BOARD)
    assert document["avty_mode"] == "all"
    assert [each["t"] for each in document["avty"]] == [NAMES.availability, NAMES.board("lamp.porch", "availability")]
    assert [each["t"] for each in found(GROUP)["avty"]] == [NAMES.availability]


def test_a_button_that_is_not_allowed_is_removed():
    assert found(GROUP, allowed=("expel",))["cmps"]["update"] == {"p": "button"}
    assert found(GROUP)["cmps"]["update"]["cmd_t"] == NAMES.group("home/lights", "command")


@pytest.mark.parametrize("word", ["expel", "delete", "permit", "pair"])
def test_nothing_but_updating_has_an_entity(word):
    text = documents.discovery(NAMES, GROUP, "0.1.0", ("update", word))[1].decode()
    assert word not in text and word not in documents.discovery(NAMES, BOARD, "0.1.0", ("update", word))[1].decode()


def test_the_templates_of_the_discovery_read_what_the_states_say():
    """As Home Assistant reads them, by Jinja in its sandbox, which finds the methods of a dictionary, too."""
    update = ShownUpdate("fell-back", 5, 0, 7, "it crashed")
    read = {
        "gateway": {"alarm": "ON", "uplink": "ON", "version": "0.1.0", "release": "0.1.0"},
        "group": {"version": "0.7", "confirmed": "2", "members": "3", "key_age": "600"},
        "board": {"heard": "2023-11-14T22:13:20+00:00", "confirmed": "2023-11-14T22:14:20+00:00", "link": "wifi"}
        | {"version": "0.7", "update": "fell-back"},
    }
    for name, shown in {
        "gateway": replace(GATEWAY, installed="0.2.0", alarms=("no date",)),
        "group": GROUP,
        "board": replace(BOARD, update=update),
    }.items():
        components = found(shown)["cmps"]
        assert {key: rendered(shown, each["val_tpl"]) for key, each in components.items() if "val_tpl" in each} == (
            read[name]
        )
    assert rendered(replace(GATEWAY, installed="0.2.0"), found(GATEWAY)["cmps"]["release"]["l_ver_tpl"]) == "0.2.0"


def test_the_templates_of_what_is_shown_besides_are_json_that_says_what_the_states_say():
    update = ShownUpdate("fell-back", 5, 0, 7, "it crashed")
    details = {"agent": 5, "firmware": None, "offered": 7, "reason": "it crashed"}
    for shown, key, value in (
        (replace(GATEWAY, alarms=("no date",)), "alarm", {"alarms": ["no date"]}),
        (BOARD, "version", {"groups": {"home/lights": "0.7"}}),
        (replace(BOARD, update=update), "update", details),
        (BOARD, "update", {}),
    ):
        template = found(shown)["cmps"][key]["json_attr_tpl"]
        assert json.loads(rendered(shown, template)) == value


def rendered(shown, template):
    state = json.loads(dict(documents.states(NAMES, shown))[found(shown)["stat_t"]])
    reader = ImmutableSandboxedEnvironment(undefined=StrictUndefined)
    return reader.from_string(template).render(value_json=state)


def test_what_is_not_known_is_null_which_home_assistant_shows_as_unknown():
    board = ShownBoard("new", "", False, 0, 0, "", "", ())
    (_, state), (_, availability) = documents.states(NAMES, board)
    assert [json.loads(state)[key] for key in ("heard", "confirmed", "link", "version")] == [None] * 4
    assert availability == b"offline"


def test_the_update_of_a_board_is_shown_with_the_reason_for_which_it_went_back():
    update = ShownUpdate("fell-back", 5, 0, 7, "it did not reach its gateway with it")
    (_, octets), _ = documents.states(NAMES, replace(BOARD, update=update))
    state = json.loads(octets)
    assert state["update"] == "fell-back" and state["update"] in found(BOARD)["cmps"]["update"]["ops"]
    assert state["update_details"] == {
        "agent": 5,
        "firmware": None,
        "offered": 7,
        "reason": "it did not reach its gateway with it",
    }
    (_, octets), _ = documents.states(NAMES, replace(BOARD, update=replace(update, state="unknown")))
    assert json.loads(octets)["update"] is None  # the state of a later release is none of the options
    (_, octets), _ = documents.states(NAMES, BOARD)
    assert (json.loads(octets)["update"], json.loads(octets)["update_details"]) == (None, {})


def test_a_link_of_a_later_release_is_one_of_the_options():
    (_, state), _ = documents.states(NAMES, replace(BOARD, link="thread"))
    assert json.loads(state)["link"] in found(BOARD)["cmps"]["link"]["ops"]


@given(ANY_NAME)
def test_a_tag_has_allowed_characters_only(name):
    assert tag(name) and set(tag(name)) <= ALLOWED and len(tag(name)) <= 64


@given(ANY_NAME, ANY_NAME)
def test_two_names_never_have_the_same_tag(one, other):
    assert (tag(one) == tag(other)) == (one == other)


@pytest.mark.parametrize(
    "names",
    [
        ("a.b", "a_b", "a/b", "a b", "a__b", "a_2eb", "a-b"),
        ("x" * 65, "x" * 66, "x" * 64 + "_", "x" * 64),
        ("ä", "_c3_a4", "Ä", "a\u0308"),
    ],
)
def test_names_that_differ_only_in_refused_characters_stay_apart(names):
    assert len({tag(name) for name in names}) == len(names)


@given(ANY_NAME, ANY_NAME, ANY_NAME, ANY_NAME)
def test_no_two_devices_of_any_gateways_are_the_same(one, sg_id, other, pne_id):
    here, there = MqttNames("k", "h", one), MqttNames("k", "h", other)
    devices = [here.gateway_device, here.group_device(sg_id), here.board_device(sg_id), here.board_device(pne_id)]
    expected = 3 if sg_id == pne_id else 4
    assert len(set(devices)) == expected
    if one != other:
        assert not set(devices) & {there.gateway_device, there.group_device(sg_id), there.board_device(pne_id)}


def test_a_name_with_markup_and_right_to_left_marks_is_shown_by_number():
    document = found(replace(BOARD, pne_id="lamp\u202e<b>\n"))
    assert document["dev"]["name"] == "lamp\\u202e<b>\\n"


def sent(publisher, home):
    publisher.look(home)
    return dict(publisher.announcements(home)), dict(publisher.changes(home))


def test_everything_is_sent_once_and_then_only_what_changes():
    publisher = Publisher(NAMES, "0.1.0", ("update",))
    discovered, states = sent(publisher, HOME)
    assert len(discovered) == 3 and len(states) == 4
    assert sent(publisher, HOME) == ({}, {})
    changed = replace(HOME, groups=(replace(GROUP, confirmed=3),))
    assert sent(publisher, changed) == ({}, dict(documents.states(NAMES, changed.groups[0])))


def test_a_board_that_is_silent_changes_its_availability_alone():
    publisher = Publisher(NAMES, "0.1.0", ())
    sent(publisher, HOME)
    away = replace(HOME, boards=(replace(BOARD, available=False),))
    assert sent(publisher, away) == ({}, {NAMES.board("lamp.porch", "availability"): b"offline"})


def test_what_is_gone_is_forgotten_by_the_broker_its_discovery_first():
    publisher = Publisher(NAMES, "0.1.0", ())
    sent(publisher, HOME)
    assert publisher.gone() == []
    without = replace(HOME, boards=())
    assert publisher.look(without) is False
    assert publisher.gone() == [
        NAMES.config(NAMES.board_device("lamp.porch")),
        NAMES.board("lamp.porch", "availability"),
        NAMES.board("lamp.porch", "state"),
    ]
    publisher.forget(publisher.gone())
    assert publisher.gone() == []
    discovered, states = sent(publisher, HOME)
    assert len(discovered) == 1 and len(states) == 2


def test_what_an_earlier_run_has_left_under_other_topics_goes():
    before = Publisher(MqttNames("old", "ha", "gw.home"), "0.1.0", ())
    sent(before, HOME)
    publisher = Publisher(NAMES, "0.1.0", (), before.kept)
    assert publisher.look(HOME) is True
    assert set(publisher.gone()) == before.kept - publisher._topics != set()


def test_home_assistant_has_started_and_gets_the_discovery_again_but_no_states():
    publisher = Publisher(NAMES, "0.1.0", ())
    sent(publisher, HOME)
    publisher.announce_again()
    discovered, states = sent(publisher, HOME)
    assert len(discovered) == 3 and states == {}


def test_the_health_has_no_names():
    assert json.loads(documents.health((), ("the store cannot be written",), 0)) == {
        "live": True,
        "ready": False,
        "reasons": ["the store cannot be written"],
        "at": None,
    }
