"""A gateway in Home Assistant's broker, a real Mosquitto: what it keeps there, what it takes, and that keys flow on."""

import asyncio
import base64
import contextlib
import json
import subprocess
import time

import aiomqtt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cpns import numbers
from gateway_agent.config.load import load
from gateway_agent.core import alarms
from gateway_agent.home_assistant import service as home_assistant
from gateway_agent.home_assistant.naming import MqttNames
from gateway_agent.home_assistant.trial import try_broker
from gateway_agent.observe.plain import plain
from keycast.services.gateway_trial import trial
from keycast.services.home import open_home
from message_plane.identity import OwnIdentity
from suit import numbers as n
from tests.unit.home_assistant_schema import faults
from tests.unit.home_world import BOARDS, SG, Home, ask, configured
from tests.unit.mosquitto_broker import mosquitto
from tests.unit.update_world import Board, signed
from tests.waiting import until

pytestmark = pytest.mark.real_time

NAMES = MqttNames("keycast", "homeassistant", "gw.home")
COMMAND = NAMES.group(SG, "command")
STATE = NAMES.group(SG, "state")
PAIRING = b"pair10octe"
PASSWORD = "a password that nobody guesses"


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """What is done once a minute, or up to five seconds later, is done soon."""
    monkeypatch.setattr(home_assistant, "TOGETHER_S", 0.05)
    monkeypatch.setattr(home_assistant, "JITTER_S", 0.05)
    monkeypatch.setattr(home_assistant, "LOOK_EVERY_S", 1.0)


@pytest.fixture
def broker(tmp_path):
    with mosquitto(tmp_path / "broker") as broker:
        yield broker


class Ear:
    """Hears everything at a broker. `kept`: what it keeps, `heard`: all messages, oldest first."""

    def __init__(self, broker, **login):
        self.heard, self.kept = [], {}
        self._broker, self._login = broker, login

    @contextlib.asynccontextmanager
    async def listening(self):
        async with aiomqtt.Client("127.0.0.1", self._broker.port, **self._login) as self.client:
            await self.client.subscribe("#", qos=1)
            task = asyncio.create_task(self._listen())
            try:
                yield self
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _listen(self):
        async for message in self.client.messages:
            topic = str(message.topic)
            self.heard.append((topic, message.payload))
            self.kept[topic] = message.payload
            if not message.payload:
                del self.kept[topic]

    async def say(self, topic, payload, **how):
        await self.client.publish(topic, payload, qos=1, **how)

    def state(self, topic=STATE):
        return json.loads(self.kept.get(topic, b"{}"))

    def events(self):
        return [json.loads(payload)["event_type"] for topic, payload in self.heard if topic.endswith("/event")]


class Place(Home):
    """A home with a section [mqtt]. Its boards hear nothing, as there is no network."""

    def __init__(self, folder, broker, more=""):
        folder.mkdir(exist_ok=True)
        self.path = configured(folder)
        self.path.write_text(self.path.read_text() + f'[mqtt]\nbroker = "{broker.url}"\n{more}\n')
        self.config = load(self.path)
        self.state = self.config.gateway.state_dir
        self.secrets = set()

    @contextlib.asynccontextmanager
    async def running(self):
        async with open_home(self.config, config_path=self.path) as service:
            await service.start()
            yield service

    def configure(self, old, new):
        self.path.write_text(self.path.read_text().replace(old, new))
        self.config = load(self.path)


@pytest.fixture
def place(tmp_path, broker):
    return Place(tmp_path / "home", broker)


def alarm(service):
    found = [each.text for each in service.app.gateway.administration.alarms() if each.kind == alarms.MQTT]
    return found[0] if found else ""


def version(service):
    return service.server._store.newest_key(SG).version


async def test_a_whole_run_shows_the_house_and_no_secret(place, broker):
    async with Ear(broker).listening() as ear, place.running() as service:
        await until(lambda: ear.kept.get(NAMES.availability) == b"online")
        await place.live(service)
        boards = [NAMES.config(NAMES.board_device(name)) for name in BOARDS]
        await until(lambda: ear.state().get("members") == 3 and set(boards) <= ear.kept.keys())
        await until(lambda: NAMES.health in ear.kept)
        discovered = {topic: payload for topic, payload in ear.kept.items() if topic.endswith("/config")}
        assert len(discovered) == 1 + 1 + len(BOARDS)
        assert [fault for each in discovered.items() for fault in faults(*each)] == []
        before = version(service)
        await ear.say(COMMAND, "update")
        await until(lambda: version(service) > before)
        await until(lambda: (ear.state().get("version") or "").endswith(f".{version(service) & 0xFFFF}"))
        await until(lambda: "re-keyed" in ear.events())
        place.note(service)
        place.secrets |= {PAIRING, service.server._store.newest_key(SG).key}
        pairing = asyncio.create_task(service.app.pair("new", PAIRING))
        await until(lambda: "pairing-opened" in [plain(each)["kind"] for each in service.app.stream.recent()])
        await ear.say(COMMAND, "pair new")
        pairing.cancel()
        await asyncio.gather(pairing, return_exceptions=True)
        service.app.registrar.retire("desk")
        await until(lambda: not [topic for topic in ear.kept if "desk" in topic])
        await until(lambda: ear.state()["members"] == 2)
    async with Ear(broker).listening() as after:
        await until(lambda: after.kept.get(NAMES.availability) == b"offline")
    assert place.secrets and len(ear.heard) > 20
    texts = b"\n".join(topic.encode() + b" " + payload for topic, payload in ear.heard)
    for secret in place.secrets:
        for form in (secret, secret.hex().encode(), base64.b64encode(secret), base64.urlsafe_b64encode(secret)):
            assert form.strip(b"=") not in texts


async def test_the_update_is_in_the_name_of_mqtt(place, broker):
    async with Ear(broker).listening() as ear, place.running() as service:
        await place.live(service)
        await until(lambda: STATE in ear.kept)
        before = version(service)
        await ear.say(COMMAND, "update")
        await until(lambda: version(service) > before)
        assert any("group.update" in str(each) and "MQTT" in str(each) for each in service.server.audit.page(10, 0))


async def test_rubbish_retained_commands_and_floods_do_nothing(place, broker):
    async with Ear(broker).listening() as ear:
        await ear.say(COMMAND, "update", retain=True)
        async with place.running() as service:
            counters = service.app.counters
            await place.live(service)
            await until(lambda: STATE in ear.kept)
            begun = version(service)
            await until(lambda: counters["home_assistant_retained"])
            await ear.say(COMMAND, b"update" + bytes(1 << 20))
            for payload in (b"", b"delete", b"expel lamp", b"pair lamp 1234", b"\xff", b'{"do": "group.delete"}'):
                await ear.say(COMMAND, payload)
            await ear.say(NAMES.group("no/such", "command"), "update")
            await until(lambda: counters["home_assistant_unknown"] >= 4 and counters["home_assistant_not_allowed"] == 2)
            assert version(service) == begun
            for _ in range(200):
                await ear.say(COMMAND, "update")
            await until(lambda: version(service) > begun)
            await until(lambda: counters["home_assistant_too_many"] > 100)
            assert service.server.list_groups() and not alarm(service)


async def test_what_is_allowed_besides_is_carried_out(tmp_path, broker):
    place = Place(tmp_path / "home", broker, 'allow = ["expel", "delete"]')
    async with Ear(broker).listening() as ear, place.running() as service:
        await place.live(service)
        await until(lambda: ear.state().get("members") == 3)
        assert json.loads(ear.kept[NAMES.config(NAMES.group_device(SG))])["cmps"]["update"] == {"p": "button"}
        await ear.say(COMMAND, "expel desk")
        await until(lambda: ear.state()["members"] == 2)
        await ear.say(COMMAND, "expel nobody")
        await until(lambda: service.app.counters["home_assistant_refused"] == 1)
        await ear.say(COMMAND, "delete")
        gone = (STATE, NAMES.config(NAMES.group_device(SG)))
        await until(lambda: not ear.kept.keys() & {*gone})


async def test_home_assistant_has_started(place, broker):
    async with Ear(broker).listening() as ear, place.running():
        config = NAMES.config(NAMES.gateway_device)
        await until(lambda: config in ear.kept and NAMES.state in ear.kept)
        for _ in range(5):
            await ear.say(NAMES.birth, "offline")
            await ear.say(NAMES.birth, "online")
        heard = [topic for topic, _ in ear.heard].count
        await until(lambda: heard(config) >= 2)
        assert heard(NAMES.state) <= heard(config) + 2


async def test_the_broker_goes_and_comes_back(place, broker):
    async with place.running() as service:
        async with Ear(broker).listening() as ear:
            await place.live(service)
            await until(lambda: ear.state().get("members") == 3)
        broker.kill()
        await until(lambda: alarm(service))
        assert "line" in alarm(service) and "broker in [mqtt]" in alarm(service)
        before = version(service)
        service.server.update_key(SG)  # keys flow on
        await until(lambda: service.app.gateway.administration.groups()[0].group.version > before)
        service.app.registrar.retire("desk")
        broker.start()
        async with Ear(broker).listening() as ear:
            await until(lambda: ear.state().get("members") == 2 and not alarm(service))
            await until(lambda: not [topic for topic in ear.kept if "desk" in topic])
            assert ear.kept[NAMES.availability] == b"online"


async def test_nothing_is_left_under_another_prefix_or_of_what_went_meanwhile(place, broker):
    async with Ear(broker).listening() as ear:
        async with place.running() as service:
            await place.live(service)
            await until(lambda: ear.state().get("members") == 3)
        async with open_home(load(place.path).model_copy(update={"mqtt": None})) as service:
            await service.start()
            service.app.registrar.retire("desk")
        place.configure("[mqtt]", '[mqtt]\nprefix = "other"\ndiscovery = "ha"')
        async with place.running():
            await until(lambda: ear.kept.get("other/gw_2ehome/availability") == b"online")
            await until(lambda: not [topic for topic in ear.kept if topic.startswith(("keycast", "homeassistant"))])
            assert not [topic for topic in ear.kept if "desk" in topic]


def users(folder, **passwords):
    path = folder / "passwords"
    path.write_text("".join(f"{user}:{password}\n" for user, password in passwords.items()))
    path.chmod(0o600)
    subprocess.run(["mosquitto_passwd", "-U", str(path)], check=True)
    return f"allow_anonymous false\npassword_file {path}"


async def test_a_wrong_password_and_no_user_are_told_with_the_line(tmp_path):
    with mosquitto(tmp_path / "broker", more=users(tmp_path, keycast=PASSWORD)) as broker:
        place = Place(tmp_path / "home", broker)
        async with place.running() as service:
            await until(lambda: "password_file" in alarm(service))
            assert f"{place.path}, line" in alarm(service)
            await place.live(service)
            assert version(service)
        secret = place.path.parent / "password"
        secret.write_text("wrong")
        secret.chmod(0o600)
        place.configure("[mqtt]", f'[mqtt]\nuser = "keycast"\npassword_file = "{secret}"')
        async with place.running() as service:
            await until(lambda: "refuses the user keycast" in alarm(service))
            secret.write_text(PASSWORD + "\n")
            async with Ear(broker, username="keycast", password=PASSWORD).listening() as ear:
                await until(lambda: ear.kept.get(NAMES.availability) == b"online")
                await until(lambda: not alarm(service))
                assert PASSWORD not in str(ear.heard)


async def test_a_broker_may_refuse_a_topic(tmp_path):
    access = f"topic readwrite homeassistant/#\ntopic read {COMMAND}\ntopic read keycast/#\n"
    with mosquitto(tmp_path / "broker", access=access) as broker:
        async with Place(tmp_path / "home", broker).running() as service:
            await until(lambda: "does not let" in alarm(service) and "keycast/gw_2ehome" in alarm(service))


async def test_a_trial_says_what_is_wrong_and_disturbs_nobody(place, broker):
    section = place.config.mqtt
    async with place.running() as service, Ear(broker).listening() as ear:
        await until(lambda: ear.kept.get(NAMES.availability) == b"online")
        assert await try_broker(section, "gw.home") == ""
        assert [payload for topic, payload in ear.heard if topic == NAMES.availability] == [b"online"]
        assert not alarm(service)
    assert (await trial(place.config, place.path)).home_assistant == ""
    broker.stop()
    told = (await trial(place.config, place.path)).home_assistant
    assert told and f"{place.path}, line" in told
    assert "nothing listens at this port" in await try_broker(section, "gw.home", place.path)
    lacking = section.model_copy(update={"user": "keycast", "password_file": place.path.with_name("none")})
    assert "Write the password of the user into it" in await try_broker(lacking, "gw.home", place.path)


async def test_a_key_for_many_boards_is_told_at_a_rate(place, broker, monkeypatch):
    monkeypatch.setattr(home_assistant, "STATES_AT_ONCE", 2)
    monkeypatch.setattr(home_assistant, "STATES_PAUSE_S", 0.2)
    pauses = []
    sleep = asyncio.sleep

    async def counted(seconds, *rest):
        pauses.append(seconds)
        await sleep(seconds, *rest)

    async with Ear(broker).listening() as ear, place.running() as service:
        await until(lambda: ear.kept.get(NAMES.availability) == b"online")
        monkeypatch.setattr(home_assistant.asyncio, "sleep", counted)
        await place.live(service)
        await until(lambda: ear.state().get("members") == 3)
        await until(lambda: 0.2 in pauses)


async def test_each_step_of_an_update_is_told_though_no_event_says_so(place, broker, monkeypatch):
    monkeypatch.setattr(home_assistant, "LOOK_EVERY_S", 3600.0)
    monkeypatch.setattr(home_assistant, "LOOK_OFTEN_S", 0.1)
    name = BOARDS[0]
    async with Ear(broker).listening() as ear, place.running() as service:
        service.server.create_group(SG)
        service.app.register(OwnIdentity(name, "pne", ec.generate_private_key(ec.SECP256R1())).credential)
        await ask(service, name, numbers.GKDK_ASSIGNMENT_REQUEST, {})
        with service.app._store.transaction():
            service.app._store.pn.set_heard(name, int(time.time()), "192.0.2.1:5683", "wifi")
        lamp, shown = Board(None), NAMES.board(name, "state")

        async def reports(state, word, **more):
            lamp.state, lamp.wanted = state, 7
            service.app.updates.handle(name, lamp.report_octets())
            details = {"agent": None, "firmware": None, "offered": 7, "reason": None} | more
            wanted = {"update": word, "update_details": details}
            await until(lambda: wanted.items() <= ear.state(shown).items())

        service.app.updates.handle(name, lamp.report_octets())
        await service.app.updates.offer(base64.b64encode(signed(7)).decode())
        await reports(n.COLLECTING, "collecting")
        await reports(n.WAITING, "waiting")
        await reports(n.TRIAL, "trial")
        lamp.agent_number = 7
        await reports(n.IDLE, "idle", agent=7, offered=None)
