"""Group Keys that pass the PN GW unread: only one PNE can read them, for one group and version."""

from vmtest import raises, req

from cpns import entity_user_key as euk
from cpns.crypto import keywrap
from cpns.crypto.hkdf import hkdf
from cpns.crypto.hmac import hmac_sha256
from cpns.errors import NotAuthentic

EUK = b"entity user key!"
KEY = bytes(range(16))
FOR = ("pne-1", "lamps", 0x00010002)
NAMES = b"\x05pne-1\x05lamps\x00\x01\x00\x02"


@req("SEC-25", "CPNS-GKM-90")
def test_the_encrypted_group_key_is_a_wrap_under_a_key_of_euk_and_names():
    encrypted = euk.encrypt(EUK, *FOR, KEY)
    assert encrypted == keywrap.wrap(hkdf(EUK, b"keycast/euk/1" + NAMES, 16), KEY)
    assert euk.decrypt(EUK, *FOR, encrypted) == KEY


@req("SEC-25")
def test_a_gateway_cannot_use_it_for_another_pne_group_version_or_read_it():
    encrypted = euk.encrypt(EUK, *FOR, KEY)
    for other in (("pne-2", "lamps", FOR[2]), ("pne-1", "doors", FOR[2]), ("pne-1", "lamps", FOR[2] + 1)):
        with raises(NotAuthentic):
            euk.decrypt(EUK, *other, encrypted)
    with raises(NotAuthentic):
        euk.decrypt(b"another user key", *FOR, encrypted)
    with raises(NotAuthentic):
        euk.decrypt(EUK, *FOR, encrypted[:-1] + bytes((encrypted[-1] ^ 1,)))
    with raises(NotAuthentic):  # names cut elsewhere
        euk.decrypt(EUK, "pne-1l", "amps", FOR[2], encrypted)


@req("SEC-25")
def test_the_response_is_bound_to_key_and_names():
    mac = euk.response_mac(KEY, *FOR)
    assert mac == hmac_sha256(hkdf(KEY, b"keycast/euk-ack/1", 32), NAMES)[:8]
    others = {
        euk.response_mac(bytes(16), *FOR),
        euk.response_mac(KEY, "pne-2", *FOR[1:]),
        euk.response_mac(KEY, "pne-1", "doors", FOR[2]),
        euk.response_mac(KEY, "pne-1", "lamps", FOR[2] + 1),
    }
    assert len(others) == 4 and mac not in others


@req("SEC-25")
def test_an_entity_user_key_has_a_name_that_tells_nothing_of_it():
    assert euk.key_id(EUK) == hkdf(EUK, b"keycast/euk-id/1", 8)
    assert euk.key_id(EUK) != euk.key_id(b"another user key")
