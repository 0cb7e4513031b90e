"""What a KMS issues, and the files with its secrets."""

import datetime
import json
import os
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from pydantic import SecretStr, ValidationError

from http_door import tls
from http_door.errors import TlsKeyUnusable
from key_servers.errors import SecretFileUnusable
from key_servers.https import tokens
from key_servers.kms import master_secrets
from key_servers.kms.config import KmsConfig
from key_servers.kms.issuer import Issuer, PeriodNotServed
from mikey_sakke import eccsi, sakke
from mikey_sakke.kms_exchange import check_certificate, check_key_set, community, period_bounds, uid_of
from mikey_sakke.kms_values import ROLE_ROOT
from private_store import files
from tests.unit.kms_world import (
    ALICE,
    BOB,
    GMS,
    KMS_URI,
    NOW,
    PERIOD,
    issuer,
    keys_of,
)
from tests.unit.kms_world import (
    master_secrets as secrets,
)

NUMBER = issuer().period_for(NOW, None)
UTC_NOW = datetime.datetime.fromtimestamp(NOW, datetime.UTC)


@pytest.mark.req("SEAL-GMK-03", "SEAL-GMK-04")
@pytest.mark.parametrize("uri", [ALICE, GMS, "tel:+33123456789", "sip:ü@example.org"])
def test_what_is_issued_passes_the_checks_of_rfc_6507_and_rfc_6508(uri: str) -> None:
    certificate = issuer().certificate
    check_certificate(certificate, ROLE_ROOT, NOW)
    check_key_set(keys_of(uri, NUMBER), certificate, community(certificate), uri, NOW)


@pytest.mark.req("SEAL-GMK-03")
def test_keys_are_tied_to_one_user_and_one_period() -> None:
    alice, bob, later = keys_of(ALICE, NUMBER), keys_of(BOB, NUMBER), keys_of(ALICE, NUMBER + 1)
    for one, other in ((alice, bob), (alice, later)):
        assert one.uid != other.uid and one.rsk != other.rsk and one.ssk != other.ssk
    first, last = period_bounds(issuer().certificate, NUMBER)
    assert (alice.valid_from, alice.valid_to) == (first, last) and last - first + 1 == PERIOD
    encryption = sakke.Community(issuer().certificate.pub_enc_key)
    sealed = encryption.encapsulate(bytes(16), later.uid)
    with pytest.raises(sakke.NotDecapsulated):
        sakke.DecryptionKey(encryption, alice.uid, alice.rsk).decapsulate(sealed)


@pytest.mark.req("SEAL-GMK-03")
def test_only_the_present_and_the_next_period_are_served() -> None:
    first, last = period_bounds(issuer().certificate, NUMBER)
    assert issuer().period_for(NOW, None) == NUMBER
    for moment, number in ((first, NUMBER), (last, NUMBER), (last + 1, NUMBER + 1), (last + PERIOD, NUMBER + 1)):
        assert issuer().period_for(NOW, moment) == number
    for moment in (first - 1, last + PERIOD + 1, 0, 2**40):
        with pytest.raises(PeriodNotServed):
            issuer().period_for(NOW, moment)


def test_rsk_is_fixed_and_ssk_is_fresh() -> None:
    one, other = issuer().key_set(ALICE, NUMBER), issuer().key_set(ALICE, NUMBER)
    assert one.rsk == other.rsk
    assert one.ssk != other.ssk and one.pvt != other.pvt


def test_an_unusable_v_is_drawn_again() -> None:
    """RFC 6507, 5.1.1: where HS mod q or SSK is 0, another v; here the first one makes SSK 0."""
    certificate = issuer().certificate
    uid, q = uid_of(certificate, ALICE, NUMBER), int(eccsi.P256.q)
    drawn = iter([5 - 1, 6 - 1])
    pvt = eccsi.P256.encode(eccsi.P256.affine(eccsi.run(eccsi.P256.multiply(5, eccsi.P256.base))))
    # KSAK = -HS * v needs a HS, which needs KPAK, which needs KSAK: so the certificate's KPAK stays the other one
    hs = int(eccsi.from_octets(eccsi._hs(certificate.pub_auth_key, uid, pvt)))
    unlucky = Issuer(replace(secrets(), ksak=-hs * 5 % q), lambda _: next(drawn))
    unlucky.certificate = certificate
    unlucky.key_set(ALICE, NUMBER)
    assert list(drawn) == []


def test_two_kms_have_nothing_in_common() -> None:
    one, other = issuer().certificate, issuer("kms.elsewhere.org", 2).certificate
    assert one.pub_enc_key != other.pub_enc_key and one.pub_auth_key != other.pub_auth_key


def test_secrets_never_show() -> None:
    master, maker = secrets(), issuer()
    for shown in (repr(master), str(master), repr(maker), repr(maker.__dict__)):
        for secret in (master.ksak, master.z):
            assert str(secret) not in shown and f"{secret:x}" not in shown.lower()


@pytest.mark.parametrize(
    "change",
    [
        {"period": 59},
        {"period": 10**10},
        {"offset": PERIOD},
        {"offset": -1},
        {"valid_to": 1},
        {"ksak": 0},
        {"ksak": int(eccsi.P256.q)},
        {"z": 1},
        {"z": int(sakke.CURVE.q)},
    ],
)
def test_master_secrets_that_cannot_be_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        replace(secrets(), **change)


# files


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder, and a umask that would let everybody read."""
    before = os.umask(0)
    yield tmp_path / "state"
    os.umask(before)


def test_master_secrets_come_back_from_a_file_that_only_its_owner_reads(folder: Path) -> None:
    path = folder / "master_secrets.json"
    master_secrets.create(path, secrets())
    assert path.stat().st_mode & 0o777 == 0o600 and folder.stat().st_mode & 0o777 == 0o700
    assert master_secrets.load(path) == secrets()


def test_master_secrets_are_never_overwritten(folder: Path) -> None:
    path = folder / "master_secrets.json"
    master_secrets.create(path, secrets())
    before = path.read_bytes()
    with pytest.raises(SecretFileUnusable, match="exists already"):
        master_secrets.create(path, secrets(KMS_URI, 9))
    assert path.read_bytes() == before
    other = folder / "link.json"
    other.symlink_to(folder / "elsewhere.json")
    with pytest.raises(SecretFileUnusable, match="exists already"):
        master_secrets.create(other, secrets())
    assert not (folder / "elsewhere.json").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o602])
def test_master_secrets_that_others_can_read_or_write_are_refused(folder: Path, mode: int) -> None:
    path = folder / "master_secrets.json"
    master_secrets.create(path, secrets())
    path.chmod(mode)
    with pytest.raises(SecretFileUnusable, match="chmod 600"):
        master_secrets.load(path)


def test_a_damaged_file_is_refused_without_quoting_it(folder: Path) -> None:
    path = folder / "master_secrets.json"
    master_secrets.create(path, secrets())
    fields = json.loads(path.read_bytes())
    for change in ({"z": "zz" + fields["z"]}, {"ksak": 5}, {"format": "x"}, {"period_s": 1}, {"more": 1}, {"z": "1"}):
        path.write_text(json.dumps(fields | change))
        with pytest.raises(SecretFileUnusable) as caught:
            master_secrets.load(path)
        assert fields["z"] not in str(caught.value) and caught.value.__cause__ is None
    for octets in (b"", b"{", b"[]", b"\xff" * 100, b"[" * 60000, b" " * 70000):
        path.write_bytes(octets)
        with pytest.raises(SecretFileUnusable):
            master_secrets.load(path)


def test_a_missing_file_and_a_folder_in_its_place_are_told_apart(folder: Path) -> None:
    with pytest.raises(SecretFileUnusable, match="does not exist"):
        master_secrets.load(folder / "x.json")
    folder.mkdir()
    with pytest.raises(SecretFileUnusable, match="no ordinary file"):
        files.read(folder, SecretFileUnusable)


# tokens


def test_a_token_fits_its_row_until_its_last_second() -> None:
    token, stored = tokens.draw(ALICE, NOW, os.urandom)
    parts = tokens.split(f"Bearer {token}")
    assert parts is not None and parts[0] == stored.token_id
    assert tokens.fits(parts[1], stored, NOW)
    assert not tokens.fits(parts[1], stored, NOW + 1)
    assert not tokens.fits(parts[1][:-1] + ("0" if parts[1][-1] != "0" else "1"), stored, NOW)
    assert not tokens.fits(parts[1], None, NOW)
    assert parts[1] not in repr(stored) and stored.secret_hash not in repr(stored) and parts[1] != stored.secret_hash


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Basic " + "0" * 12 + "." + "0" * 64, "Bearer x.y", "Bearer " + "0" * 5000],
)
def test_what_is_no_token_of_ours_is_none(header: str | None) -> None:
    assert tokens.split(header) is None


# TLS and configuration


def test_a_self_signed_certificate_serves_its_names_and_its_key_is_private(folder: Path) -> None:
    certificate, key = folder / "c.pem", folder / "k.pem"
    tls.make_self_signed(certificate, key, ["kms.local", "192.0.2.7", "::1"], UTC_NOW)
    assert key.stat().st_mode & 0o777 == 0o600
    parsed = x509.load_pem_x509_certificate(certificate.read_bytes())
    names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["kms.local"]
    assert [str(each) for each in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.7", "::1"]
    assert tls.server_context(certificate, key).minimum_version == ssl.TLSVersion.TLSv1_2
    with pytest.raises(tls.TlsUnusable, match="exists already"):
        tls.make_self_signed(certificate, folder / "other.pem", ["x"], UTC_NOW)
    key.chmod(0o644)
    with pytest.raises(TlsKeyUnusable, match="chmod 600"):
        tls.server_context(certificate, key)


def test_tls_files_that_do_not_belong_together_are_refused(folder: Path) -> None:
    tls.make_self_signed(folder / "c.pem", folder / "k.pem", ["a"], UTC_NOW)
    tls.make_self_signed(folder / "c2.pem", folder / "k2.pem", ["a"], UTC_NOW)
    with pytest.raises(tls.TlsUnusable):
        tls.server_context(folder / "c.pem", folder / "k2.pem")
    (folder / "k2.pem").write_text("no key")
    with pytest.raises(tls.TlsUnusable):
        tls.server_context(folder / "c2.pem", folder / "k2.pem")


@pytest.mark.parametrize(
    "change",
    [
        {"listen": ["0.0.0.0"]},
        {"listen": ["127.0.0.1", "192.0.2.7"]},
        {"listen": ["localhost"]},
        {"listen": []},
        {"tls_key": "k.pem"},
        {"tls_certificate": "c.pem"},
        {"port": 70000},
        {"unknown": 1},
    ],
)
def test_a_configuration_that_would_send_keys_in_clear_or_is_wrong_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        KmsConfig(**({"state_dir": "x"} | change))


def test_plain_http_is_for_loopback_and_a_database_password_never_shows() -> None:
    config = KmsConfig(state_dir=Path("x"), listen=["127.0.0.1", "::1"], database=SecretStr("postgresql://a:pw@h/d"))
    assert "pw" not in repr(config)
    KmsConfig(state_dir=Path("x"), listen=["0.0.0.0"], tls_certificate=Path("c"), tls_key=Path("k"))
