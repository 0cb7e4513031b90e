"""The encoding side of MIKEY-SAKKE: provisioning, signing, encapsulating, and messages byte for byte."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mikey_sakke import eccsi, gcm, gcm_portable, i_message, key_parameters, message, sakke
from mikey_sakke.errors import (
    BadParameters,
    Malformed,
    NoKeyForPeriod,
    OutsideWindow,
    WrongKms,
)
from mikey_sakke.identifiers import guk_id, key_period_bounds, key_period_number

VECTORS = Path(__file__).parents[1] / "vectors"
PUBLIC = json.loads((VECTORS / "mikey_sakke_public.json").read_text())
TEST = PUBLIC["payload_tests"][0]
GMS, ALICE = PUBLIC["users"]["GMS"], PUBLIC["users"]["Alice"]
NOW = TEST["decoded"]["ntp_seconds"]


@pytest.fixture(scope="module")
def kms() -> i_message.Kms:
    data = PUBLIC["kms"]
    return i_message.Kms(
        data["kms_uri"],
        data["user_key_period"],
        data["user_key_offset"],
        eccsi.Community(bytes.fromhex(data["pub_auth_key"])),
        sakke.Community(bytes.fromhex(data["pub_enc_key"])),
    )


@pytest.fixture(scope="module")
def gms_key(kms: i_message.Kms) -> eccsi.SigningKey:
    ssk, pvt = bytes.fromhex(GMS["user_signing_key_ssk"]), bytes.fromhex(GMS["user_pub_token_pvt"])
    return eccsi.SigningKey(kms.signatures, bytes.fromhex(GMS["user_id"]), ssk, pvt)


@pytest.fixture(scope="module")
def alice_key(kms: i_message.Kms) -> sakke.DecryptionKey:
    return sakke.DecryptionKey(
        kms.encryption, bytes.fromhex(ALICE["user_id"]), bytes.fromhex(ALICE["user_decrypt_key"])
    )


def made(kms: i_message.Kms, gms_key: eccsi.SigningKey, **changes: Any) -> bytes:
    arguments: dict[str, Any] = {
        "initiator_uri": GMS["user_uri"],
        "responder_uri": ALICE["user_uri"],
        "key": bytes.fromhex(TEST["key"]),
        "key_id": bytes.fromhex(TEST["key_id"]),
        "parameters": key_parameters.Parameters(0, 1, 0, 0, "", []),
        "ntp_seconds": NOW,
        "random": os.urandom,
        "j": 0x1234567890ABCDEF,
    }
    return i_message.make(kms, gms_key, **(arguments | changes))


def test_rfc_6507_provisioning_and_signature_byte_for_byte() -> None:
    data = json.loads((VECTORS / "rfc6507.json").read_text())
    given, expected = data["inputs"], data["expected"]
    kpak = eccsi.kpak_of(int(given["ksak"], 16))
    assert kpak.hex() == expected["kpak"]
    name = bytes.fromhex(given["id"])
    ssk, pvt = eccsi.provision(int(given["ksak"], 16), kpak, name, int(given["v"], 16))
    assert (ssk.hex(), pvt.hex()) == (expected["ssk"], expected["pvt"])
    key = eccsi.SigningKey(eccsi.Community(kpak), name, ssk, pvt)
    assert key.sign(bytes.fromhex(given["message"]), int(given["j"], 16)).hex() == expected["signature"]


def test_keys_of_another_user_are_refused_after_provisioning() -> None:
    data = json.loads((VECTORS / "rfc6507.json").read_text())
    community = eccsi.Community(bytes.fromhex(data["expected"]["kpak"]))
    for case in data["derived"]["bad_keys"]:
        with pytest.raises(eccsi.BadKey):
            eccsi.SigningKey(
                community, bytes.fromhex(case["id"]), bytes.fromhex(case["ssk"]), bytes.fromhex(case["pvt"])
            )


def test_rfc_6508_provisioning_and_encapsulation_byte_for_byte() -> None:
    data = json.loads((VECTORS / "rfc6508.json").read_text())
    given, expected = data["inputs"], data["expected"]
    secret, name = int(given["z"], 16), bytes.fromhex(given["b"])
    assert sakke.z_of(secret).hex() == expected["Z"]
    assert sakke.provision(secret, name).hex() == expected["rsk"]
    community = sakke.Community(bytes.fromhex(expected["Z"]))
    assert community.encapsulate(bytes.fromhex(given["ssv"]), name).hex() == expected["encapsulated"]
    for case in data["derived"]["leading_zero"]:
        assert community.encapsulate(bytes.fromhex(case["ssv"]), name).hex() == case["encapsulated"], case["name"]


@pytest.mark.parametrize("teeth", [2, 9, 12])
def test_a_comb_of_any_width_gives_the_same(teeth: int) -> None:
    data = json.loads((VECTORS / "rfc6508.json").read_text())
    given, expected = data["inputs"], data["expected"]
    community = sakke.Community(bytes.fromhex(expected["Z"]), teeth)
    made = community.encapsulate(bytes.fromhex(given["ssv"]), bytes.fromhex(given["b"]))
    assert made.hex() == expected["encapsulated"]


def test_rsk_is_checked_against_identifier_and_z() -> None:
    data = json.loads((VECTORS / "rfc6508.json").read_text())
    community = sakke.Community(bytes.fromhex(data["expected"]["Z"]))
    rsk = bytes.fromhex(data["expected"]["rsk"])
    sakke.DecryptionKey(community, bytes.fromhex(data["inputs"]["b"]), rsk).check()
    with pytest.raises(sakke.BadKey):
        sakke.DecryptionKey(community, b"somebody else", rsk).check()
    with pytest.raises(sakke.BadKey):
        sakke.DecryptionKey(community, b"anybody", bytes([4]) + bytes(256))


@pytest.mark.parametrize("kind", ["leading zero octet in g^r", "leading zero octet in hint"])
def test_what_other_implementations_send_without_leading_zeros_is_accepted(kind: str) -> None:
    """Both known faults: w hashed without left padding, and a short H; the re-encapsulation still protects."""
    data = json.loads((VECTORS / "rfc6508.json").read_text())
    case = next(case for case in data["derived"]["leading_zero"] if case["name"] == kind)
    name = bytes.fromhex(data["inputs"]["b"])
    community = sakke.Community(bytes.fromhex(data["expected"]["Z"]))
    key = sakke.DecryptionKey(community, name, bytes.fromhex(data["expected"]["rsk"]))
    right = bytes.fromhex(case["encapsulated"])
    ssv = bytes.fromhex(case["ssv"])
    if "hint" in kind:
        faulty = right[:257] + right[257:].lstrip(b"\x00")
        assert len(faulty) == 272
    else:
        mask = sakke.hash_to_integer_range(bytes.fromhex(case["g_pow_r"]).lstrip(b"\x00"), 1 << 128)
        faulty = right[:257] + bytes(a ^ b for a, b in zip(ssv, int(mask).to_bytes(16, "big"), strict=True))
        assert faulty != right
    assert key.decapsulate(faulty) == ssv


def test_public_message_is_rebuilt_byte_for_byte() -> None:
    octets = bytes.fromhex(TEST["i_message_hex"])
    parsed = message.parse(octets)
    signature = parsed.payloads.pop()
    assert message.encode(parsed) + signature.octets == octets


def test_public_message_is_made_again_from_its_keys_but_for_the_policy_of_its_vendor(
    kms: i_message.Kms, gms_key: eccsi.SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fixed RAND, IV and time give the same SAKKE, identities and key parameters octet for octet."""
    expected = message.parse(bytes.fromhex(TEST["i_message_hex"]))
    fixed = iter([bytes.fromhex(TEST["rand"]), bytes.fromhex(TEST["decoded"]["protected_payload"]["iv"])])
    rebuilt = message.parse(made(kms, gms_key, random=lambda n: next(fixed)))
    for kind in (message.Timestamp, message.Rand, message.Encapsulated):
        assert rebuilt.one(kind) == expected.one(kind)
    assert rebuilt.all(message.Identity) == expected.all(message.Identity)
    assert rebuilt.csb_id == expected.csb_id
    given = TEST["decoded"]["protected_payload"]
    again = key_parameters.protect(
        key_parameters.Parameters(0, 1, 0, 0, "", []),
        bytes.fromhex(TEST["key"]),
        expected.csb_id,
        bytes.fromhex(given["iv"]),
        given["date_time"],
    )
    assert again == expected.one(message.Extension).octets


@pytest.mark.req("SEAL-GMK-14", "SEAL-GMK-22", "SEAL-GMK-23", "SEAL-GMK-24", "SEAL-GMK-25", "SEAL-GMK-26", "MC-GMK-10")
def test_a_message_made_here_is_opened_here(
    kms: i_message.Kms, gms_key: eccsi.SigningKey, alice_key: sakke.DecryptionKey
) -> None:
    parameters = key_parameters.Parameters(0, 1, 1_700_000_000, 1_900_000_000, "Büro", ["sip:a@x", "sip:b@x"])
    key = os.urandom(16)
    octets = made(kms, gms_key, key=key, parameters=parameters)
    received = i_message.open_(octets, kms, ALICE["user_uri"], lambda number: alice_key, [GMS["user_uri"]])
    assert received.key == key and received.parameters == parameters
    assert received.guk_id == guk_id(received.key_id, key, ALICE["user_uri"])


def test_window_period_and_kms_are_checked_before_any_arithmetic(
    kms: i_message.Kms, gms_key: eccsi.SigningKey, alice_key: sakke.DecryptionKey
) -> None:
    octets = made(kms, gms_key)
    me, server = ALICE["user_uri"], [GMS["user_uri"]]
    with pytest.raises(OutsideWindow):
        i_message.open_(octets, kms, me, lambda number: alice_key, server, (NOW + 1, NOW + 60))
    with pytest.raises(NoKeyForPeriod):
        i_message.open_(octets, kms, me, lambda number: None, server)
    parsed = message.parse(octets)
    parsed.payloads = [
        payload._replace(octets=b"kms.elsewhere") if getattr(payload, "role", 0) == 7 else payload
        for payload in parsed.payloads[:-1]
    ]
    with pytest.raises(WrongKms):
        i_message.open_(message.encode(parsed) + bytes(129), kms, me, lambda number: alice_key, server)


@pytest.mark.parametrize("kind", [message.Timestamp, message.Rand, message.Encapsulated])
def test_a_repeated_or_missing_payload_is_refused(
    kind: type, kms: i_message.Kms, gms_key: eccsi.SigningKey, alice_key: sakke.DecryptionKey
) -> None:
    for copies in (0, 2):
        parsed = message.parse(made(kms, gms_key))
        parsed.payloads = [
            each
            for payload in parsed.payloads[:-1]
            for each in [payload] * (copies if isinstance(payload, kind) else 1)
        ]
        with pytest.raises(Malformed):
            i_message.open_(
                message.encode(parsed) + bytes(129), kms, ALICE["user_uri"], lambda number: alice_key, [GMS["user_uri"]]
            )


def test_parameters_under_another_key_or_key_id_do_not_open() -> None:
    key, iv = bytes(16), bytes(range(16))
    data = key_parameters.protect(key_parameters.Parameters(0, 1, 0, 0, "", []), key, b"\x01\x02\x03\x04", iv, 1)
    with pytest.raises(BadParameters):
        key_parameters.unprotect(data, bytes(15) + b"\x01", b"\x01\x02\x03\x04")
    with pytest.raises(BadParameters):
        key_parameters.unprotect(data, key, b"\x01\x02\x03\x05")
    for length in range(len(data)):
        with pytest.raises(BadParameters):
            key_parameters.unprotect(data[:length], key, b"\x01\x02\x03\x04")


@pytest.mark.parametrize("iv_len", [12, 16, 20])
@pytest.mark.parametrize("length", [0, 1, 16, 37])
def test_gcm_in_python_equals_the_library(iv_len: int, length: int) -> None:
    key, iv, aad, text = os.urandom(16), os.urandom(iv_len), os.urandom(length), os.urandom(length + 5)
    sealed = gcm.seal(key, iv, aad, text)
    assert gcm_portable.seal(key, iv, aad, text) == sealed
    assert gcm_portable.open_(key, iv, aad, sealed) == text
    with pytest.raises(BadParameters):
        gcm_portable.open_(key, iv, aad, sealed[:-1] + bytes([sealed[-1] ^ 1]))


def test_key_periods_tile_the_time() -> None:
    for number in (0, 1, 236):
        first, last = key_period_bounds(number, 16777215, 5)
        assert key_period_number(first, 16777215, 5) == key_period_number(last, 16777215, 5) == number
        assert key_period_number(last + 1, 16777215, 5) == number + 1


@pytest.mark.parametrize("hidden", [[], ["gmpy2"]])
def test_the_values_of_both_rfcs_hold_with_and_without_gmpy2(hidden: list[str]) -> None:
    """The tests of both RFCs once more in a process of its own, with gmpy2 as installed and with plain int."""
    code = (
        "import sys; sys.modules.update(dict.fromkeys(%r)); sys.path[:0] = ['.', 'tests/portable'];"
        "import test_mikey_vectors as t; [getattr(t, n)() for n in dir(t) if n.startswith('test_')];"
        "from mikey_sakke.integers import wide; print(wide.__name__)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code % hidden], cwd=VECTORS.parents[1], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "int" or not hidden
