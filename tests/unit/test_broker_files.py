"""`keycast server broker-files`: what stands in the folder, and that a repeated call loses nothing of it."""

import json
import ssl
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from typer.testing import CliRunner, Result

from keycast.program import program
from message_plane.links.mqtt_topics import tag_of

HOSTS = "mqtt.example.org,192.168.1.10"


def typed(*words: object) -> Result:
    texts = ["server", *map(str, words)]
    return CliRunner().invoke(program(texts), texts)


def broker_files(*words: object) -> Any:
    result = typed("broker-files", *words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "broker-files"
    broker_files(path, "--ca", "--host", HOSTS, "--gateway", "gw.home")
    return path


def test_each_machine_has_a_folder_with_what_it_needs(folder: Path) -> None:
    found = set(contents(folder))
    assert found == {"register.json", "authority/ca.crt", "authority/ca.key"} | {
        f"brokers/mqtt.example.org/{name}"
        for name in ("mosquitto.conf", "acl", "ca.crt", "broker.crt", "broker.key", "revoked.crl")
    } | {
        f"{client}/{name}"
        for client in ("server", "gateways/gw.home")
        for name in ("ca.crt", "client.crt", "client.key")
    }
    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*")}
    assert modes == {0o600, 0o700}


def test_the_name_in_a_certificate_is_the_tag(folder: Path) -> None:
    root = certificate(folder / "authority" / "ca.crt")
    for client, entity in (("server", "server.local"), ("gateways/gw.home", "gw.home")):
        own = certificate(folder / client / "client.crt")
        own.verify_directly_issued_by(root)
        assert own.subject.rfc4514_string() == f"CN={tag_of(entity)}"
        key = serialization.load_pem_private_key((folder / client / "client.key").read_bytes(), None)
        assert key.public_key() == own.public_key()
    broker = certificate(folder / "brokers" / "mqtt.example.org" / "broker.crt")
    names = broker.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["mqtt.example.org"]
    assert [str(each) for each in names.get_values_for_type(x509.IPAddress)] == ["192.168.1.10"]


def test_a_gateway_cannot_pose_as_a_broker(folder: Path) -> None:
    """Its certificate is for clients only, and cannot sign another one."""
    own = certificate(folder / "gateways" / "gw.home" / "client.crt")
    purposes = own.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [x509.ExtendedKeyUsageOID.CLIENT_AUTH]
    assert own.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False


def test_a_repeated_call_adds_and_keeps(folder: Path) -> None:
    before = contents(folder)
    told = broker_files(
        folder, "--gateway", "gw.home", "--gateway", "attic/#", "--processes", 2, "--host", "b.example.org"
    )
    assert told["made"] == ["brokers/b.example.org", "server-2", "attic/#"]
    after = contents(folder)
    del before["register.json"]
    changed = {name for name, octets in before.items() if after[name] != octets}
    assert changed == {"brokers/mqtt.example.org/acl"}, "the second process of the Server is in it"
    assert f"gateways/{tag_of('attic/#')}/client.key" in after
    own = certificate(folder / "server-2" / "client.crt")
    assert own.subject.rfc4514_string() == f"CN={tag_of('server.local')}-2"
    assert broker_files(folder)["made"] == []
    assert contents(folder) == after


def test_a_file_that_was_changed_by_hand_is_left_alone(folder: Path) -> None:
    configuration = folder / "brokers" / "mqtt.example.org" / "mosquitto.conf"
    configuration.write_text(configuration.read_text() + "log_type all\n")
    assert broker_files(folder, "--gateway", "gw.2")["made"] == ["gw.2"]  # it would not be written
    before = contents(folder)
    result = typed("broker-files", folder, "--host", HOSTS, "--port", 8884, "--gateway", "gw.3")
    assert result.exit_code == 1 and "changed by hand" in result.output
    assert contents(folder) == before
    configuration.rename(folder / "mine.conf")
    broker_files(folder, "--host", HOSTS, "--port", 8884)
    assert "listener 8884\n" in configuration.read_text()


def test_a_folder_that_was_copied_and_removed_is_not_made_again(folder: Path) -> None:
    for path in (folder / "gateways" / "gw.home").iterdir():
        path.unlink()
    assert broker_files(folder, "--gateway", "gw.home")["made"] == []
    assert not list((folder / "gateways" / "gw.home").iterdir())


def test_a_lost_authority_is_not_replaced(folder: Path) -> None:
    for path in (folder / "authority").iterdir():
        path.unlink()
    result = typed("broker-files", folder, "--gateway", "gw.2")
    assert result.exit_code == 1 and "put back a copy" in result.output
    assert not list((folder / "authority").iterdir())


def test_a_call_that_was_cut_off_is_made_up_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from keycast.broker import folder as module

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "acl")

    with monkeypatch.context() as context:
        context.setattr(module._Writing, "_write_texts", full)
        assert typed("broker-files", folder, "--gateway", "gw.2", "--processes", 2).exit_code == 1
    told = broker_files(folder, "--gateway", "gw.2", "--processes", 2)
    assert told["made"] == ["server-2", "gw.2"]
    own = certificate(folder / "gateways" / "gw.2" / "client.crt")
    own.verify_directly_issued_by(certificate(folder / "authority" / "ca.crt"))


def test_a_revoked_gateway_is_on_both_lists_until_it_has_another_certificate(folder: Path) -> None:
    broker = folder / "brokers" / "mqtt.example.org"
    old = certificate(folder / "gateways" / "gw.home" / "client.crt").serial_number

    def revoked() -> bool:
        crl = x509.load_pem_x509_crl((broker / "revoked.crl").read_bytes())
        assert crl.is_signature_valid(certificate(broker / "ca.crt").public_key())  # type: ignore[arg-type]
        return crl.get_revoked_certificate_by_serial_number(old) is not None

    denied = f"user {tag_of('gw.home')}\ntopic deny #\n"
    assert not revoked() and denied not in (broker / "acl").read_text()
    assert broker_files(folder, "--revoke", "gw.home")["clients"][1]["revoked"] is True
    assert revoked() and denied in (broker / "acl").read_text()
    changed = broker_files(folder, "--gateway", "gw.home")["changed"]
    assert changed == ["brokers/mqtt.example.org/acl"]
    assert revoked() and denied not in (broker / "acl").read_text()
    assert certificate(folder / "gateways" / "gw.home" / "client.crt").serial_number != old


def test_what_a_broker_has_to_be_brought_is_named(folder: Path) -> None:
    below = "brokers/mqtt.example.org"
    result = typed("broker-files", folder, "--revoke", "gw.home")
    assert f"Revoked: gw.home\nChanged: {below}/acl, {below}/revoked.crl." in result.output
    assert "Copy each to its broker, and restart that." in result.output
    result = typed("broker-files", folder, "--host", HOSTS, "--install-at", "/srv/keycast")
    assert f"Changed: {below}/mosquitto.conf. Copy each to its broker, and restart that." in result.output
    assert "Nothing new." in typed("broker-files", folder).output
    result = typed("broker-files", folder, "--host", "mqtt2.example.org")
    assert "New: brokers/mqtt2.example.org\n" in result.output and "Changed" not in result.output


def test_an_authority_of_ones_own(tmp_path: Path) -> None:
    """Without --ca there is no key; the command says which name each certificate has to have."""
    told = broker_files(
        tmp_path / "f", "--host", HOSTS, "--gateway", "gw.home", "--install-at", "/etc/mosquitto/keycast"
    )
    assert [each["tag"] for each in told["clients"]] == [tag_of("server.local"), tag_of("gw.home")]
    assert set(contents(tmp_path / "f")) == {
        "register.json",
        "brokers/mqtt.example.org/mosquitto.conf",
        "brokers/mqtt.example.org/acl",
    }
    text = (tmp_path / "f" / "brokers" / "mqtt.example.org" / "mosquitto.conf").read_text()
    assert "cafile /etc/mosquitto/keycast/ca.crt\n" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--host", "a b"), "neither a host name nor an IP address"),
        (("--gateway", ""), "entity ID is empty"),
        (("--gateway", "server.local"), "is the CPNS Server"),
        (("--revoke", "nobody"), "has no certificate from here. Those that have are in register.json."),
        (("--revoke", "gw.hmoe"), "Did you mean 'gw.home'?"),
        (("--id", "other"), "is for the CPNS Server server.local"),
        (("--install-at", "etc"), "is no absolute path"),
        (("--host", "mqtt.example.org,other"), "is for mqtt.example.org, 192.168.1.10"),
    ],
)
def test_what_is_refused_changes_nothing(folder: Path, words: tuple[str, ...], said: str) -> None:
    before = contents(folder)
    result = typed("broker-files", folder, *words)
    assert result.exit_code == 1 and said in " ".join(result.output.split())
    assert contents(folder) == before


def test_a_damaged_register_is_no_new_folder(folder: Path) -> None:
    (folder / "register.json").write_text("{}")
    result = typed("broker-files", folder, "--gateway", "gw.2")
    assert result.exit_code == 1 and "is damaged" in result.output


def test_openssl_takes_the_pair(folder: Path) -> None:
    context = ssl.create_default_context(cafile=folder / "server" / "ca.crt")
    context.load_cert_chain(folder / "server" / "client.crt", folder / "server" / "client.key")
