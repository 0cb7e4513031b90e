"""`keycast kms` as an operator types it, and as a process of its own."""

import asyncio
import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway_agent.val_client.key_material import KeyMaterial
from gateway_agent.val_client.kms_client import KmsClient
from gateway_agent.val_client.server_access import KmsAccess
from keycast.commands.kms import DATABASE_VARIABLE, app
from mikey_sakke.kms_faults import KmsRefused
from mikey_sakke.kms_values import Certificate
from mikey_sakke.kms_xml import decode

ALICE, GMS = "sip:alice@example.org", "sip:gms@example.org"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "kms"


def kms(state: Path, *words: str, code: int = 0) -> str:
    """Run one command; gives what it printed, standard error included."""
    result = CliRunner().invoke(app, [*words, "--state", str(state)])
    assert result.exit_code == code, result.output
    return result.output


def test_init_makes_secrets_once_and_shows_none(state: Path) -> None:
    output = kms(state, "init", "kms.example.org", "--period", "3600", "--offset", "60")
    secrets = json.loads((state / "master_secrets.json").read_bytes())
    assert secrets["z"] not in output and secrets["ksak"] not in output
    before = {path: path.read_bytes() for path in state.iterdir()}
    assert "exists already" in kms(state, "init", "kms.example.org", code=1)
    assert {path: path.read_bytes() for path in state.iterdir()} == before
    shown = json.loads(kms(state, "show", "--json"))
    assert (shown["kms_uri"], shown["key_period_s"], shown["key_offset_s"]) == ("kms.example.org", 3600, 60)
    assert shown["users"] == []


def test_users_are_added_listed_and_revoked(state: Path) -> None:
    kms(state, "init", "kms.example.org", "--no-tls")
    token = kms(state, "user", "add", ALICE).strip()
    kms(state, "user", "add", GMS, "--gms")
    assert "known already" in kms(state, "user", "add", ALICE, code=1)
    assert kms(state, "user", "token", ALICE).strip() != token
    kms(state, "user", "revoke", ALICE)
    listed = kms(state, "show")
    assert "gms   sip:gms@example.org" in listed and "sip:alice@example.org  revoked" in listed
    users = {user["user"]: user for user in json.loads(kms(state, "show", "--json"))["users"]}
    assert users[ALICE]["revoked_at"] is not None and users[GMS]["role"] == "gms"
    assert "not known" in kms(state, "user", "revoke", "sip:nobody@example.org", code=1)
    assert "not known" in kms(state, "user", "token", "sip:nobody@example.org", code=1)


def test_certificates_go_from_one_kms_to_another(state: Path, tmp_path: Path) -> None:
    kms(state, "init", "kms.example.org", "--no-tls")
    other = tmp_path / "other"
    kms(other, "init", "kms.elsewhere.org", "--no-tls")
    file = tmp_path / "other.xml"
    file.write_text(kms(other, "certificate", "export"))
    assert decode(file.read_bytes().strip(), Certificate).kms_uri == "kms.elsewhere.org"
    assert "kms.elsewhere.org" in kms(state, "certificate", "import", str(file))
    assert "this KMS itself" in kms(other, "certificate", "import", str(file), code=1)
    file.write_text("<!DOCTYPE x><x/>")
    assert "document type declaration" in kms(state, "certificate", "import", str(file), code=1)


def test_what_cannot_be_is_said_in_a_sentence(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "does not exist" in kms(state, "show", code=1)
    assert "key period has" in kms(state, "init", "k", "--period", "1", code=1)
    kms(state, "init", "kms.example.org", "--no-tls")
    assert "without TLS" in kms(state, "run", "--listen", "0.0.0.0", code=78)
    monkeypatch.setenv(DATABASE_VARIABLE, f"postgresql://keycast:hunter2@/kms?host={state}")
    output = kms(state, "show", code=1)
    assert "PostgreSQL" in output and "hunter2" not in output
    (state / "master_secrets.json").chmod(0o644)
    assert "chmod 600" in kms(state, "show", code=1)


@pytest.mark.parametrize(
    "uri",
    [
        "alice",
        "alice@example.org",
        "sip:",
        "sip:alice@",
        "SIP:alice@example.org",
        "sip:al ice@example.org",
        "sip:a@b\u202e",
    ],
)
def test_what_is_no_identity_is_not_taken_for_one(state: Path, uri: str) -> None:
    kms(state, "init", "kms.example.org", "--no-tls")
    said = kms(state, "user", "add", uri, code=1)
    assert "such as sip:" in said or "write sip:" in said or "is no name or URI" in said
    assert json.loads(kms(state, "show", "--json"))["users"] == []


@pytest.mark.parametrize("host", ["", "b\u00e4d", "a b", "a..b", "-a", "https://kms.example.org", "192.168.1.300:1"])
def test_a_host_that_no_certificate_can_name_leaves_nothing(state: Path, host: str) -> None:
    said = kms(state, "init", "kms.example.org", "--host", host, code=1)
    assert "neither a host name nor an IP address" in said and not state.exists()
    kms(state, "init", "kms.example.org", "--host", "kms.example.org", "--host", "::1", "--host", "*.example.org")


def test_a_full_disk_leaves_half_of_no_tls_files(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith("certificate.pem"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert "tls_certificate.pem: No space left" in kms(state, "init", "kms.example.org", code=1)
    assert list(state.iterdir()) == []
    assert "key period has" in kms(state, "init", "kms.example.org", "--period", "1", code=1)
    assert list(state.glob("tls*")) == []
    kms(state, "init", "kms.example.org")


def test_who_is_revoked_is_told_so_at_each_further_command(state: Path) -> None:
    kms(state, "init", "kms.example.org", "--no-tls")
    kms(state, "user", "add", ALICE)
    kms(state, "user", "revoke", ALICE)
    for words in (("revoke",), ("token",), ("add",)):
        assert "is revoked, for ever" in kms(state, "user", *words, ALICE, code=1)
    assert "no name or URI" in kms(state.with_name("other"), "init", "bad name", code=1)


@pytest.mark.real_time
async def test_a_kms_in_its_own_process_serves_users_added_beside_it(
    state: Path, tmp_path: Path, unused_tcp_port: int
) -> None:
    command = [sys.executable, "-c", "from keycast import main; main()", "kms"]
    await asyncio.to_thread(kms, state, "init", "kms.example.org", "--host", "127.0.0.1")
    process = subprocess.Popen(
        [*command, "run", "--state", str(state), "--port", str(unused_tcp_port)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None
        line = await asyncio.to_thread(process.stdout.readline)
        assert b"kms.example.org listens on https://127.0.0.1" in line
        token = (await asyncio.to_thread(kms, state, "user", "add", ALICE)).strip()
        access = KmsAccess(
            url=f"https://127.0.0.1:{unused_tcp_port}",
            kms_uri="kms.example.org",
            user_uri=ALICE,
            token=token,
            ca_file=state / "tls_certificate.pem",
        )
        material = KeyMaterial(tmp_path / "keys.sqlite3")
        async with KmsClient(access, material) as client:
            await client.refresh()
            keys = client.keys()
            assert keys is not None and keys.periods()
            await asyncio.to_thread(kms, state, "user", "revoke", ALICE)
            with pytest.raises(KmsRefused):
                await client.provision()
        material.close()
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 10) == 0
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
