"""MIKEY-SAKKE against the values of RFC 6507, RFC 6508 and a vendor's public message, on both Pythons."""

from vector_files import part, unhex
from vmtest import ON_VM, raises, req

from mikey_sakke import eccsi, i_message, identifiers, key_parameters, message, sakke
from mikey_sakke.errors import BadSignature, MikeyError, NoKeyForPeriod, WrongInitiator, WrongReceiver
from mikey_sakke.hashing import hash_to_integer_range

TEETH = 2 if ON_VM else 8  # of the combs: memory for speed


def alice():
    """(KMS, URI, keys of a period, message, expected values) of the public test message."""
    kms = part("mikey_sakke_public", "kms")
    user = part("mikey_sakke_public", "users", "Alice")
    test = part("mikey_sakke_public", "payload_tests", 0)
    octets = unhex(test["i_message_hex"])
    test = {name: test[name] for name in ("initiator_uri", "key", "key_id", "guk_id")}
    community = i_message.Kms(
        kms["kms_uri"],
        kms["user_key_period"],
        kms["user_key_offset"],
        eccsi.Community(unhex(kms["pub_auth_key"]), TEETH),
        sakke.Community(unhex(kms["pub_enc_key"]), TEETH),
    )
    key = sakke.DecryptionKey(
        community.encryption, unhex(user["user_id"]), unhex(user["user_decrypt_key"]), sakke.FreshFunctions
    )
    return community, user["user_uri"], {user["key_period_no"]: key}.get, octets, test


@req("SEAL-GMK-27")
def test_eccsi_verifies_the_value_of_rfc_6507_and_refuses_the_changed_ones():
    data = part("rfc6507")
    given, expected = data["inputs"], data["expected"]
    community = eccsi.Community(unhex(expected["kpak"]), TEETH)
    signature, name, text = unhex(expected["signature"]), unhex(given["id"]), unhex(given["message"])
    assert community.verify(text, signature, name)
    for case in data["derived"]["also_verifies"]:
        assert community.verify(text, unhex(case["signature"]), name)
    for case in data["derived"]["negative"]:
        other = community
        if case["kpak"] != expected["kpak"]:
            other = eccsi.Community(unhex(case["kpak"]), TEETH)
        assert not other.verify(unhex(case["message"]), unhex(case["signature"]), unhex(case["id"])), case["name"]


def test_hash_to_integer_range_of_rfc_6508():
    for case in part("rfc6508", "hash_to_integer_range"):
        assert hash_to_integer_range(unhex(case["s"]), int(case["n"], 16)) == int(case["v"], 16)


@req("SEAL-GMK-28")
def test_sakke_decapsulates_the_value_of_rfc_6508():
    given, expected = part("rfc6508", "inputs"), part("rfc6508", "expected")
    community = sakke.Community(unhex(expected["Z"]), TEETH)
    key = sakke.DecryptionKey(community, unhex(given["b"]), unhex(expected["rsk"]), sakke.FreshFunctions)
    assert key.decapsulate(unhex(expected["encapsulated"])) == unhex(given["ssv"])


def test_leading_zero_octets_of_mask_and_hint_are_kept():
    community = sakke.Community(unhex(part("rfc6508", "expected", "Z")), TEETH)
    name, rsk = unhex(part("rfc6508", "inputs", "b")), unhex(part("rfc6508", "expected", "rsk"))
    key = sakke.DecryptionKey(community, name, rsk, sakke.FreshFunctions)
    for case in part("rfc6508", "derived", "leading_zero"):
        assert key.decapsulate(unhex(case["encapsulated"])) == unhex(case["ssv"]), case["name"]


def test_changed_encapsulated_data_is_refused():
    community = sakke.Community(unhex(part("rfc6508", "expected", "Z")), TEETH)
    owner = None
    for case in part("rfc6508", "derived", "negative"):
        if owner != (case["id"], case["rsk"]):  # most are of one, and a key takes seconds in the VM
            owner = case["id"], case["rsk"]
            key = sakke.DecryptionKey(community, unhex(case["id"]), unhex(case["rsk"]), sakke.FreshFunctions)
        with raises(sakke.NotDecapsulated):
            key.decapsulate(unhex(case["encapsulated"]))


def test_uids_of_ts_33_180():
    for case in part("mikey_sakke_public", "uid_tests"):
        name = (case["uri"], case["kms_uri"], case["key_period"], case["key_period_offset"], case["key_period_no"])
        assert identifiers.uid(*name) == unhex(case["uid"])


def test_key_for_the_parameters_has_its_known_value():
    for case in part("mikey_sakke_public", "extra"):
        if "dpck" in case:
            assert key_parameters.dpck(unhex(case["dppk"]), unhex(case["dppk_id"])) == unhex(case["dpck"])


@req("SEAL-GMK-27", "SEAL-GMK-28", "SEAL-GMK-30", "SEAL-GMK-31", "MC-GMK-12", "MC-GMK-14", "MC-GMK-16")
def test_public_message_is_opened():
    kms, uri, keys, octets, test = alice()
    received = i_message.open_(octets, kms, uri, keys, [test["initiator_uri"]])
    assert received.key == unhex(test["key"])
    assert received.key_id == unhex(test["key_id"])
    assert received.guk_id == unhex(test["guk_id"])
    assert received.parameters == (0, 1, 0, 0, "", [])
    assert test["key"] not in repr(received)


@req("SEAL-GMK-32", "SEAL-GMK-33")
def test_public_message_from_an_unexpected_server_or_for_another_user_is_refused():
    kms, uri, keys, octets, test = alice()
    with raises(WrongInitiator):
        i_message.open_(octets, kms, uri, keys, ["gms@elsewhere.example"])
    with raises(WrongReceiver):
        i_message.open_(octets, kms, "sip:bob@streamwide.com", keys, [test["initiator_uri"]])


@req("SEAL-GMK-27")
def test_a_changed_octet_costs_the_signature_check_and_nothing_is_decapsulated():
    kms, uri, _, octets, test = alice()

    class Untouchable:
        def decapsulate_steps(self, data):
            raise AssertionError("SAKKE work before the signature")

    for place in (40, 300, 500, 620):  # RAND, SAKKE, key parameters, signature
        changed = bytearray(octets)
        changed[place] ^= 1
        with raises(BadSignature):
            i_message.open_(changed, kms, uri, {236: Untouchable()}.get, [test["initiator_uri"]])


def test_every_truncation_and_every_trailing_octet_is_one_error():
    octets = alice()[3]
    for length in range(len(octets)):
        with raises(MikeyError):
            message.parse(octets[:length])
    with raises(MikeyError):
        message.parse(octets + b"\x00")


def test_ntp_times_go_on_after_their_32_bits_are_used_up_in_2036():
    for moment in (1 << 31, (1 << 32) - 1, 1 << 32, (3 << 31) - 1):
        assert identifiers.ntp_moment(moment & 0xFFFFFFFF) == moment


def test_a_time_before_the_first_key_period_has_no_keys():
    kms, uri, keys, octets, test = alice()
    early = 1 << 31  # 1968: the first time that a message can hold
    kms = i_message.Kms(kms.uri, kms.period, early + 1, kms.signatures, kms.encryption)
    early = octets[:27] + early.to_bytes(4, "big") + octets[31:]
    with raises(NoKeyForPeriod):
        i_message.open_(early, kms, uri, keys, [test["initiator_uri"]])
    with raises(ValueError):
        identifiers.uid(uri, kms.uri, kms.period, kms.offset, -1)


def test_parameters_of_two_vendors_parse():
    one = key_parameters.decode(unhex("0000000001000000000000000000000000000100"))
    assert one == (0, 1, 0, 0, "", []) and not one.revoked(True)
    uri = b"sip:group@gms-psi.example.or"
    other = unhex("00000000000068d7eafa00ffffffff0000002001" + "7b001c") + uri
    other = key_parameters.decode(other)
    assert other.groups == [uri.decode()] and other.activation == 0x68D7EAFA
    assert other.revoked(True) and not other.revoked(False)
