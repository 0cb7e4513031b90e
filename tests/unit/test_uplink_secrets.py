"""Who reads files, logs, and the texts of errors and values finds no password, token or key of an uplink there."""

import dataclasses
import datetime
import importlib
import logging
import os
import pkgutil
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from key_servers.cpns_server.postgres import connection
from key_servers.errors import StoreUnusable
from key_servers.https.listening import Listening
from key_servers.sql.postgres import PostgresDatabase
from key_servers.sql.transport import with_tls
from keycast.broker.folder import WantedFiles, bring_up
from message_plane.errors import BrokerFilesRefused
from message_plane.links import mqtt_files
from message_plane.links.mqtt_client import means_of
from message_plane.links.mqtt_section import BrokerFiles, MqttSection

PACKAGES = ("cpns", "gateway_agent", "key_servers", "keycast", "message_plane", "mikey_sakke", "suit")
SECRET = re.compile(r"(.*_)?(password|secret|private|master|ssk|pvt|gmk|euk|gkek|token|key)")
PUBLIC = {"signing_key", "update_key", "has_key", "request_key", "answer_key", "pub_auth_key", "pub_enc_key"}
PASSWORD = "s3cret p%ssword/@:?#"
IN_URL = "s3cret%20p%25ssword%2F%40%3A%3F%23"
NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def dataclasses_of_the_product() -> Iterator[type[Any]]:
    for package in PACKAGES:
        for found in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            if found.name.endswith("__main__"):
                continue
            try:
                module = importlib.import_module(found.name)
            except ImportError:  # an extra that is not installed, or a module of MicroPython
                continue
            yield from (
                each
                for each in vars(module).values()
                if isinstance(each, type) and dataclasses.is_dataclass(each) and each.__module__ == found.name
            )


def test_no_value_shows_a_secret_when_it_is_printed() -> None:
    shown, classes = [], 0
    for each in dataclasses_of_the_product():
        classes += 1
        own = "__repr__" in vars(each) and not hasattr(each.__repr__, "__wrapped__")  # not made by dataclass
        if own or not each.__dataclass_params__.repr:  # type: ignore[attr-defined]
            continue
        for field in dataclasses.fields(each):
            holds = any(kind in str(field.type) for kind in ("bytes", "str", "int"))
            if field.repr and holds and SECRET.fullmatch(field.name) and field.name not in PUBLIC:
                shown.append(f"{each.__module__}.{each.__name__}.{field.name}")
    assert classes > 100 and not shown


def test_the_password_of_a_broker_is_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("hunter2\n")
    file.chmod(0o600)
    section = MqttSection(brokers=["mqtt://127.0.0.1:1"], user="me", password_file=file)
    means = means_of(section, "gw.home")
    assert means.password == "hunter2" and "hunter2" not in f"{means}{means!r}{section}{section!r}"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_password_or_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "password"
    file.write_text("hunter2\n")
    file.chmod(mode)
    with pytest.raises(BrokerFilesRefused) as refused:
        mqtt_files.check(BrokerFiles(password=file), "0" * 32, NOW)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_nobody_else_reads_or_writes_what_broker_files_makes(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        folder = tmp_path / "brokers"
        for gateways in (["gw.home"], ["gw.home", "gw.other"]):
            wanted = WantedFiles("cpns.example", [["broker.example"]], gateways=gateways, has_authority=True)
            bring_up(folder, wanted, NOW)
        revoking = WantedFiles("cpns.example", revoked=["gw.other"], has_authority=True)
        bring_up(folder, revoking, NOW)
    finally:
        os.umask(before)
    found = [folder, *folder.rglob("*")]
    modes = {stat.S_IMODE(path.stat().st_mode) for path in found if path.is_file()}
    assert modes == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in found if path.is_dir()} == {0o700}
    keys = [path.read_text() for path in found if path.is_file() and "PRIVATE KEY" in path.read_text()]
    assert len(keys) == 5, "authority, broker, Server and two gateways, each once"
    assert not [path for path in found if path.name.endswith((".tmp", "~", ".bak"))]


# The database


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://keycast:{IN_URL}@127.0.0.1:1/keycast",
        f"postgresql://127.0.0.1:1/keycast?user=keycast&password={IN_URL}",
        f"postgresql://keycast:{PASSWORD}@127.0.0.1:1/keycast",
        f"postgresql://keycast:{IN_URL}@127.0.0.1:port/keycast",
        f"postgresql://keycast:{IN_URL}@127.0.0.1:1/keycast?no_such=option",
        f"mysql://keycast:{IN_URL}@127.0.0.1:1/keycast",
        f"keycast:{IN_URL}@127.0.0.1",
        f"host=127.0.0.1 port=1 password='{IN_URL}'",
    ],
)
async def test_the_password_of_a_database_is_in_no_error_and_no_log(url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    told = []
    with pytest.raises(StoreUnusable) as refused:
        connection.connect(url)
    told.append(refused.value)
    with pytest.raises(StoreUnusable) as refused:
        await PostgresDatabase.open(url)
    told.append(refused.value)
    for each in told:
        text = f"{each}{each!r}{each.__cause__}{each.__context__ if not each.__suppress_context__ else ''}"
        assert "s3cret" not in text
    assert "s3cret" not in caplog.text
    config = Listening(state_dir=Path(), database=SecretStr(url))
    assert "s3cret" not in f"{config}{config!r}{config.model_dump()}"


REMOTE = ["db.example", "192.0.2.1", "2001:db8::1", "127.0.0.1,db.example"]


@pytest.mark.parametrize("host", REMOTE)
def test_a_database_on_another_machine_has_to_prove_its_name(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGSSLMODE", raising=False)
    assert with_tls({"host": host})["sslmode"] == "verify-full"
    assert with_tls({"hostaddr": host, "host": "localhost"})["sslmode"] == "verify-full"
    assert with_tls({"host": host, "sslmode": "verify-ca"})["sslmode"] == "verify-ca"
    for weak in ("disable", "allow", "prefer"):
        with pytest.raises(StoreUnusable, match="verify-full"):
            with_tls({"host": host, "sslmode": weak})
    monkeypatch.setenv("PGSSLMODE", "prefer")
    with pytest.raises(StoreUnusable):
        with_tls({"host": host})
    monkeypatch.setenv("PGHOST", host)
    with pytest.raises(StoreUnusable):
        with_tls({})


@pytest.mark.parametrize("host", ["", "localhost", "127.0.0.1", "::1", "/run/postgresql", "@abstract", "/x,127.0.0.2"])
def test_a_database_on_this_machine_needs_no_tls(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGHOST", raising=False)
    assert with_tls({"host": host, "sslmode": "disable"}) == {"host": host, "sslmode": "disable"}
    assert with_tls({"host": host}) == {"host": host}


def test_both_sides_that_use_postgresql_ask_for_it() -> None:
    with pytest.raises(StoreUnusable, match="verify-full"):
        connection.parameters("postgresql://db.example/keycast?sslmode=disable")
    assert connection.parameters("postgresql://db.example/keycast")["sslmode"] == "verify-full"


async def test_the_other_key_servers_ask_for_it_too() -> None:
    with pytest.raises(StoreUnusable, match="verify-full"):
        await PostgresDatabase.open("postgresql://db.example/keycast?sslmode=prefer")
