"""The files for a broker: what a broker would refuse, or never deliver to, is told before it is asked."""

import datetime
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from message_plane.errors import BrokerFilesRefused
from message_plane.links.mqtt_client import means_of
from message_plane.links.mqtt_files import check, password_of, tls_context
from message_plane.links.mqtt_section import BrokerFiles, MqttSection
from message_plane.links.mqtt_topics import tag_of

NOW = datetime.datetime(2026, 6, 1, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)
TAG = "00112233445566778899aabbccddeeff"


def made(folder: Path, name: str, cn: str | None = TAG, begins: int = -1, ends: int = 1) -> BrokerFiles:
    """A pair that is valid from `begins` to `ends` days after NOW."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([] if cn is None else [x509.NameAttribute(NameOID.COMMON_NAME, cn)])
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(NOW + begins * DAY)
        .not_valid_after(NOW + ends * DAY)
        .sign(key, hashes.SHA256())
    )
    own = BrokerFiles(ca=folder / f"{name}.crt", certificate=folder / f"{name}.crt", key=folder / f"{name}.key")
    (folder / f"{name}.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    keep(folder / f"{name}.key", key)
    return own


def keep(path: Path, key: ec.EllipticCurvePrivateKey, how: KeySerializationEncryption | None = None) -> None:
    path.touch(0o600)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how or NoEncryption()))


def refusal(own: BrokerFiles, *, is_server: bool = False) -> str:
    with pytest.raises(BrokerFilesRefused) as caught:
        check(own, TAG, NOW, is_server=is_server)
    return str(caught.value)


def test_a_pair_of_the_tag_is_accepted_and_so_is_none_at_all(tmp_path: Path) -> None:
    check(made(tmp_path, "own"), TAG, NOW)
    check(BrokerFiles(), TAG, NOW)


def test_the_processes_of_a_server_have_names_of_their_own_and_a_gateway_has_not(tmp_path: Path) -> None:
    second = made(tmp_path, "second", f"{TAG}-2")
    check(second, TAG, NOW, is_server=True)
    assert f"CN {TAG}-2" in refusal(second)
    of_second = {"ca": second.ca, "certificate": second.certificate, "key": second.key}
    means = means_of(MqttSection(brokers=["mqtts://b"], **of_second), "cpns.example", "b")
    assert means.known_as == f"{TAG}-2", "below which `user` a line of the access list is missing"
    plain = MqttSection(brokers=["mqtt://localhost"], **of_second)
    assert means_of(plain, "cpns.example").known_as == tag_of("cpns.example")


@pytest.mark.parametrize("cn", ["gw.home", TAG.upper(), f"{TAG}2", TAG[:-1], None])
def test_a_certificate_of_another_name_is_told_with_the_one_that_it_must_have(tmp_path: Path, cn: str | None) -> None:
    own = made(tmp_path, "own", cn)
    for is_server in (False, True):
        told = refusal(own, is_server=is_server)
        assert TAG in told and (f"the CN {cn}" if cn else "no CN") in told


def test_dates_are_told(tmp_path: Path) -> None:
    assert "valid until 2026-05-31" in refusal(made(tmp_path, "old", begins=-2, ends=-1))
    assert "valid from 2026-06-02 on, and this machine has 2026-06-01. Set its clock" in refusal(
        made(tmp_path, "new", begins=1, ends=2)
    )


def test_a_key_of_another_certificate_is_told(tmp_path: Path) -> None:
    one, other = made(tmp_path, "one"), made(tmp_path, "other")
    told = refusal(BrokerFiles(certificate=one.certificate, key=other.key))
    assert f"{other.key} is not the key of {one.certificate}" in told


def _missing(own: BrokerFiles) -> None:
    assert own.key is not None
    own.key.unlink()


def _open_to_others(own: BrokerFiles) -> None:
    assert own.key is not None
    own.key.chmod(0o640)


def _encrypted(own: BrokerFiles) -> None:
    assert own.key is not None
    keep(own.key, ec.generate_private_key(ec.SECP256R1()), BestAvailableEncryption(b"secret"))


def _no_key(own: BrokerFiles) -> None:
    assert own.key is not None
    own.key.write_bytes(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")


def _no_certificate(own: BrokerFiles) -> None:
    assert own.certificate is not None
    own.certificate.write_bytes(b"nothing")


def _no_certificate_file(own: BrokerFiles) -> None:
    assert own.certificate is not None
    own.certificate.unlink()


@pytest.mark.req("SEC-17")
@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (_missing, "own.key does not exist"),
        (_open_to_others, "can be read by others. Run: chmod 600"),
        (_encrypted, "is encrypted"),
        (_no_key, "holds no private key"),
        (_no_certificate, "own.crt holds no certificate"),
        (_no_certificate_file, "There is no file"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, harm: Callable[[BrokerFiles], None], told: str) -> None:
    own = made(tmp_path, "own")
    harm(own)
    assert told in refusal(own)


def test_a_certificate_without_key_and_a_password_that_others_read_are_told(tmp_path: Path) -> None:
    assert "has no key" in refusal(BrokerFiles(certificate=made(tmp_path, "own").certificate))
    (tmp_path / "password").write_text("secret")
    (tmp_path / "password").chmod(0o644)
    assert "can be read by others" in refusal(BrokerFiles(password=tmp_path / "password"))


def test_tls_and_password_are_made_of_the_files(tmp_path: Path) -> None:
    own = made(tmp_path, "own")
    assert tls_context(own).cert_store_stats()["x509"] == 1
    assert password_of(own) is None
    (tmp_path / "password").touch(0o600)
    (tmp_path / "password").write_text("pass word\n")
    assert password_of(BrokerFiles(password=tmp_path / "password")) == "pass word"
    _encrypted(own)
    with pytest.raises(BrokerFilesRefused, match=r"own\.crt"):
        tls_context(own)
    _no_certificate(own)
    with pytest.raises(BrokerFilesRefused, match=r"own\.crt"):
        tls_context(own)
