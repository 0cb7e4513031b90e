"""The page for operators is true: its commands are typed as they stand, as `test_pages_for_users` does it."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest

from keycast.broker import own_broker
from tests.system.manual import Desk, Reading
from tests.system.pages import OPERATORS, credential_in, home_network, name_the_card, reads, until
from tests.unit.postgres_server import postgres, postgres_node


@pytest.mark.long
@reads((OPERATORS, "Operators elsewhere"), (OPERATORS, "What everybody did"))
async def test_operators_elsewhere(tmp_path: Path, reading: Reading) -> None:
    """An operator with a token makes a group over REST, and the log of the Server tells who did what."""
    async with home_network(2, "192.168.1.10") as network, Desk(tmp_path, network.words(1)) as desk:
        desk.replaced["server.example.org"] = "192.168.1.10"
        with reading:
            for _ in range(2):
                await desk.follow(reading.next())
            async with Desk(tmp_path, network.words(2)) as alice:
                alice.replaced["server.example.org"] = "192.168.1.10"
                assert "version 0.1" in await alice.follow(reading.next())
            told = await desk.follow(reading.next())
        assert re.search(r"alice +rest +group.policy .*rekey_on_join=False sg_id=town/lights +done", told)
        assert re.search(r"socket +server.add-token .*operator=alice", told)


@pytest.mark.long
@reads((OPERATORS, "A broker"), (OPERATORS, "Several brokers"))
async def test_a_broker(tmp_path: Path, reading: Reading) -> None:
    """A Mosquitto with these files passes the trial, with more gateways, and after one of them was revoked."""
    try:
        own_broker.mosquitto()
    except own_broker.NoBroker as error:
        pytest.skip(str(error))
    mosquitto = tmp_path / "mosquitto"
    mosquitto.mkdir()
    async with home_network(1) as network, Desk(tmp_path, network.words(1)) as desk:
        desk.replaced["/var/lib/mosquitto/keycast"] = str(mosquitto / "keycast")
        desk.replaced["/etc/mosquitto"] = str(mosquitto)
        desk.replaced["chown -R mosquitto:"] = "chown -R $USER"
        desk.replaced["mqtt.example.org"] = "localhost"
        unit = tmp_path / "system" / "mosquitto.service"
        unit.parent.mkdir()
        as_nobody = (
            "unshare --map-user=1000 --map-group=1000 " if os.geteuid() == 0 else ""
        )  # root's files stay its own
        # it ends by itself if this test is killed
        unit.write_text(f"[Service]\nExecStart=timeout 600 {as_nobody}mosquitto -c {mosquitto}/mosquitto.conf\n")
        await desk.done("export USER=$(id -un)")
        with reading:
            for _ in range(2):
                await desk.follow(reading.next())
            try:
                trial = reading.next()
                await desk.done("until (echo > /dev/tcp/localhost/8883) 2>/dev/null; do sleep 0.1; done")
                assert "This broker can serve keycast." in await desk.follow(trial)
                await desk.follow(reading.next())
                await desk.follow(reading.next())
                assert "revoked" in await desk.done("keycast server broker-files ~/broker-files")
                assert "This broker can serve keycast." in await desk.follow(trial)
                await desk.follow(reading.next())
            finally:
                await desk.done("systemctl stop mosquitto")
    assert (tmp_path / "broker-files" / "brokers" / "mqtt2.example.org" / "broker.key").exists()


@pytest.mark.long
@pytest.mark.req("CPNS-GKM-62")
@reads((OPERATORS, "A Server and gateways over MQTT"))
async def test_a_server_and_a_gateway_over_mqtt(tmp_path: Path, reading: Reading) -> None:
    """The gateway has the key of a group that the operator has made, through a Mosquitto with the files of the page."""
    try:
        own_broker.mosquitto()
    except own_broker.NoBroker as error:
        pytest.skip(str(error))
    async with home_network(1) as network, Desk(tmp_path, network.words(1)) as desk:
        desk.replaced["mqtt.example.org"] = "localhost"
        desk.replaced["/home/pi"] = str(tmp_path)
        desk.then["keycast gateway init"] = name_the_card(desk)
        await desk.done("keycast server broker-files ~/broker-files --ca --host localhost --gateway gw.home")
        as_nobody = "unshare --map-user=1000 --map-group=1000 " if os.geteuid() == 0 else ""
        configuration = tmp_path / "broker-files" / "brokers" / "localhost" / "mosquitto.conf"
        await desk.done(f"{as_nobody}mosquitto -c {configuration} >/dev/null 2>&1 &")
        await desk.done("until (echo > /dev/tcp/localhost/8883) 2>/dev/null; do sleep 0.1; done")
        with reading:
            await desk.follow(reading.next())
            assert "lets this gateway in, and the CPNS Server answers" in await desk.follow(reading.next())
            desk.configure(reading.next("toml"))
            for number, command in reading.next().lines():
                code, words = await desk.type(command)
                assert code == 0, f"line {number}: {command!r} ended with {code}:\n{words}"
                if "credential" in command and "trust" not in command and "add-gateway" not in command:
                    whose = "SERVER" if "server" in command else "GATEWAY"
                    desk.replaced[f"{whose}-CREDENTIAL"] = credential_in(words)
        at = "--state ~/server-state"
        await desk.done(f"keycast group create home/lights --open-to home {at}")
        assert "connected since" in await desk.done(f"keycast server status {at}")
        status = await until(desk, "keycast status", lambda state: state["brokers"][0]["connected"])
        assert status["uplink"] == "mqtt"
        await until(desk, f"keycast server status {at}", lambda state: state["gateway_count"] == 1)


@pytest.mark.long
@reads((OPERATORS, "Several processes"))
async def test_several_processes(tmp_path: Path, reading: Reading) -> None:
    """Two processes of one Server share the homes; a group that is made at one is shown by the other."""
    try:
        own_broker.mosquitto()
    except own_broker.NoBroker as error:
        pytest.skip(str(error))
    with tempfile.TemporaryDirectory() as sockets, postgres(Path(sockets)) as url:
        async with home_network(1) as network, Desk(tmp_path, network.words(1)) as desk:
            desk.replaced["mqtt.example.org"] = "localhost"
            desk.replaced["postgresql://keycast_server@/keycast?host=/var/run/postgresql"] = url
            await desk.done("keycast server broker-files ~/broker-files --ca --host localhost --processes 2")
            as_nobody = "unshare --map-user=1000 --map-group=1000 " if os.geteuid() == 0 else ""
            configuration = tmp_path / "broker-files" / "brokers" / "localhost" / "mosquitto.conf"
            await desk.done(f"{as_nobody}mosquitto -c {configuration} >/dev/null 2>&1 &")
            await desk.done("until (echo > /dev/tcp/localhost/8883) 2>/dev/null; do sleep 0.1; done")
            with reading:
                for _ in range(2):
                    await desk.follow(reading.next())
                second = "keycast server status --state ~/second-state"
                await until(desk, second, lambda state: state["shards"] == 32 and state["processes"] == 2)
                told = await desk.follow(reading.next())
            assert "database: PostgreSQL; shards: 32 of 64; processes: 2" in told
            await desk.done("keycast group create town/lights --state ~/server-state")
            assert "town/lights" in await desk.done("keycast group list --state ~/second-state")


@pytest.mark.long
@reads((OPERATORS, "PostgreSQL"), (OPERATORS, "Backups"))
async def test_a_server_in_postgresql(tmp_path: Path, reading: Reading) -> None:
    """What a Server has stored in PostgreSQL is in a backup made while it runs, and in one made without it."""
    with TemporaryDirectory() as folder, postgres_node(Path(folder)) as node:
        async with home_network(1) as network, Desk(tmp_path, network.words(1)) as desk:
            desk.replaced["@db.example.org/keycast"] = f"@/keycast?host={folder}"
            with reading:
                with psycopg.connect(node.url, autocommit=True) as superuser:
                    for statement in reading.next("sql").text.splitlines():
                        superuser.execute(statement)
                await desk.follow(reading.next())
                await desk.done("keycast group create home/lights --state ~/server-state")
                await desk.follow(reading.next())
            await desk.end_services()
            assert not (tmp_path / "server-state" / "cpns_server.sqlite3").exists()
            await desk.done(
                "keycast server backup ~/without.backup --state ~/server-state --recipient ~/backups.recipient"
            )
            told = await desk.done("keycast server restore ~/server.backup --state ~/server-state --key ~/backups.key")
            assert "home/lights is held" in told
