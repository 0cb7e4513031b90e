"""The questions of `keycast setup`, in their order, and what each answer changes. Nothing is written here.

A question that was answered by an option is not put. What `keycast gateway run` would refuse is no answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from cpns import name_rule
from cpns.errors import CpnsError, NotAllowed
from gateway_agent.config.load import parse
from gateway_agent.errors import ConfigError, NoBroadcastInterface
from gateway_agent.net.interfaces import choose
from gateway_agent.web import password
from keycast.broker.client_files import wrong_folder
from keycast.provisioning.end_to_end import server_credential
from keycast.services import units
from keycast.setup.answers import (
    AUTO,
    HERE,
    HOME_NETWORK,
    LOOPBACK,
    MQTT,
    NO_BLE,
    NOBODY,
    THIS_MACHINE,
    UDP,
    VIRTUAL_AIR,
    Answers,
    settings_of,
)
from keycast.setup.asking import Asking, Choice
from keycast.setup.first_file import new_text
from keycast.setup.this_machine import ThisMachine
from message_plane.links.mqtt_section import broker_of

OF_USER, OF_SYSTEM, SHOWN, NO_SERVICE = units.USER, units.SYSTEM, "show", "no"
"""How the gateway becomes a service: of this user, of the system, not yet but its unit is shown, or not at all."""
SERVICES = (OF_USER, OF_SYSTEM, SHOWN, NO_SERVICE)

_NAMES = {"gateway": "PN GW ID", "pn": "PN ID"}
"""Answers that are names of entities, which must be seen as they are. One that a file has already stays usable."""
_AGAIN, _KEEP, _WITHOUT = "again", "keep", "without"


@dataclass
class Said:
    """What was said: the answers that stand in the file, and what does not stand there.

    The passwords are "" where none was typed: that of the web page, and of this gateway at the two kinds of brokers.
    `credential`: that of a CPNS Server elsewhere, in hexadecimal, "" for later. `service` is one of the four words.
    """

    answers: Answers
    page_password: str = field(default="", repr=False)
    mqtt_password: str = field(default="", repr=False)
    broker_password: str = field(default="", repr=False)
    credential: str = ""
    service: str = NO_SERVICE


class Trials(Protocol):
    """Tries whether brokers let this gateway in. Each returns what is wrong with the next step, "" for nothing."""

    def home_assistant(self, answers: Answers, password: str) -> str:
        """Connect to the broker of Home Assistant. `password` is one that is in no file yet, or ""."""
        ...

    def uplink(self, answers: Answers, password: str) -> str:
        """Connect to the brokers on the way to the CPNS Server."""
        ...


class Interview:
    """One run of the questions. `given`: name of an option -> its value, None or absent if it was not typed."""

    def __init__(self, asking: Asking, here: ThisMachine, trials: Trials, given: Mapping[str, Any]) -> None:
        self._asking = asking
        self._here = here
        self._trials = trials
        self._given = {name: value for name, value in given.items() if value is not None}

    def run(self, before: Answers) -> Said:
        """Ask everything; `before` are the answers in the file that is there, or the usual ones.

        Raises KeyboardInterrupt if the person ends it, and NotAllowed for an option that is no answer.
        """
        said = Said(before)
        self._text(said, "gateway", "What is this gateway called?")
        self._text(said, "pn", "What is the Personal Network called, that is this home?")
        self._networks(said)
        self._server(said)
        self._bluetooth(said)
        self._page(said)
        self._metrics(said)
        self._home_assistant(said)
        self._service(said)
        if wrong := _refusal(said.answers):
            raise NotAllowed(wrong)
        return said

    def _text(self, said: Said, name: str, question: str, **also: Any) -> None:
        """Ask for the answer `name`, a text or a number, with which the answers `also` are given."""
        present = getattr(said.answers, name)

        def typed(text: str) -> Answers:
            value: Any = text
            if isinstance(present, int):
                if not text.isdecimal():
                    raise ConfigError(f"{text!r} is no number", "")
                value = int(text)
            return replace(said.answers, **also, **{name: value})

        def problem(text: str) -> str:
            if text and name in _NAMES and text != present and (fault := name_rule.fault(text)):
                return f"the {_NAMES[name]} {fault}"
            try:
                return _refusal(typed(text))
            except ConfigError as error:
                return str(error)

        if name in self._given:
            text = str(self._given[name])
            if wrong := problem(text):
                raise NotAllowed(wrong)
        else:
            text = self._asking.text(question, str(present), problem)
        said.answers = typed(text)

    def _one(self, name: str, question: str, choices: list[Choice]) -> str:
        return str(self._given[name]) if name in self._given else self._asking.one(question, choices)

    def _networks(self, said: Said) -> None:
        here, present = self._here, said.answers.interfaces
        if self._given.get("virtual_boards"):
            present = tuple(dict.fromkeys((*present, LOOPBACK)))
            said.answers = replace(said.answers, interfaces=present)
        if "interfaces" in self._given:
            present = tuple(self._given["interfaces"])
            if wrong := _no_network(list(present), here):
                raise NotAllowed(wrong)
        elif not self._given.get("virtual_boards"):
            found = ", ".join(f"{each.name} {each.address}" for each in here.automatic) or "none now"
            others = {each.device: f"{each.device} {each.address}: {why}" for each, why in here.others}
            others |= {each: f"{each}, named in the file" for each in present if each not in (AUTO, *others)}
            if LOOPBACK in others:
                others[LOOPBACK] = "virtual boards on this computer (lo)"
            only = [name for name in others if name != LOOPBACK] if present == (AUTO,) and not here.automatic else []
            choices = [Choice(AUTO, f"Ethernet and Wi-Fi, as they come and go ({found})", AUTO in present)]
            choices += [Choice(name, title, name in present or name in only) for name, title in others.items()]
            none = "" if not present else "mark one: without a network no board is reached by Wi-Fi"
            question = "On which networks are the boards?"
            present = tuple(
                self._asking.several(question, choices, lambda names: _no_network(names, here) if names else none)
            )
        said.answers = replace(said.answers, interfaces=present)

    def _server(self, said: Said) -> None:
        present = said.answers.uplink
        if "uplink" not in self._given and "brokers" in self._given:
            self._given["uplink"] = MQTT
        if "uplink" not in self._given and "host" in self._given:
            self._given["uplink"] = UDP
        titles = {
            HERE: "Here, in the gateway",
            UDP: "On another machine, over UDP",
            MQTT: "On another machine, over MQTT (many homes, one Server)",
        }
        choices = [Choice(kind, title, kind == present) for kind, title in titles.items()]
        kind = self._one("uplink", "Where is the CPNS Server, which knows the groups and draws their keys?", choices)
        if kind == UDP:
            self._text(said, "host", "What is the address of the CPNS Server?", uplink=UDP)
        elif kind == MQTT:
            self._brokers(said)
        said.answers = replace(said.answers, uplink=kind)
        if kind != HERE:
            self._text(said, "server", "What is the CPNS Server called?")
            self._trust(said)

    def _trust(self, said: Said) -> None:
        question = "What does `keycast server credential` print there? (leave it empty to say it later)"

        def problem(text: str) -> str:
            try:
                named = server_credential(text).entity_id if text else said.answers.server
            except CpnsError as wrong:
                return str(wrong)
            return "" if named == said.answers.server else f"that is the credential of {named}"

        said.credential = self._given.get("credential") or ""
        if said.credential and (wrong := problem(said.credential)):
            raise NotAllowed(wrong)
        said.credential = said.credential or self._asking.text(question, "", problem)

    def _brokers(self, said: Said) -> None:
        while True:
            self._urls(said)
            self._broker_files(said)
            answers = replace(said.answers, uplink=MQTT)
            problem = self._trials.uplink(answers, said.broker_password)
            if not problem or self._after(problem, may_go=False) == _KEEP:
                return
            for each in ("brokers", "broker_files", "broker_user", "broker_password_file"):
                self._given.pop(each, None)

    def _urls(self, said: Said) -> None:
        def problem(text: str) -> str:
            for url in text.split():
                try:
                    broker_of(url)
                except ValueError as wrong:
                    return f"{url!a} is not {wrong}"
            return "" if text.split() else "name at least one"

        if "brokers" in self._given:
            text = " ".join(self._given["brokers"])
            if wrong := problem(text):
                raise NotAllowed(wrong)
        else:
            present = " ".join(said.answers.brokers) or "mqtts://"
            text = self._asking.text("Which MQTT brokers? (with blanks between them)", present, problem)
        said.answers = replace(said.answers, brokers=tuple(text.split()))

    def _broker_files(self, said: Said) -> None:
        own = f"gateways/{said.answers.gateway}"

        def problem(text: str) -> str:
            if not text:
                return ""
            folder = Path(text).expanduser()
            return wrong_folder(folder, own, "this gateway") or (
                "" if folder.is_dir() else f"there is no folder {text}"
            )

        if "broker_password_file" in self._given:
            file = str(self._given["broker_password_file"])
            said.answers = replace(said.answers, broker_password_file=file, broker_files="")
            return
        if "broker_files" in self._given:
            text = str(self._given["broker_files"])
            if wrong := problem(text):
                raise NotAllowed(wrong)
        else:
            question = "The folder with ca.crt, client.crt and client.key for them? (empty: a password, or nothing)"
            text = self._asking.text(question, said.answers.broker_files, problem)
        files = str(Path(text).expanduser().absolute()) if text else ""
        said.answers = replace(said.answers, broker_files=files)
        if not files:
            said.broker_password = self._asking.secret("Password of this gateway there? (empty: none, or as before)")

    def _bluetooth(self, said: Said) -> None:
        present = said.answers.ble
        if "ble" in self._given:
            present = self._given["ble"]
        elif self._given.get("virtual_boards"):
            present = VIRTUAL_AIR if present != NO_BLE else NO_BLE
        elif self._here.adapters or present != NO_BLE:
            adapters = ", ".join(self._here.adapters) or "no adapter now"
            wanted = present if present != NO_BLE else AUTO
            choices = [
                Choice(wanted, f"Yes ({adapters})", present != NO_BLE),
                Choice(NO_BLE, "No, by Wi-Fi only", present == NO_BLE),
            ]
            present = self._asking.one("Shall keys go out by Bluetooth LE, too?", choices)
        said.answers = replace(said.answers, ble=present)

    def _page(self, said: Said) -> None:
        present = said.answers.page
        titles = {
            NOBODY: "No web page",
            THIS_MACHINE: "From this machine only (also through ssh)",
            HOME_NETWORK: "From the home network",
        }
        choices = [Choice(word, title, word == present) for word, title in titles.items()]
        page = self._one("page", "May the gateway be seen and steered on a web page?", choices)
        said.answers = replace(said.answers, page=page)
        if page == NOBODY:
            said.answers = replace(said.answers, page_certificate="", page_key_file="")
            return
        if "page_port" in self._given:
            self._text(said, "page_port", "")
        if page == HOME_NETWORK:
            self._certificate(said)
        self._page_password(said)

    def _metrics(self, said: Said) -> None:
        """Ask who may read the figures, which are where the page is if there is one. Raises NotAllowed."""
        titles = {NOBODY: "No", THIS_MACHINE: "From this machine", HOME_NETWORK: "From the home network"}
        if said.answers.page == THIS_MACHINE:
            titles.pop(HOME_NETWORK)
        present = said.answers.metrics if said.answers.metrics in titles else THIS_MACHINE
        choices = [Choice(word, title, word == present) for word, title in titles.items()]
        metrics = self._one("metrics", "May Prometheus read figures of the gateway, at /metrics?", choices)
        if metrics not in titles:
            raise NotAllowed("the figures are where the page is, which is for this machine only: --web home-network")
        said.answers = replace(said.answers, metrics=metrics)

    def _page_password(self, said: Said) -> None:
        """Ask for the password until it is none or can be used. Raises GatewayError for an option that cannot."""
        if "page_password" in self._given:
            said.page_password = self._given["page_password"]
            password.require_usable(said.page_password)
            return
        while True:
            question = "A password for the page (empty: none yet, or that of before)"
            said.page_password = self._asking.secret(question, twice=True)
            try:
                if said.page_password:
                    password.require_usable(said.page_password)
                return
            except password.PasswordUnusable as wrong:
                self._asking.say(str(wrong))

    def _certificate(self, said: Said) -> None:
        def problem(text: str) -> str:
            return "" if not text or Path(text).expanduser().is_file() else f"there is no file {text}"

        found: list[str] = []
        questions = {
            "page_certificate": "Its TLS certificate, a file (empty: none)",
            "page_key_file": "The key of that, a file",
        }
        for name, question in questions.items():
            if found == [""]:
                break
            text = self._given.get(name)
            if text is None:
                text = self._asking.text(question, getattr(said.answers, name), problem)
            elif wrong := problem(str(text)):
                raise NotAllowed(wrong)
            found.append(str(Path(text).expanduser().absolute()) if text else "")
        certificate, key = (*found, "")[:2]
        if not certificate:
            self._asking.say("Without TLS, whoever is on the home network can read the password and use it.")
        said.answers = replace(said.answers, page_certificate=certificate, page_key_file=key)

    def _home_assistant(self, said: Said) -> None:
        def problem(text: str) -> str:
            try:
                broker_of(text)
            except ValueError as wrong:
                return f"{text!a} is not {wrong}"
            return _refusal(replace(said.answers, mqtt_broker=text, mqtt_plain=True))  # which is asked below

        while True:
            present = said.answers.mqtt_broker
            if "mqtt_broker" in self._given:
                broker = self._given["mqtt_broker"]
                if broker and (wrong := problem(broker)):
                    raise NotAllowed(wrong)
            elif self._asking.sure("Shall Home Assistant see it, over MQTT?", bool(present)):
                question = "Which MQTT broker does Home Assistant use?"
                broker = self._asking.text(question, present or "mqtt://127.0.0.1", problem)
            else:
                broker = ""
            said.answers = replace(said.answers, mqtt_broker=broker)
            if not broker:
                said.answers = replace(said.answers, mqtt_user="", mqtt_password_file="", mqtt_ca="", mqtt_plain=False)
                return
            self._user(said)
            if not self._may_be_read(said):
                continue
            trouble = self._trials.home_assistant(said.answers, said.mqtt_password)
            choice = self._after(trouble, may_go=True) if trouble else _KEEP
            if choice == _KEEP:
                return
            for each in ("mqtt_broker", "mqtt_user", "mqtt_password_file"):
                self._given.pop(each, None)
            if choice == _WITHOUT:
                self._given["mqtt_broker"] = ""

    def _user(self, said: Said) -> None:
        before = said.answers.mqtt_password_file
        self._text(said, "mqtt_user", "Which user is the gateway there? (empty: none is needed)", mqtt_password_file="")
        said.answers = replace(said.answers, mqtt_password_file=before if said.answers.mqtt_user else "")
        if "mqtt_password_file" in self._given:
            said.answers = replace(said.answers, mqtt_password_file=str(self._given["mqtt_password_file"]))
        elif said.answers.mqtt_user:
            empty = "that of before" if before else "none"
            said.mqtt_password = self._asking.secret(f"Password of {said.answers.mqtt_user} (empty: {empty})")

    def _may_be_read(self, said: Said) -> bool:
        """Return False if a password would go to another machine without TLS, and the person does not want that.

        Raises NotAllowed if nobody is there to want it, and no option says so.
        """
        broker = broker_of(said.answers.mqtt_broker)
        if broker.tls or broker.is_local or not (said.mqtt_password or said.answers.mqtt_password_file):
            said.answers = replace(said.answers, mqtt_plain=False)
            return True
        question = "Without TLS (mqtts://) who is on the network between can read that password. Send it all the same?"
        is_plain = self._given.get("mqtt_plain") or self._asking.sure(question, said.answers.mqtt_plain)
        said.answers = replace(said.answers, mqtt_plain=bool(is_plain))
        if not is_plain and "mqtt_broker" in self._given:
            raise NotAllowed(
                f"{broker} is not encrypted, and the password could be read: write mqtts://, or --mqtt-plain"
            )
        return bool(is_plain)

    def _after(self, problem: str, *, may_go: bool) -> str:
        """Tell what is wrong with a broker; return what the person wants to do about it."""
        self._asking.say(problem)
        choices = [
            Choice(_AGAIN, "Say it once more, or try again"),
            Choice(_KEEP, "Keep it as it is: the gateway goes on trying", True),
            *([Choice(_WITHOUT, "Without Home Assistant")] if may_go else []),
        ]
        return self._asking.one("What now?", choices)

    def _service(self, said: Said) -> None:
        titles = {
            NO_SERVICE: "No: I start it in a terminal",
            OF_USER: "Yes, as a service of mine",
            OF_SYSTEM: "Yes, as a service of the system (needs root)",
            SHOWN: "Show me the unit, I do it myself",
        }
        choices = [Choice(word, title) for word, title in titles.items()]
        if hindrance := self._here.no_service.get(self._given.get("service", NO_SERVICE)):
            raise NotAllowed(hindrance)
        said.service = self._one("service", "Shall the gateway start with this machine, and run on?", choices)
        while hindrance := self._here.no_service.get(said.service):
            self._asking.say(hindrance)
            said.service = self._asking.one("How then?", choices)


def _refusal(answers: Answers) -> str:
    """Return what a gateway would say against a file with these answers, "" for nothing."""
    try:
        parse(new_text(settings_of(answers)).encode(), "")
    except ConfigError as wrong:
        return str(wrong).partition(": ")[2] or str(wrong)
    return ""


def _no_network(names: list[str], here: ThisMachine) -> str:
    try:
        choose(names, here.networks)
    except NoBroadcastInterface as wrong:
        return str(wrong)
    return ""
