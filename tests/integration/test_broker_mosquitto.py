"""The files of `keycast server broker-files` in a real Mosquitto, and the trial of good and of bad brokers."""

import asyncio
import datetime
import gc
import json
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from keycast.broker import own_broker
from keycast.broker.folder import WantedFiles, bring_up
from keycast.broker.mqtt_end import Login, MqttEnd
from keycast.broker.own_broker import NoBroker
from keycast.free_ports import free_port
from keycast.program import program
from message_plane.links.mqtt_section import broker_of
from message_plane.links.mqtt_topics import EVERY_PRESENCE, database, down, presence, tag_of, up
from message_plane.links.mqtt_trouble import BrokerTrouble
from tests.waiting import PATIENCE_S

pytestmark = pytest.mark.real_time
A, B, SERVER = map(tag_of, ("gw.a", "gw.b", "server.local"))
LAST = b"the last one"


@pytest.fixture
def port() -> int:
    try:
        own_broker.mosquitto()
    except NoBroker as error:
        pytest.skip(str(error))
    return free_port()


def write_files(folder: Path, port: int, **how: Any) -> Path:
    wanted = {"server_id": "server.local", "gateways": ["gw.a", "gw.b"], "has_authority": True, "processes": 2} | how
    bring_up(
        folder,
        WantedFiles(brokers=[["localhost", "127.0.0.1"]], port=port, **wanted),
        datetime.datetime.now(datetime.UTC),
    )
    return folder / "brokers" / "localhost" / "mosquitto.conf"


@asynccontextmanager
async def broker(configuration: Path, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    async with own_broker.running(configuration, port) as process:
        yield process


def end(folder: Path, port: int, client: str, client_id: str = "x", version: str = "5") -> MqttEnd:
    context = ssl.create_default_context(cafile=folder / client / "ca.crt")
    context.load_cert_chain(folder / client / "client.crt", folder / client / "client.key")
    return MqttEnd(broker_of(f"mqtts://localhost:{port}"), Login(context), client_id, version).connect()


def typed(*words: object) -> Result:
    texts = ["server", *map(str, words)]
    return CliRunner().invoke(program(texts), texts)


async def broker_test(url: str, *words: object) -> dict[tuple[str, str], Any]:
    """(version, check) -> result. It runs in a thread, as the loop is that of the broker's process."""
    result = await asyncio.to_thread(typed, "broker-test", url, *words, "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == (0 if found["passed"] else 1), result.output
    return {(each["mqtt"], each["check"]): each for each in found["checks"]}


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_a_gateway_has_its_own_topics_and_no_others(tmp_path: Path, port: int, version: str) -> None:
    async with broker(write_files(tmp_path, port), port):
        a, b, server = (
            end(tmp_path, port, client, version=version) for client in ("gateways/gw.a", "gateways/gw.b", "server")
        )
        second = end(tmp_path, port, "server-2", version=version)
        for gateway in (a, b):
            gateway.subscribe("keycast/1/#", "#", "+/+/dn/+", down(A), down(B), up(A), up(B))
        server.subscribe("keycast/1/up/+/+", EVERY_PRESENCE)
        theirs = [down(A), down(B), up(B), presence(B), presence(SERVER), database(SERVER)]
        theirs += [f"{up(A)}/x", f"keycast/1/up/{A}", "keycast/1", "other"]
        for topic in theirs:
            refused = a.publish(topic, b"forged")
            assert refused or version == "3.1.1"  # which cannot say so
        for topic in (up(A), presence(A), presence(A)):
            assert a.publish(topic, b"own") == ""
        for sender in (server, second):
            for topic in (down(A), down(B), presence(SERVER), database(SERVER)):
                assert sender.publish(topic, topic.encode()) == ""
        a.publish(up(A), LAST)
        server.publish(presence(SERVER), LAST)

        assert server.wait_for(up(A), LAST)
        assert {message.topic for message in server.heard} == {up(A), presence(A), presence(SERVER)}
        for gateway, own in ((a, A), (b, B)):
            assert gateway.wait_for(presence(SERVER), LAST)
            assert {message.topic for message in gateway.heard} == {down(own), presence(SERVER)}
        for each in (a, b, server, second):
            each.close()


async def test_a_gateway_cannot_take_the_place_of_another_one(tmp_path: Path, port: int) -> None:
    """Client IDs are the names in certificates: neither connection ends, and each hears its own."""
    async with broker(write_files(tmp_path, port), port):
        b, a = end(tmp_path, port, "gateways/gw.b", B), end(tmp_path, port, "gateways/gw.a", B)
        server = end(tmp_path, port, "server")
        for gateway, own in ((a, A), (b, B)):
            gateway.subscribe(down(own))
            server.publish(down(own), LAST)
            assert gateway.wait_for(down(own), LAST)
        for each in (a, b, server):
            each.close()


async def test_a_revoked_gateway_is_cut_off_at_once(tmp_path: Path, port: int) -> None:
    """Both while it is connected and when it comes back; another certificate of the same gateway is good again."""
    async with broker(write_files(tmp_path, port), port) as process:
        a, server = end(tmp_path, port, "gateways/gw.a"), end(tmp_path, port, "server")
        b = end(tmp_path, port, "gateways/gw.b")
        server.subscribe("keycast/1/up/+/+")
        assert a.publish(up(A), b"before") == ""
        assert server.wait_for(up(A), b"before")

        write_files(tmp_path, port, revoked=["gw.a"], gateways=[])
        process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(PATIENCE_S):
            while not a.publish(up(A), b"after"):  # the broker does not tell that it has read them
                await asyncio.sleep(0.05)
        with pytest.raises(BrokerTrouble):
            end(tmp_path, port, "gateways/gw.a")
        server.heard.clear()
        assert b.publish(up(B), LAST) == "" and server.wait_for(up(B), LAST)
        a.close()

        write_files(tmp_path, port, gateways=["gw.a"])
        process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(PATIENCE_S):
            while (a := end(tmp_path, port, "gateways/gw.a")).publish(up(A), b"again"):
                a.close()
                await asyncio.sleep(0.05)
        assert server.wait_for(up(A), b"again")
        for each in (a, b, server):
            each.close()


async def test_our_own_files_pass_the_trial(tmp_path: Path, port: int) -> None:
    """It does not touch the ends that are connected: their sessions stay, and they hear nothing of it."""
    async with broker(write_files(tmp_path, port), port):
        server, gateway = end(tmp_path, port, "server"), end(tmp_path, port, "gateways/gw.a")
        gateway.subscribe(down(A))
        found = await broker_test(f"mqtts://localhost:{port}", "--files", tmp_path)
        assert len(found) == 24 and all(each["passed"] for each in found.values()), found
        assert server.publish(down(A), LAST) == "" and gateway.wait_for(down(A), LAST)
        assert [message.payload for message in gateway.heard] == [LAST]
        late = end(tmp_path, port, "server-2")
        late.subscribe(EVERY_PRESENCE)
        late.publish(presence(SERVER), LAST)
        assert late.wait_for(presence(SERVER), LAST) and len(late.heard) == 1  # nothing was left retained
        for each in (server, gateway, late):
            each.close()


async def test_the_trial_names_what_is_wrong_and_the_line_to_add(tmp_path: Path, port: int) -> None:
    configuration = write_files(tmp_path, port)
    text = configuration.read_text().replace("max_packet_size 135168", "max_packet_size 65536")
    text = text.replace("use_username_as_clientid true", "").replace(
        "max_queued_messages 100000", "max_queued_messages 9"
    )
    text = text.replace("max_inflight_messages 0", "max_inflight_messages 5")
    configuration.write_text(text)
    (configuration.parent / "acl").write_text("pattern readwrite keycast/1/#\n")
    async with broker(configuration, port):
        found = await broker_test(f"mqtts://localhost:{port}", "--files", tmp_path, "--mqtt", "5")
    assert {check: each["line"] for (_, check), each in found.items() if not each["passed"]} == {
        "queue": "max_queued_messages 100000",
        "size": "max_packet_size 135168",
        "read": "pattern read keycast/1/dn/%u",
        "write": "pattern write keycast/1/up/+/%u",
        "presence": "pattern write keycast/1/st/%u",
        "pose": "pattern read keycast/1/dn/%u",
        "client-id": "use_username_as_clientid true",
    }


async def test_a_trial_with_the_certificates_of_the_ends_themselves(tmp_path: Path, port: int) -> None:
    """As with an authority that is not ours."""
    words = [word for name in ("server", "gateways/gw.a", "gateways/gw.b") for word in ("--client", tmp_path / name)]
    async with broker(write_files(tmp_path, port), port):
        found = await broker_test(f"mqtts://localhost:{port}", *words, "--mqtt", "5")
        assert len(found) == 12 and all(each["passed"] for each in found.values()), found
        refused = await asyncio.to_thread(typed, "broker-test", f"mqtts://localhost:{port}", *words[:4])
        assert refused.exit_code == 1 and "There are three clients" in refused.output


async def test_a_broker_with_passwords(tmp_path: Path, port: int) -> None:
    """The same access list holds: the users are the tags."""
    configuration = write_files(tmp_path, port, has_authority=False)
    users = {"server": f"{SERVER}-trial", "a": A, "b": B}
    for name in users:
        (tmp_path / name).write_text("secret\n")
        (tmp_path / name).chmod(0o600)
    configuration.write_text(
        f"listener {port}\nallow_anonymous false\nuse_username_as_clientid true\nmax_queued_messages 100000\n"
        f"acl_file {configuration.parent}/acl\npassword_file {tmp_path}/passwords\n"
    )
    (tmp_path / "passwords").touch(0o600)
    for user in users.values():
        made = await asyncio.create_subprocess_exec(
            "mosquitto_passwd", "-b", str(tmp_path / "passwords"), user, "secret"
        )
        assert await made.wait() == 0
    logins = [word for name, user in users.items() for word in ("--login", f"{user}:{tmp_path / name}")]
    async with broker(configuration, port):
        found = await broker_test(f"mqtt://localhost:{port}", *logins, "--mqtt", "3.1.1")
        assert all(each["passed"] for each in found.values()), found
        (tmp_path / "server").write_text("wrong\n")
        refused = await asyncio.to_thread(typed, "broker-test", f"mqtt://localhost:{port}", *logins)
        assert refused.exit_code == 1 and "not authorised" in refused.output


# paho leaves the socket open whose certificate it does not accept
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_broker_that_is_not_there_or_has_another_certificate(tmp_path: Path, port: int) -> None:
    configuration = write_files(tmp_path / "one", port)
    write_files(tmp_path / "other", port)
    url = f"mqtts://localhost:{port}"

    async def refusal(url: str, *words: object) -> str:
        result = await asyncio.to_thread(typed, "broker-test", url, *words)
        assert result.exit_code == 1
        return " ".join(result.output.split())

    assert "nothing listens at this port" in await refusal(url, "--files", tmp_path / "one")
    async with broker(configuration, port):
        assert "cannot prove its name" in await refusal(url, "--files", tmp_path / "other")
        assert "ends the connection before it answers" in await refusal(f"mqtt://localhost:{port}")
    gc.collect()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("ftp://localhost",), "is not the address of a broker"),
        (("mqtts://localhost", "--files", "."), "has no authority"),
        (("mqtt://localhost", "--files", "."), "Write mqtts://localhost"),
        (("mqtts://localhost", "--login", "one:two"), "There are three logins"),
        (("mqtt://localhost", *("--login", "one:password") * 3), "is no tag of a gateway"),
        (("mqtts://localhost", "--mqtt", "3"), "is no version of MQTT"),
    ],
)
def test_words_that_cannot_be_tried(
    words: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("password").touch(0o600)
    result = typed("broker-test", *words)
    assert result.exit_code == 1 and said in " ".join(result.output.split())
