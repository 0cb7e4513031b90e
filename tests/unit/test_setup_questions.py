"""The questions of `keycast setup`: which are put, what is their default, and what is no answer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from cpns.errors import NotAllowed
from gateway_agent.errors import GatewayError
from gateway_agent.net.interfaces import Interface
from keycast.setup.answers import AUTO, HERE, MQTT, NO_BLE, UDP, VIRTUAL_AIR, Answers, answers_in, settings_of
from keycast.setup.asking import Choice, NobodyThere
from keycast.setup.questions import Interview, Said
from keycast.setup.this_machine import ThisMachine
from message_plane import credentials
from message_plane.credentials import ROLE_SERVER

POINT = bytes.fromhex("6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296")
CREDENTIAL = credentials.of("server.local", ROLE_SERVER, POINT).ccs.hex()
WLAN = Interface("wlan0", "192.168.1.10", "192.168.1.255")
CABLE = Interface("veth0", "10.1.0.2", "10.1.0.255", unfit="the virtual cable of a container (veth)")
LO = Interface("lo", "127.0.0.1", "127.255.255.255")
HERE_IS = ThisMachine([LO, WLAN, CABLE], [])


@dataclass
class Person:
    """Answers by a word of the question: a text, the title of a choice or several, True or False; else the default."""

    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def _answer(self, question: str, default: Any) -> Any:
        self.asked.append(question)
        return next((answer for word, answer in self.answers.items() if word in question), default)

    def text(self, question: str, default: str, problem: Callable[[str], str]) -> str:
        answers = self._answer(question, default)
        for answer in answers if isinstance(answers, list) else [answers]:
            if not (wrong := problem(answer)):
                return str(answer)
            self.told.append(wrong)
        raise AssertionError(f"{question}: no answer of {answers!r} was accepted: {self.told}")

    def one(self, question: str, choices: Sequence[Choice]) -> str:
        title = self._answer(question, next((each for each in choices if each.chosen), choices[0]).title)
        return next(each.value for each in choices if title in each.title)

    def several(self, question: str, choices: Sequence[Choice], problem: Callable[[list[str]], str]) -> list[str]:
        titles = self._answer(question, [each.title for each in choices if each.chosen])
        values = [each.value for each in choices if any(title in each.title for title in titles)]
        assert not problem(values)
        return values

    def secret(self, question: str, *, twice: bool = False) -> str:
        return str(self._answer(question, ""))

    def sure(self, question: str, default: bool) -> bool:
        return bool(self._answer(question, default))

    def say(self, sentence: str) -> None:
        self.told.append(sentence)


@dataclass
class Brokers:
    """Brokers with a trouble for each trial in turn; then none has any."""

    troubles: list[str] = field(default_factory=list)
    tried: list[tuple[str, str]] = field(default_factory=list)

    def home_assistant(self, answers: Answers, password: str) -> str:
        self.tried.append((answers.mqtt_broker, password))
        return self.troubles.pop(0) if self.troubles else ""

    def uplink(self, answers: Answers, password: str) -> str:
        self.tried.append((" ".join(answers.brokers), password))
        return self.troubles.pop(0) if self.troubles else ""


def said_by(person: Any, before: Answers | None = None, *, here: ThisMachine = HERE_IS, **given: Any) -> Said:
    return Interview(person, here, given.pop("brokers_here", Brokers()), given).run(before or Answers())


def test_all_defaults_are_the_usual_gateway_and_each_question_is_put_once() -> None:
    person = Person()
    said = said_by(person)
    assert (said.answers, said.service) == (Answers(), "no")
    assert len(person.asked) == len(set(person.asked)) == 8 and not person.told


def test_answers_of_the_file_are_the_defaults() -> None:
    before = Answers(gateway="gw.attic", interfaces=("wlan0",), uplink=UDP, host="10.0.0.3", ble="hci")
    for person in (Person(), NobodyThere()):
        assert said_by(person, before).answers == before


def test_what_an_option_says_is_not_asked() -> None:
    person = Person()
    said = said_by(
        person,
        gateway="gw.attic",
        pn="attic",
        interfaces=["wlan0"],
        uplink=HERE,
        page="no",
        metrics="no",
        mqtt_broker="",
        service="no",
    )
    assert said.answers == Answers(gateway="gw.attic", pn="attic", interfaces=("wlan0",)) and not person.asked


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"gateway": ""}, "gateway.id: found ''"),
        ({"pn": "x" * 300}, "the PN ID is longer than 64 octets"),
        ({"gateway": "gw\n.home"}, "the PN GW ID has a character in it that does not show (U+000A)"),
        ({"pn": "ho\u202eme"}, "the PN ID has a character in it that does not show (U+202E)"),
        ({"interfaces": ["eth7"]}, "Interface 'eth7' under [broadcast] interfaces does not exist"),
        ({"host": ""}, "uplink.host: found '', expected a host name or an IP address"),
        ({"host": "udp://10.0.0.3"}, "expected a host name or an IP address, without scheme and port"),
        ({"brokers": ["mqtt.example.org"]}, "is not the address of a broker"),
        ({"brokers": ["mqtts://a"], "broker_files": "/none/there"}, "there is no folder /none/there"),
        ({"host": "10.0.0.3", "credential": "abc"}, "keycast server credential"),
        ({"host": "10.0.0.3", "server": "cpns.example", "credential": CREDENTIAL}, "the credential of server.local"),
    ],
)
def test_an_option_that_is_no_answer_is_refused_with_a_sentence(given: dict[str, Any], told: str) -> None:
    with pytest.raises(NotAllowed) as refused:
        said_by(NobodyThere(), **given)
    assert told in str(refused.value)


def test_a_text_that_is_no_answer_is_asked_for_again() -> None:
    person = Person({"gateway called": ["", "x" * 200, "gw.attic"]})
    assert said_by(person).answers.gateway == "gw.attic" and len(person.told) == 2


def test_networks_are_shown_with_what_was_found_and_why_one_is_left_out() -> None:
    seen: list[Choice] = []

    class Looking(Person):
        def several(self, question: str, choices: Sequence[Choice], problem: Callable[[list[str]], str]) -> list[str]:
            seen.extend(choices)
            assert "does not exist" in problem(["eth7"]) and problem([])
            return super().several(question, choices, problem)

    assert said_by(Looking({"networks": ["wlan0", "virtual boards"]})).answers.interfaces == (AUTO, "lo")
    assert [(each.value, each.chosen) for each in seen] == [(AUTO, True), ("lo", False), ("veth0", False)]
    assert "wlan0 192.168.1.10" in seen[0].title and "virtual cable" in seen[2].title


def test_where_boards_can_be_nowhere_else_the_cable_of_a_container_is_marked() -> None:
    assert said_by(NobodyThere(), here=ThisMachine([LO, CABLE], [])).answers.interfaces == (AUTO, "veth0")


def test_virtual_boards_hear_the_gateway_by_loopback_and_the_virtual_air() -> None:
    said = said_by(NobodyThere(), Answers(ble="auto"), virtual_boards=True)
    assert (said.answers.interfaces, said.answers.ble) == ((AUTO, "lo"), VIRTUAL_AIR)
    assert said_by(NobodyThere(), virtual_boards=True).answers.ble == NO_BLE


def test_bluetooth_is_asked_for_only_with_an_adapter() -> None:
    person = Person({"Bluetooth": "Yes (hci0)"})
    assert said_by(person, here=ThisMachine([WLAN], ["hci0"])).answers.ble == AUTO
    without = Person()
    assert said_by(without).answers.ble == NO_BLE and not any("Bluetooth" in each for each in without.asked)


def test_a_server_elsewhere_is_named_and_trusted() -> None:
    person = Person({"Where is": "over UDP", "address of": "10.0.0.3", "print there": ["abc", CREDENTIAL]})
    said = said_by(person)
    assert (said.answers.uplink, said.answers.host, said.credential) == (UDP, "10.0.0.3", CREDENTIAL)
    assert len(person.told) == 1


def test_brokers_are_tried_and_what_is_wrong_is_said_before_they_are_asked_for_again(tmp_path: Path) -> None:
    brokers = Brokers(["the broker mqtts://a:8883 is not there. Start it."])
    person = Person(
        {
            "Where is": "over MQTT",
            "Which MQTT brokers": "mqtts://a mqtts://b",
            "Password": "xyz",
            "What now": "once more",
        }
    )
    said = said_by(person, brokers_here=brokers)
    assert (said.answers.uplink, said.answers.brokers) == (MQTT, ("mqtts://a", "mqtts://b"))
    assert brokers.tried == [("mqtts://a mqtts://b", "xyz")] * 2 and "Start it." in person.told[0]
    assert said_by(NobodyThere(), brokers=["mqtts://a"], broker_files=tmp_path).answers.broker_files == str(tmp_path)
    (tmp_path / "gateways").mkdir()
    with pytest.raises(NotAllowed, match="Name those of this gateway"):
        said_by(NobodyThere(), brokers=["mqtts://a"], broker_files=tmp_path)


def test_nobody_is_there_and_a_broker_is_away_is_told_and_kept() -> None:
    brokers, nobody = Brokers(["It is not there. Start it."]), NobodyThere()
    said = said_by(nobody, brokers=["mqtts://a"], broker_files="", brokers_here=brokers)
    assert said.answers.brokers == ("mqtts://a",) and nobody.said == ["It is not there. Start it."]


def test_home_assistant_is_tried_and_what_is_wrong_is_said_before_the_person_goes_on_without() -> None:
    brokers = Brokers(["It is not there. Start it."] * 2)
    person = Person({"Home Assistant see": True, "Which user": "ha", "Password of ha": "xyz", "What now": "Without"})
    said = said_by(person, brokers_here=brokers)
    assert said.answers == Answers() and brokers.tried == [("mqtt://127.0.0.1", "xyz")]
    said = said_by(Person(person.answers | {"What now": "Keep"}), brokers_here=brokers)
    assert (said.answers.mqtt_broker, said.answers.mqtt_user, said.mqtt_password) == ("mqtt://127.0.0.1", "ha", "xyz")


def test_a_password_goes_to_another_machine_without_tls_only_if_that_is_said() -> None:
    elsewhere: dict[str, Any] = {"mqtt_broker": "mqtt://10.0.0.2", "mqtt_user": "ha", "mqtt_password_file": "file"}
    with pytest.raises(NotAllowed, match="--mqtt-plain"):
        said_by(NobodyThere(), **elsewhere)
    assert said_by(NobodyThere(), **elsewhere, mqtt_plain=True).answers.mqtt_plain
    assert said_by(Person({"Send it all the same": True}), **elsewhere).answers.mqtt_plain
    assert not said_by(NobodyThere(), **elsewhere | {"mqtt_broker": "mqtts://10.0.0.2"}).answers.mqtt_plain


def test_another_broker_without_a_user_has_no_password_any_more() -> None:
    before = Answers(mqtt_broker="mqtt://10.0.0.2", mqtt_user="ha", mqtt_password_file="ha.password", mqtt_plain=True)
    answers = said_by(Person({"Which MQTT": "mqtt://10.0.0.9", "Which user": ""}), before).answers
    assert answers == Answers(mqtt_broker="mqtt://10.0.0.9")
    answers = said_by(Person({"Which MQTT": "mqtt://10.0.0.9", "Send it": True}), before).answers
    assert answers == replace(before, mqtt_broker="mqtt://10.0.0.9")


def test_a_password_of_the_page_that_is_too_short_is_asked_for_again() -> None:
    class Typing(Person):
        def secret(self, question: str, *, twice: bool = False) -> str:
            assert twice
            return "short" if not self.told else "long enough"

    person = Typing({"web page": "this machine"})
    assert said_by(person).page_password == "long enough" and "less than 8" in person.told[0]
    with pytest.raises(GatewayError, match="less than 8"):
        said_by(NobodyThere(), page="this-machine", page_password="short")


def test_an_interruption_passes_through() -> None:
    class Leaves(Person):
        def secret(self, question: str, *, twice: bool = False) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        said_by(Leaves({"Where is": "over MQTT", "Which MQTT": "mqtts://a"}))


def test_no_password_is_in_what_is_printed_of_the_answers() -> None:
    said = Said(Answers(), page_password="hunter2", mqtt_password="hunter3", broker_password="hunter4")
    assert "hunter" not in repr(said)


@pytest.mark.parametrize(
    ("page", "metrics", "section"),
    [
        ("no", "no", None),
        ("no", "this-machine", {"open": False}),
        ("no", "home-network", {"open": True, "listen": ["0.0.0.0"]}),
        ("this-machine", "this-machine", {"open": False}),
        ("home-network", "home-network", {"open": True}),
    ],
)
def test_figures_are_where_the_page_is_or_on_their_own(page: str, metrics: str, section: dict[str, Any] | None) -> None:
    said = said_by(NobodyThere(), page=page, metrics=metrics)
    found = {name: values for name, values in settings_of(said.answers).items() if values is not None}
    assert found.get("metrics") == section
    again = said_by(Person(), answers_in(found))  # the answers of the file are those that Enter takes
    assert (again.answers.page, again.answers.metrics) == (page, metrics)


def test_figures_for_the_home_network_are_not_on_a_page_for_this_machine() -> None:
    with pytest.raises(NotAllowed, match="--web home-network"):
        said_by(NobodyThere(), page="this-machine", metrics="home-network")
    person = Person({"web page": "From this machine"})
    assert said_by(person, Answers(metrics="home-network")).answers.metrics == "this-machine"
