"""Own keys and credentials: made once, readable by their owner only, one job each."""

import hashlib
import json
import os
import stat

import cbor2
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from cpns.errors import MalformedMessage
from message_plane import credentials, identity
from message_plane.errors import IdentityError
from message_plane.identity import BroadcastSigningKey, OwnIdentity


@pytest.fixture
def own(tmp_path):
    return OwnIdentity.create(tmp_path / "lamp.key", "lamp", "pne")


@pytest.mark.req("SEC-16")
def test_the_credential_is_the_ccs_with_the_full_entity_id_and_the_key(own):
    kid = hashlib.sha256(own.x).digest()[:8]
    assert own.credential.kid == kid
    assert own.credential.ccs == cbor2.dumps({2: "lamp", 8: {1: {1: 2, 2: kid, -1: 1, -2: own.x}}})


def test_a_ccs_is_parsed_to_the_credential_it_was_made_of(own):
    assert credentials.parse(own.credential.ccs, "pne") == own.credential


@pytest.mark.req("SEC-16")
@pytest.mark.parametrize(
    "change",
    [
        lambda claims: claims.update({2: "l" * 49}),
        lambda claims: claims.update({2: ""}),
        lambda claims: claims.update({2: 7}),
        lambda claims: claims.update({9: b"more"}),
        lambda claims: claims.pop(8),
        lambda claims: claims[8][1].update({2: b"another."}),
        lambda claims: claims[8][1].update({-2: claims[8][1][-2][:31]}),
        lambda claims: claims[8][1].update({-3: claims[8][1][-2]}),
        lambda claims: claims[8][1].update({-2: b"\xff" * 32, 2: hashlib.sha256(b"\xff" * 32).digest()[:8]}),
    ],
    ids=["long", "empty", "number", "more", "no key", "other kid", "short x", "with y", "no point"],
)
def test_a_ccs_of_any_other_form_is_refused(own, change):
    claims = cbor2.loads(own.credential.ccs)
    change(claims)
    with pytest.raises(MalformedMessage):
        credentials.parse(cbor2.dumps(claims, canonical=True), "pne")


def test_a_ccs_in_another_order_or_with_a_tail_is_refused(own):
    claims = cbor2.loads(own.credential.ccs)
    for octets in (cbor2.dumps(dict(reversed(claims.items()))), own.credential.ccs + b"\0", b"", b"\xa0", b"\x80"):
        with pytest.raises(MalformedMessage):
            credentials.parse(octets, "pne")


def test_an_entity_id_is_counted_in_octets_not_in_letters():
    x = identity.OwnIdentity("n", "pne", ec.generate_private_key(ec.SECP256R1())).x
    assert credentials.of("ü" * 24, "pne", x).entity_id == "ü" * 24
    with pytest.raises(MalformedMessage):
        credentials.of("ü" * 25, "pne", x)
    with pytest.raises(MalformedMessage):
        credentials.of("lamp", "owner", x)


def test_a_key_file_belongs_to_its_owner_only_and_is_never_overwritten(tmp_path, own):
    path = tmp_path / "lamp.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    octets = path.read_bytes()
    with pytest.raises(IdentityError, match="exists already"):
        OwnIdentity.create(path, "lamp", "pne")
    assert path.read_bytes() == octets


def test_a_loaded_identity_is_the_created_one(tmp_path, own):
    loaded = OwnIdentity.load(tmp_path / "lamp.key")
    assert loaded.credential == own.credential
    assert loaded.private_octets() == own.private_octets()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_key_file_that_others_can_read_is_refused_with_the_next_step(tmp_path, own, mode):
    path = tmp_path / "lamp.key"
    path.chmod(mode)
    with pytest.raises(IdentityError, match=f"Run: chmod 600 {path}"):
        OwnIdentity.load(path)


@pytest.mark.parametrize("octets", [b"", b"{", b"[]", b'{"format": "keycast identity 1"}', b"x" * 5000])
def test_a_damaged_key_file_is_refused(tmp_path, octets):
    path = tmp_path / "bad.key"
    path.write_bytes(octets)
    path.chmod(0o600)
    with pytest.raises(IdentityError, match=r"not a usable key file|more than 4096 octets"):
        OwnIdentity.load(path)


def test_a_missing_key_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(IdentityError, match="does not exist"):
        OwnIdentity.load(tmp_path / "none.key")


def test_private_keys_do_not_show_in_reprs(tmp_path, own):
    signing = BroadcastSigningKey.create(tmp_path / "signing.key")
    secret = own.private_octets()
    for text in (repr(own), str(own), repr(signing), repr(own.credential)):
        assert secret.hex() not in text
        assert repr(secret) not in text
        assert str(int.from_bytes(secret, "big")) not in text


def test_a_broadcast_signature_is_es256_over_the_octets(tmp_path):
    signing = BroadcastSigningKey.create(tmp_path / "signing.key", epoch=3)
    loaded = BroadcastSigningKey.load(tmp_path / "signing.key")
    assert (loaded.public_key, loaded.epoch) == (signing.public_key, 3)
    signature = loaded.sign(b"message")
    assert len(signature) == 64
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + loaded.public_key)
    der = encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
    public.verify(der, b"message", ec.ECDSA(hashes.SHA256()))
    with pytest.raises(InvalidSignature):
        public.verify(der, b"massage", ec.ECDSA(hashes.SHA256()))


@pytest.mark.req("SEC-17")
def test_one_key_for_two_jobs_is_refused_when_it_is_loaded(tmp_path):
    """The same scalar in both files, and the negative one, whose public point has the same x coordinate."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    own = OwnIdentity.create(tmp_path / "gateway.key", "gw", "gateway")
    scalar = int.from_bytes(own.private_octets(), "big")
    for value in (scalar, order - scalar):
        path = tmp_path / f"signing-{value == scalar}.key"
        text = json.dumps({"format": "keycast signing key 1", "epoch": 1, "private_key": f"{value:064x}"})
        path.write_text(text)
        os.chmod(path, 0o600)
        BroadcastSigningKey.load(path)
        with pytest.raises(IdentityError, match="two jobs"):
            BroadcastSigningKey.load(path, own)
    identity.require_distinct(own, BroadcastSigningKey.create(tmp_path / "fresh.key", own))


@pytest.mark.req("SEC-17")
def test_one_key_for_two_jobs_is_refused_when_it_is_made(tmp_path, monkeypatch):
    """A machine without entropy makes the same key again."""
    own = OwnIdentity.create(tmp_path / "gateway.key", "gw", "gateway")
    made = ec.derive_private_key(int.from_bytes(own.private_octets(), "big"), ec.SECP256R1())
    monkeypatch.setattr(ec, "generate_private_key", lambda curve: made)
    with pytest.raises(IdentityError, match="two jobs"):
        BroadcastSigningKey.create(tmp_path / "signing.key", own)
    assert not (tmp_path / "signing.key").exists()
