"""`keycast kms`, `gms`, `cms` as an operator types them, the servers as processes of their own."""

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from gateway_agent.val_client.client import ValClient
from gateway_agent.val_client.gmk_store import GmkStore
from gateway_agent.val_client.key_material import KeyMaterial
from gateway_agent.val_client.kms_client import KmsClient
from gateway_agent.val_client.server_access import GmsAccess, KmsAccess, ServerAccess
from gateway_agent.val_client.servers import Servers
from keycast.commands import cms, gms, kms
from keycast.free_ports import free_port
from keycast.program import program
from tests.waiting import PATIENCE_S

ALICE, GMS_URI, CREW = "sip:alice@example.org", "sip:gms.example.org", "sip:crew@gms.example.org"
KMS_URI = "kms.example.org"
WRONG_CONFIGURATION = 78


def typed(app: object, *words: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(words))  # type: ignore[arg-type]
    assert result.exit_code == code, result.output
    return result.output.strip()


@contextmanager
def running(*words: str) -> Iterator[str]:
    """A server as a process; gives its URL, once it listens."""
    command = [sys.executable, "-c", "from keycast import main; main()", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            said = ""
            for line in process.stdout:
                said += line
                if found := re.search(r"https?://\S+", line):
                    break
            else:
                raise AssertionError(said)
            yield found[0]
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0


def test_three_servers_and_a_client_from_the_command_line(tmp_path: Path) -> None:
    state = {name: str(tmp_path / name) for name in ("kms", "gms", "cms")}
    typed(kms.app, "init", KMS_URI, "--state", state["kms"])
    ca = tmp_path / "kms" / "tls_certificate.pem"
    token_file = tmp_path / "gms.token"
    token_file.touch(mode=0o600)
    token_file.write_text(typed(kms.app, "user", "add", GMS_URI, "--gms", "--state", state["kms"]))
    tokens = {
        "kms": typed(kms.app, "user", "add", ALICE, "--state", state["kms"]),
        "gms": typed(gms.app, "user", "add", ALICE, "--state", state["gms"]),
        "cms": typed(cms.app, "user", ALICE, "--state", state["cms"]),
    }
    typed(gms.app, "group", "create", CREW, "--name", "the crew", "--state", state["gms"])
    typed(cms.app, "put", ALICE, CREW, "--gms", GMS_URI, "--state", state["cms"])
    typed(gms.app, "group", "add", CREW, ALICE, "--state", state["gms"])
    with running("kms", "run", "--state", state["kms"], "--port", str(free_port())) as kms_url:
        at_kms = ["--kms", kms_url, "--kms-uri", KMS_URI, "--kms-token-file", str(token_file), "--kms-ca", str(ca)]
        with (
            running("gms", "run", GMS_URI, *at_kms, "--state", state["gms"], "--port", "0") as gms_url,
            running("cms", "run", "--state", state["cms"], "--port", "0") as cms_url,
        ):
            urls = {"kms": kms_url, "gms": gms_url, "cms": cms_url}
            key_id = asyncio.run(_keyed_and_removed(tmp_path, ca, urls, tokens, state))
    shown = json.loads(typed(gms.app, "key", "show", key_id, "--json", "--state", state["gms"]))
    assert [(row["user"], row["state"]) for row in shown] == [(ALICE, "done")]
    output = typed(gms.app, "group", "show", "--json", "--state", state["gms"])
    assert json.loads(output)[0]["keys"] == [{"key_id": key_id, "state": "live"}]
    for token in tokens.values():
        assert token not in output
        for path in tmp_path.rglob("*.sqlite3"):
            assert token.split(".")[1].encode() not in path.read_bytes(), "only hashes of tokens are kept"


async def _keyed_and_removed(
    folder: Path, ca: Path, urls: dict[str, str], tokens: dict[str, str], state: dict[str, str]
) -> str:
    """A client gets the key that a command makes, and loses it by another command; returns the GMK-ID."""
    access = KmsAccess(url=urls["kms"], kms_uri=KMS_URI, user_uri=ALICE, token=SecretStr(tokens["kms"]), ca_file=ca)
    material, store = KeyMaterial(folder / "keys"), GmkStore(folder / "gmks")
    async with KmsClient(access, material) as kms_client, asyncio.timeout(PATIENCE_S):
        await kms_client.refresh()
        client = ValClient(ALICE, store, kms_client.keys, lambda: int(time.time()))
        cms_access = ServerAccess(url=urls["cms"], token=SecretStr(tokens["cms"]))
        gms_access = GmsAccess(url=urls["gms"], token=SecretStr(tokens["gms"]), gms_uri=GMS_URI)
        async with Servers(client, cms_access, [gms_access]):
            key_id = await asyncio.to_thread(typed, gms.app, "key", "make", CREW, "--state", state["gms"])
            while client.sending_key(CREW) is None:
                await asyncio.sleep(0.05)
            held = client.sending_key(CREW)
            assert held is not None and held.key_id.hex() == key_id
            await asyncio.to_thread(typed, cms.app, "remove", ALICE, CREW, "--state", state["cms"])
            while store.all():
                await asyncio.sleep(0.05)
    material.close()
    store.close()
    return key_id


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["group", "add", CREW, ALICE], "There is no group"),
        (["key", "make", CREW], "There is no group"),
        (["key", "revoke", "00000001"], "There is no key"),
        (["user", "withdraw", ALICE], "There is no user"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(tmp_path: Path, words: list[str], sentence: str) -> None:
    typed(gms.app, "user", "add", "sip:bob@example.org", "--state", str(tmp_path))
    assert sentence in typed(gms.app, *words, "--state", str(tmp_path), code=1)


@pytest.mark.parametrize(
    ("server", "words"),
    [
        ("gms", ["user", "add", "alice"]),
        ("gms", ["user", "add", "alice@example.org"]),
        ("gms", ["group", "create", "bad name"]),
        ("gms", ["group", "create", "crew"]),
        ("gms", ["group", "add", CREW, "sip:nobody@example.org"]),
        ("gms", ["group", "add", CREW, ALICE]),
        ("gms", ["group", "create", CREW]),
        ("gms", ["group", "remove", CREW, "sip:bob@example.org"]),
        ("gms", ["group", "remove", "sip:none@gms.example.org", ALICE]),
        ("gms", ["user", "withdraw", "sip:bob@example.org"]),
        ("gms", ["key", "show", "00000001"]),
        ("gms", ["key", "show", "zz"]),
        ("gms", ["key", "retry", "00000001"]),
        ("gms", ["key", "make", CREW, "sip:none@gms.example.org"]),
        ("cms", ["user", "alice"]),
        ("cms", ["put", ALICE, "crew", "--gms", GMS_URI]),
        ("cms", ["put", ALICE, CREW, "--gms", "gms.example.org"]),
        ("cms", ["put", "sip:nobody@example.org", CREW, "--gms", GMS_URI]),
        ("cms", ["remove", ALICE, "sip:none@gms.example.org"]),
        ("cms", ["remove", "sip:nobody@example.org", CREW]),
    ],
)
def test_what_cannot_be_meant_is_told_and_changes_nothing(tmp_path: Path, server: str, words: list[str]) -> None:
    state = ["--state", str(tmp_path)]
    shown = {"gms": ["group", "show"], "cms": ["show"]}[server]
    if server == "gms":
        for each in (["user", "add", ALICE], ["group", "create", CREW], ["group", "add", CREW, ALICE]):
            typed(gms.app, *each, *state)
    else:
        typed(cms.app, "user", ALICE, *state)
        typed(cms.app, "put", ALICE, CREW, "--gms", GMS_URI, *state)
    before = typed(APPS[server], *shown, *state)
    said = typed(APPS[server], *words, *state, code=1)
    assert said.startswith("keycast: ") and said.endswith(".")
    assert typed(APPS[server], *shown, *state) == before


def test_what_was_done_before_is_told(tmp_path: Path) -> None:
    state = ["--state", str(tmp_path)]
    typed(gms.app, "user", "add", ALICE, *state)
    typed(gms.app, "group", "create", CREW, *state)
    key_id = typed(gms.app, "key", "make", CREW, *state)
    assert "was offered to no user yet" in typed(gms.app, "key", "show", key_id.upper(), *state)
    typed(gms.app, "key", "revoke", key_id, *state)
    assert "revoked already" in typed(gms.app, "key", "revoke", key_id, *state, code=1)
    typed(gms.app, "user", "withdraw", ALICE, *state)
    assert "no permission any more" in typed(gms.app, "user", "withdraw", ALICE, *state, code=1)


def in_json(*words: str, code: int = 0) -> Any:
    result = CliRunner().invoke(program([words[0]]), [*words, "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def test_every_command_answers_in_json_refusals_included(tmp_path: Path) -> None:
    at = {name: ["--state", str(tmp_path / name)] for name in ("kms", "gms", "cms")}
    assert in_json("kms", "init", KMS_URI, *at["kms"])["kms_uri"] == KMS_URI
    for words in (["kms", "user", "add"], ["kms", "user", "token"], ["gms", "user", "add"], ["cms", "user"]):
        assert len(in_json(*words, ALICE, *at[words[0]])["token"].split(".")[1]) == 64
    assert in_json("kms", "user", "revoke", ALICE, *at["kms"]) == {"user": ALICE}
    assert "KmsCertificate" in in_json("kms", "certificate", "export", *at["kms"])["certificate"]
    assert in_json("kms", "show", *at["kms"])["valid_to"].endswith("+00:00")
    assert in_json("gms", "group", "create", CREW, *at["gms"])["group"] == CREW
    assert in_json("gms", "group", "add", CREW, ALICE, *at["gms"])["user"] == ALICE
    key_id = in_json("gms", "key", "make", CREW, *at["gms"])["key_id"]
    assert in_json("gms", "key", "show", key_id, *at["gms"])[0]["user"] == ALICE
    assert in_json("gms", "key", "retry", key_id, *at["gms"])["user_count"] in (0, 1)  # it was offered this very second
    assert in_json("gms", "key", "revoke", key_id, *at["gms"])["key_id"] == key_id
    assert in_json("gms", "group", "remove", CREW, ALICE, *at["gms"])["user"] == ALICE
    assert in_json("gms", "user", "withdraw", ALICE, *at["gms"]) == {"user": ALICE}
    assert in_json("cms", "put", ALICE, CREW, "--gms", GMS_URI, *at["cms"])["revision"] == 2
    assert in_json("cms", "remove", ALICE, CREW, *at["cms"])["revision"] == 3
    for words, code in (
        (["kms", "user", "add", "bob"], "not-allowed"),
        (["kms", "user", "token", "sip:bob@example.org"], "user-unknown"),
        (["kms", "user", "revoke", ALICE], "not-possible"),
        (["gms", "group", "create", "crew"], "not-allowed"),
        (["gms", "key", "revoke", key_id], "not-possible"),
        (["gms", "key", "show", "00000001"], "not-possible"),
        (["cms", "remove", ALICE, CREW], "not-possible"),
    ):
        refusal = in_json(*words, *at[words[0]], code=1)
        assert refusal["code"] == code and refusal["error"], words


def test_a_readable_token_file_is_refused(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("x")
    token.chmod(0o644)
    words = ["run", GMS_URI, "--kms", "http://127.0.0.1:1", "--kms-uri", KMS_URI, "--kms-token-file", str(token)]
    assert "can be read by others" in typed(gms.app, *words, "--state", str(tmp_path), code=WRONG_CONFIGURATION)


@pytest.fixture
def prepared(tmp_path: Path) -> dict[str, list[str]]:
    """The words that start each server, all well but for what a test breaks."""
    token = tmp_path / "token"
    token.write_text("000000000000." + 64 * "0")
    token.chmod(0o600)
    typed(kms.app, "init", KMS_URI, "--state", str(tmp_path / "kms"))
    words = ["run", GMS_URI, "--kms", "https://127.0.0.1:1", "--kms-uri", KMS_URI, "--kms-token-file", str(token)]
    return {
        "kms": ["run", "--state", str(tmp_path / "kms")],
        "gms": [*words, "--state", str(tmp_path / "gms")],
        "cms": ["run", "--state", str(tmp_path / "cms")],
    }


APPS = {"kms": kms.app, "gms": gms.app, "cms": cms.app}


@pytest.mark.parametrize("server", ["kms", "cms"])
def test_a_port_in_use_is_said(prepared: dict[str, list[str]], server: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = typed(APPS[server], *prepared[server], "--port", str(port), code=1)
    assert f"TCP port {port} of 127.0.0.1 is used by another program" in said and "choose another port" in said


@pytest.mark.parametrize("server", APPS)
def test_plain_http_is_for_loopback(prepared: dict[str, list[str]], tmp_path: Path, server: str) -> None:
    (tmp_path / "kms" / "tls_key.pem").unlink()
    said = typed(APPS[server], *prepared[server], "--listen", "0.0.0.0", code=WRONG_CONFIGURATION)
    assert "without TLS only loopback addresses can be listened on" in said
    assert "listen takes IP addresses, not 'home'" in typed(
        APPS[server], *prepared[server], "--listen", "home", code=WRONG_CONFIGURATION
    )


@pytest.mark.parametrize("server", ["kms", "cms"])
def test_tls_files_that_cannot_be_used_are_named(prepared: dict[str, list[str]], tmp_path: Path, server: str) -> None:
    good, key = tmp_path / "kms" / "tls_certificate.pem", tmp_path / "kms" / "tls_key.pem"
    other = tmp_path / "other.pem"
    other.write_text("no PEM")
    other.chmod(0o600)
    words = prepared[server]
    pair = ["--tls-certificate", str(good), "--tls-key", str(other)]
    assert f"TLS cannot use {good} and {other}" in typed(APPS[server], *words, *pair, code=1)
    assert "belong together" in typed(APPS[server], *words, "--tls-certificate", str(good), code=WRONG_CONFIGURATION)
    key.chmod(0o640)
    pair = ["--tls-certificate", str(good), "--tls-key", str(key)]
    assert "tls_key.pem can be read by others" in typed(APPS[server], *words, *pair, code=1)
    pair = ["--tls-certificate", str(good), "--tls-key", str(tmp_path / "none.pem")]
    assert "none.pem does not exist" in typed(APPS[server], *words, *pair, code=1)


@pytest.mark.parametrize("server", ["kms", "cms"])
def test_a_store_that_others_can_read_is_refused(prepared: dict[str, list[str]], tmp_path: Path, server: str) -> None:
    first = ["show"] if server == "kms" else ["user", ALICE]  # which makes the store
    typed(APPS[server], *first, "--state", str(tmp_path / server))
    (tmp_path / server / f"{server}.sqlite3").chmod(0o640)
    assert f"{server}.sqlite3 can be read by others" in typed(APPS[server], *prepared[server], code=1)


def test_master_secrets_that_others_can_read_are_refused(prepared: dict[str, list[str]], tmp_path: Path) -> None:
    (tmp_path / "kms" / "master_secrets.json").chmod(0o640)
    assert "master_secrets.json can be read by others" in typed(kms.app, *prepared["kms"], code=1)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "The KMS does not answer"),
        (["--kms", "http://kms.example.org"], "keys travel over https only"),
        (["--kms", "kms.example.org"], "the URL of a server is https://host:port"),
        (["--kms-ca", "README.md"], "the CA file README.md cannot be used"),
        (["--kms-ca", "no-such.pem"], "There is no file no-such.pem"),
        (["--kms-token-file", "no-such-token"], "no-such-token does not exist. Name the right one."),
    ],
)
def test_a_gms_that_cannot_ask_its_kms_does_not_start(
    prepared: dict[str, list[str]], words: list[str], sentence: str
) -> None:
    code = WRONG_CONFIGURATION if words else 1
    assert sentence in typed(gms.app, *prepared["gms"], *words, code=code)
