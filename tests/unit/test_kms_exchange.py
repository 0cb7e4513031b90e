"""The checks of a KMS's client: each field of certificate and key set is changed, and refused for its own reason."""

from dataclasses import replace
from typing import Any

import pytest

from mikey_sakke import eccsi, sakke
from mikey_sakke.curve import Curve
from mikey_sakke.identifiers import NTP_OFFSET
from mikey_sakke.kms_exchange import (
    CLOCKS_DIFFER_MAX_S,
    ROOT_PATH,
    Ask,
    check_certificate,
    period_bounds,
    same_resource,
)
from mikey_sakke.kms_faults import KmsFault, KmsRefused
from mikey_sakke.kms_values import (
    ROLE_EXTERNAL,
    ROLE_ROOT,
    CertificateCache,
    DomainList,
    ErrorReport,
    Init,
    KeyProvision,
    KeySet,
    KmsMessage,
    Request,
    Unzoned,
)
from mikey_sakke.kms_xml import decode
from tests.unit.kms_world import ALICE, BASE_URL, BOB, KMS_URI, NOW, PERIOD, Answers, issuer, keys_of, neighbour

A = Answers()
OTHER_POINT = neighbour()
NEXT = keys_of(ALICE, A.number + 1)
PAST = keys_of(ALICE, A.number - 1)
BOBS = keys_of(BOB, A.number)
FOREIGN = keys_of(ALICE, A.number, "kms.elsewhere.org", 2)


def of_small_order(curve: Curve) -> bytes:
    """A point on the curve of SAKKE outside the group of order q: 3 of 4 points are."""
    p = int(curve.p)
    for x in range(2, 50):
        square = (x * x * x - 3 * x) % p
        y = pow(square, (p + 1) // 4, p)
        if y * y % p == square:
            octets = bytes(curve.encode((x, y)))
            try:
                check_certificate(replace(A.certificate, pub_enc_key=octets), ROLE_ROOT, NOW)
            except KmsFault:
                return octets
    raise AssertionError("no such point found")


def init_code(octets: bytes, ask: Ask) -> str:
    with pytest.raises(KmsFault) as caught:
        A.exchange.certificate(ask, octets, NOW)
    return caught.value.code


def keys_code(octets: bytes, ask: Ask) -> str:
    with pytest.raises(KmsFault) as caught:
        A.exchange.key_sets(ask, octets, NOW, A.certificate)
    text = str(caught.value)
    assert text.endswith((".", ")")) and A.key_set.ssk.hex() not in text
    return caught.value.code


def test_requests_name_user_kms_time_and_url() -> None:
    ask = A.exchange.init(NOW)
    assert ask.url == f"{BASE_URL}/keymanagement/identity/v1/init"
    assert decode(ask.body, Request) == Request(ALICE, KMS_URI, NOW, ask.url)


@pytest.mark.req("SEAL-GMK-19")
def test_keys_of_a_period_are_asked_for_by_uri_and_ntp_time() -> None:
    moment = 0xD6B43232 - NTP_OFFSET
    ask = A.exchange.keys(NOW, moment)
    assert ask.url.endswith("/keyprov/sip%3Aalice%40example.org/D6B4323200000000")


def test_what_the_kms_really_answers_is_accepted() -> None:
    ask = A.exchange.init(NOW)
    assert A.exchange.certificate(ask, A.init(ask), NOW) == A.certificate
    ask = A.exchange.keys(NOW)
    assert A.exchange.key_sets(ask, A.keys(ask), NOW, A.certificate) == (A.key_set,)


ENVELOPE: list[tuple[dict[str, Any], str]] = [
    ({"version": "2.0"}, "wrong-version"),
    ({"user_uri": BOB}, "wrong-user"),
    ({"kms_uri": "kms.elsewhere.org"}, "wrong-kms"),
    ({"time": NOW - CLOCKS_DIFFER_MAX_S - 1}, "wrong-time"),
    ({"time": NOW + CLOCKS_DIFFER_MAX_S + 1}, "wrong-time"),
    ({"client_req_url": f"{BASE_URL}/keymanagement/identity/v1/certcache"}, "wrong-request"),
    ({"client_req_url": "https://[broken"}, "wrong-request"),
    ({"message": None}, "missing-element"),
    ({"message": None, "error": ErrorReport(3, "no")}, "refused"),
    ({"message": KmsMessage(certificate_cache=CertificateCache())}, "missing-element"),
]


@pytest.mark.parametrize(("change", "code"), ENVELOPE)
def test_each_changed_field_of_a_response_is_its_own_error(change: dict[str, Any], code: str) -> None:
    ask = A.exchange.init(NOW)
    assert init_code(A.init(ask, envelope=change), ask) == code
    ask = A.exchange.keys(NOW)
    assert keys_code(A.keys(ask, envelope=change), ask) == code


def local(moment: int, zone_h: float) -> Unzoned:
    """`moment` as a clock of that zone shows it, written without the zone."""
    return Unzoned(moment + int(zone_h * 3600))


@pytest.mark.parametrize("zone_h", [-12, -9.5, -5, 0, 2, 5.75, 14])
def test_a_kms_may_write_its_local_time_without_a_zone(zone_h: float) -> None:
    ask = A.exchange.init(NOW)
    envelope = {"time": local(NOW + 5, zone_h)}
    times = {"valid_from": local(NOW, zone_h), "valid_to": local(NOW + 86400 * 365, zone_h)}
    assert A.exchange.certificate(ask, A.init(ask, envelope, **times), NOW).kms_uri == KMS_URI
    ask = A.exchange.keys(NOW)
    first, last = period_bounds(A.certificate, A.number)
    times = {"valid_from": local(first, zone_h), "valid_to": local(last, zone_h)}
    (key_set,) = A.exchange.key_sets(ask, A.keys(ask, envelope=envelope, **times), NOW, A.certificate)
    assert key_set.valid_to == times["valid_to"]


def test_times_without_zone_are_believed_no_further_than_zones_reach() -> None:
    ask = A.exchange.init(NOW)
    for seconds in (15 * 3600, -13 * 3600, 3600 + 450, -86400):
        assert init_code(A.init(ask, {"time": Unzoned(NOW + seconds)}), ask) == "wrong-time"
    assert init_code(A.init(ask, valid_from=Unzoned(NOW + 15 * 3600)), ask) == "not-valid"
    assert init_code(A.init(ask, valid_to=Unzoned(NOW - 1)), ask) == "not-valid"
    ask = A.exchange.keys(NOW)
    _, last = period_bounds(A.certificate, A.number)
    for valid_to in (last + 15 * 3600, last - 13 * 3600):
        assert keys_code(A.keys(ask, valid_to=Unzoned(valid_to)), ask) == "not-valid"


@pytest.mark.parametrize(
    ("named", "right"),
    [
        ("keyprov", True),
        ("keyprov/", True),
        ("keyprov/sip:alice@example.org", True),
        ("keyprov/sip%3Aalice%40example.org/d6b4323200000000", True),
        ("keyprov/sip%3Aalice%40example.org/d6b4323300000000", False),
        ("keyprov/sip%3Abob%40example.org", False),
        ("init", False),
        ("", False),
        ("../keyprov", False),
    ],
)
def test_an_answer_may_name_what_was_asked_less_exactly_but_nothing_else(named: str, right: bool) -> None:
    ask = A.exchange.keys(NOW, 0xD6B43232 - NTP_OFFSET)
    assert same_resource(ask.url, BASE_URL + ROOT_PATH + named) is right
    assert same_resource(BASE_URL + ROOT_PATH + named, ask.url) is right
    assert not same_resource(ask.url, BASE_URL + "/elsewhere" + ROOT_PATH + named)


def test_a_refusal_without_a_sentence_is_one() -> None:
    ask = A.exchange.init(NOW)
    octets = (
        A.response(ask, None, error=ErrorReport(6)).replace(b"<ErrorMsg></ErrorMsg>", b"").replace(b"<ErrorMsg/>", b"")
    )
    assert b"ErrorMsg" not in octets and init_code(octets, ask) == "refused"


def test_a_refusal_of_the_kms_comes_with_its_number_and_text() -> None:
    ask = A.exchange.keys(NOW)
    with pytest.raises(KmsRefused, match=r"The user is revoked\. \(6\)") as caught:
        A.exchange.key_sets(
            ask, A.response(ask, None, error=ErrorReport(6, "The user is revoked.")), NOW, A.certificate
        )
    assert caught.value.number == 6


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"version": "2.0"}, "wrong-version"),
        ({"role": ROLE_EXTERNAL}, "wrong-role"),
        ({"security_gateway": True}, "wrong-role"),
        ({"kms_uri": "kms.elsewhere.org"}, "wrong-kms"),
        ({"valid_from": NOW + 1}, "not-valid"),
        ({"valid_to": NOW - 1}, "not-valid"),
        ({"revoked": True}, "revoked"),
        ({"user_id_format": "1"}, "wrong-identifier-format"),
        ({"key_period": 0}, "wrong-key-period"),
        ({"key_period": 2**62}, "wrong-key-period"),
        ({"key_offset": PERIOD}, "wrong-key-period"),
        ({"parameter_set": 2}, "wrong-parameter-set"),
        ({"pub_enc_key": b"\x04" + bytes(256)}, "wrong-public-key"),
        ({"pub_enc_key": b"\x04" + b"\xff" * 256}, "wrong-public-key"),
        ({"pub_enc_key": b"\x02" + A.certificate.pub_enc_key[1:]}, "wrong-public-key"),
        ({"pub_enc_key": of_small_order(sakke.CURVE)}, "wrong-public-key"),
        ({"pub_auth_key": b"\x04" + bytes(64)}, "wrong-public-key"),
        ({"pub_auth_key": A.certificate.pub_auth_key[:-1] + b"\x00"}, "wrong-public-key"),
    ],
)
def test_each_changed_field_of_a_certificate_is_its_own_error(change: dict[str, Any], code: str) -> None:
    ask = A.exchange.init(NOW)
    assert init_code(A.init(ask, **change), ask) == code


def test_what_is_only_for_people_or_for_routing_changes_nothing() -> None:
    ask = A.exchange.init(NOW)
    octets = A.init(ask, {"id": "x", "kms_id": "y"}, id="x", cert_uri="c", issuer="i", domain_list=DomainList(("d",)))
    assert A.exchange.certificate(ask, octets, NOW).pub_enc_key == A.certificate.pub_enc_key


def changed(octets: bytes, at: int = -1) -> bytes:
    """The same octets with one bit changed."""
    found = bytearray(octets)
    found[at] ^= 1
    return bytes(found)


@pytest.mark.req("SEAL-GMK-19", "MC-GMK-04")
@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"version": "2.0"}, "wrong-version"),
        ({"kms_uri": "kms.elsewhere.org"}, "wrong-kms"),
        ({"user_uri": BOB}, "wrong-user"),
        ({"valid_from": NOW + 1}, "not-valid"),
        ({"valid_to": NOW - 1}, "not-valid"),
        ({"valid_to": NOW + 10 * PERIOD}, "not-valid"),
        ({"revoked": True}, "revoked"),
        ({"period_number": A.number - 1}, "wrong-period-number"),
        ({"period_number": A.number + 1}, "wrong-period-number"),
        ({"uid": changed(A.key_set.uid)}, "wrong-uid"),
        ({"uid": BOBS.uid, "rsk": BOBS.rsk, "ssk": BOBS.ssk, "pvt": BOBS.pvt}, "wrong-uid"),
        ({"uid": PAST.uid, "rsk": PAST.rsk, "ssk": PAST.ssk, "pvt": PAST.pvt}, "wrong-uid"),
        ({"ssk": changed(A.key_set.ssk)}, "wrong-signing-key"),
        ({"ssk": bytes(32)}, "wrong-signing-key"),
        ({"ssk": b"\xff" * 32}, "wrong-signing-key"),
        ({"ssk": BOBS.ssk, "pvt": BOBS.pvt}, "wrong-signing-key"),
        ({"pvt": changed(A.key_set.pvt)}, "wrong-signing-key"),
        ({"pvt": A.certificate.pub_auth_key}, "wrong-signing-key"),
        ({"pvt": b"\x04" + bytes(64)}, "wrong-signing-key"),
        ({"rsk": changed(A.key_set.rsk)}, "wrong-decryption-key"),
        ({"rsk": BOBS.rsk}, "wrong-decryption-key"),
        ({"rsk": FOREIGN.rsk}, "wrong-decryption-key"),
        ({"rsk": bytes(257)}, "wrong-decryption-key"),
        ({"rsk": of_small_order(sakke.CURVE)}, "wrong-decryption-key"),
        ({"rsk": bytes(sakke.CURVE.encode((0, 0)))}, "wrong-decryption-key"),
    ],
)
def test_each_changed_field_of_a_key_set_is_its_own_error(change: dict[str, Any], code: str) -> None:
    ask = A.exchange.keys(NOW)
    assert keys_code(A.keys(ask, **change), ask) == code


def test_a_key_set_made_under_another_certificate_is_refused() -> None:
    named = replace(A.certificate, cert_uri="cert1", issuer="issuer1")
    ask = A.exchange.keys(NOW)
    for change in ({"cert_uri": "cert2"}, {"issuer": "issuer2"}):
        with pytest.raises(KmsFault) as caught:
            A.exchange.key_sets(ask, A.keys(ask, **change), NOW, named)
        assert caught.value.code == "wrong-certificate"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"key_period": PERIOD * 2}, "wrong-period-number"),
        ({"key_offset": 1}, "wrong-uid"),
        ({"pub_auth_key": OTHER_POINT.pub_auth_key}, "wrong-signing-key"),
        ({"pub_enc_key": OTHER_POINT.pub_enc_key}, "wrong-decryption-key"),
    ],
)
def test_a_certificate_that_was_changed_unseen_does_not_fit_the_keys(change: dict[str, Any], code: str) -> None:
    ask = A.exchange.keys(NOW)
    with pytest.raises(KmsFault) as caught:
        A.exchange.key_sets(ask, A.keys(ask), NOW, replace(A.certificate, **change))
    assert caught.value.code == code


@pytest.mark.req("SEAL-GMK-19")
def test_keys_of_another_period_are_not_accepted_for_this_one() -> None:
    ask = A.exchange.keys(NOW)
    for key_sets in ((), (PAST,), (NEXT,), (A.key_set, A.key_set), (A.key_set, PAST)):
        octets = A.response(ask, KmsMessage(key_provision=KeyProvision(key_sets)))
        assert keys_code(octets, ask) == "wrong-period-number"
    octets = A.response(ask, KmsMessage(key_provision=KeyProvision((A.key_set, NEXT))))
    assert A.exchange.key_sets(ask, octets, NOW, A.certificate) == (A.key_set, NEXT)


@pytest.mark.req("SEAL-GMK-19")
def test_keys_are_bound_to_their_period_down_to_the_second() -> None:
    first, last = period_bounds(A.certificate, A.number)
    assert last - first == PERIOD - 1 and first <= NOW <= last
    for moment, key_set in ((first, A.key_set), (last, A.key_set), (last + 1, NEXT), (first - 1, PAST)):
        ask = A.exchange.keys(NOW, moment)
        octets = A.response(ask, KmsMessage(key_provision=KeyProvision((key_set,))))
        assert A.exchange.key_sets(ask, octets, NOW, A.certificate) == (key_set,)
    for moment in (first - 1, last + 1):
        ask = A.exchange.keys(NOW, moment)
        assert keys_code(A.keys(ask), ask) == "wrong-period-number"


def test_certificates_of_others_are_external_valid_and_not_our_own() -> None:
    external = replace(neighbour(), role=ROLE_EXTERNAL)
    ask = A.exchange.cache(NOW, 3)
    assert ask.url.endswith("/certcache/3")
    good = A.response(ask, KmsMessage(certificate_cache=CertificateCache((external,), 4)))
    assert A.exchange.certificates(ask, good, NOW) == ((external,), 4)
    for certificate, code in (
        (neighbour(), "wrong-role"),
        (replace(external, kms_uri=KMS_URI), "wrong-kms"),
        (replace(external, pub_enc_key=bytes(257)), "wrong-public-key"),
        (replace(external, revoked=True), "revoked"),
    ):
        octets = A.response(ask, KmsMessage(certificate_cache=CertificateCache((certificate,), 4)))
        with pytest.raises(KmsFault) as caught:
            A.exchange.certificates(ask, octets, NOW)
        assert caught.value.code == code
    with pytest.raises(KmsFault):
        A.exchange.certificates(ask, A.response(ask, KmsMessage(init=Init(external))), NOW)


def test_keys_made_by_the_kms_sign_and_open() -> None:
    kms_certificate, uid = issuer().certificate, A.key_set.uid
    signatures = eccsi.Community(kms_certificate.pub_auth_key)
    key = eccsi.SigningKey(signatures, uid, A.key_set.ssk, A.key_set.pvt)
    assert signatures.verify(b"message", key.sign(b"message", 12345), uid)
    encryption = sakke.Community(kms_certificate.pub_enc_key)
    sealed = encryption.encapsulate(bytes(range(16)), uid)
    assert sakke.DecryptionKey(encryption, uid, A.key_set.rsk).decapsulate(sealed) == bytes(range(16))


def test_a_key_set_shows_no_key() -> None:
    shown = repr(A.key_set)
    assert isinstance(A.key_set, KeySet)
    assert all(repr(key)[2:20] not in shown for key in (A.key_set.rsk, A.key_set.ssk, A.key_set.pvt))
