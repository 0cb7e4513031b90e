"""Two CPNS Servers with one identity and different databases: the second one does not start, and changes nothing."""

import asyncio
import contextlib
import shlex
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiomqtt
import pytest

from key_servers.cpns_server import tuning
from key_servers.cpns_server.app import CpnsServer
from key_servers.cpns_server.server_claim import AnotherServer
from key_servers.cpns_server.server_identity import IDENTITY_FILE
from message_plane.links.mqtt_topics import database, tag_of
from tests.integration.mqtt_uplink_world import RULES, SERVER_ID, Operator
from tests.unit.mosquitto_broker import Mosquitto, mosquitto
from tests.waiting import PATIENCE_S

pytestmark = [pytest.mark.real_time, pytest.mark.req("SEC-03")]


@pytest.fixture(params=["plain", "tls"])
def broker(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Mosquitto]:
    more = "use_username_as_clientid true" if request.param == "tls" else ""
    with mosquitto(tmp_path / "broker", tls=request.param == "tls", access=RULES, more=more) as broker:
        yield broker


@contextlib.asynccontextmanager
async def first_server(folder: Path, broker: Mosquitto) -> AsyncIterator[CpnsServer]:
    async with Operator(folder / "first", [broker]).running() as server:
        yield server


def with_the_same_key(folder: Path, name: str) -> Path:
    """The state folder of a Server that has the key of the first one, and a database of its own."""
    other = folder / name
    other.mkdir(mode=0o700)
    shutil.copy(folder / "first" / IDENTITY_FILE, other)
    return other


async def test_the_second_one_is_told_and_changes_nothing(tmp_path: Path, broker: Mosquitto) -> None:
    async with first_server(tmp_path, broker):
        other = Operator(with_the_same_key(tmp_path, "other"), [broker])
        with pytest.raises(AnotherServer, match=f"Another CPNS Server called {SERVER_ID} is connected to"):
            async with other.running():
                pass
        with pytest.raises(AnotherServer) as told:  # also when it is tried again
            async with other.running():
                pass
        command = shlex.split(str(told.value).partition("at once after: ")[2])
        assert command[0] == "mosquitto_pub" and command[-1] == database(tag_of(SERVER_ID))
        if broker.authority is None and shutil.which("mosquitto_pub"):
            subprocess.run([*command, "-u", tag_of(SERVER_ID)], check=True, timeout=PATIENCE_S)
            async with other.running():  # as there was nobody, a person says
                pass


async def test_the_same_database_may_be_started_again_and_another_one_when_nobody_is_there(
    tmp_path: Path, broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        async with first_server(tmp_path, broker):
            pass
    monkeypatch.setattr(tuning, "CLAIM_BACK_S", 0.1)  # nobody is there who could come back
    async with Operator(with_the_same_key(tmp_path, "other"), [broker]).running():
        monkeypatch.undo()
        with pytest.raises(AnotherServer):
            async with first_server(tmp_path, broker):
                pass


@pytest.mark.parametrize("forged", [b"x", b"x" * 32, b"x" * 64])
async def test_nobody_else_keeps_a_server_from_starting(tmp_path: Path, forged: bytes) -> None:
    with mosquitto(tmp_path / "broker") as broker:
        async with aiomqtt.Client("127.0.0.1", broker.port) as client:
            await client.publish(database(tag_of(SERVER_ID)), forged, qos=1, retain=True)
            await client.publish(f"keycast/1/st/{tag_of(SERVER_ID)}", b"1", qos=1, retain=True)
        async with first_server(tmp_path, broker):
            pass


async def test_a_broker_that_is_gone_is_no_reason_not_to_start(tmp_path: Path) -> None:
    with mosquitto(tmp_path / "broker") as broker:
        broker.kill()
        async with first_server(tmp_path, broker) as server:
            assert "is not there" in server.status().brokers[0].problem
        broker.start()
        await asyncio.sleep(0)
