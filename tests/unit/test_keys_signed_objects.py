"""Broadcast objects with real ES256 signatures, checked by independent libraries."""

import cbor2
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from cpns.broadcast_encryption.cover import cover
from cpns.broadcast_encryption.keys import TreeKeys
from cpns.broadcast_object import parse
from cpns.broadcast_object_build import build, build_delete
from cpns.errors import NotAddressed

TM = bytes(range(32))
GK = bytes(range(16, 32))
PN, SG = "pn.home", "sg.light"
ES256 = ec.ECDSA(hashes.SHA256())


@pytest.fixture(scope="module")
def signing_key():
    return ec.generate_private_key(ec.SECP256R1())


def sign(key, message):
    r, s = decode_dss_signature(key.sign(message, ES256))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def verify(key, signature, message):
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    key.public_key().verify(encode_dss_signature(r, s), message, ES256)


def send(signing_key, keys, members, **changes):
    arguments = {
        "pn_id": PN,
        "sg_id": SG,
        "pn_alias": 0xA1B2C3D4,
        "sg_alias": 7,
        "generation": 1,
        "version": 0x00010002,
        "activation": 0,
        "reason": 2,
        "group_key": GK,
        "height": keys.height,
        "subsets": cover(keys.height, 2, members),
        "key_of": keys.subset_key,
    }
    drafts = build(**(arguments | changes))
    return [draft.finish(sign(signing_key, draft.to_be_signed)) for draft in drafts]


@pytest.mark.req("CPNS-GKM-36", "SEC-08")
def test_a_cose_library_that_knows_only_rfc_9052_verifies_the_object(signing_key):
    (datagram,) = send(signing_key, TreeKeys(TM, 10), set(range(1024)) - {777})
    tag = cbor2.loads(datagram)
    protected, unprotected, payload, signature = tag.value
    assert tag.tag == 18 and cbor2.loads(protected) == {1: -7} and unprotected == {}
    structure = ["Signature1", protected, cbor2.dumps(["keycast/gk/1", PN, SG]), payload]
    verify(signing_key, signature, cbor2.dumps(structure))
    for other in (["keycast/gk/1", PN, "sg.other"], ["keycast/gk/1", "pn.other", SG], ["keycast/delete/1", PN, SG]):
        structure[2] = cbor2.dumps(other)
        with pytest.raises(InvalidSignature):
            verify(signing_key, signature, cbor2.dumps(structure))


@pytest.mark.req("CPNS-GKM-19", "CPNS-GKM-38", "CPNS-GKM-70", "SEC-08")
def test_a_member_verifies_what_it_opened(signing_key):
    keys = TreeKeys(TM, 10)
    (datagram,) = send(signing_key, keys, set(range(1024)) - {777})
    assert len(datagram) <= 130
    received = parse(datagram)
    assert received.check(0xA1B2C3D4, 7, keys.record(2, 1, 3), 0x00010001)
    key, signed = received.open(PN, SG)
    assert key == GK
    verify(signing_key, received.signature, signed)
    for names in (("pn.other", SG), (PN, "sg.other")):
        with pytest.raises(InvalidSignature):
            verify(signing_key, received.signature, received.open(*names)[1])
    with pytest.raises(NotAddressed):
        received.check(0xA1B2C3D4, 7, keys.record(2, 1, 777), 0x00010001)
        received.open(PN, SG)


@pytest.mark.req("SEC-08")
def test_a_delete_verifies_under_its_own_context_only(signing_key):
    draft = build_delete(pn_id=PN, sg_id=SG, pn_alias=1, sg_alias=7, version=9)
    datagram = draft.finish(sign(signing_key, draft.to_be_signed))
    protected, _, payload, signature = cbor2.loads(datagram).value
    assert cbor2.loads(payload) == [22, 1, 7, 9]
    verify(signing_key, signature, parse(datagram).check(1, 7, 9, PN, SG))
    as_key = cbor2.dumps(["Signature1", protected, cbor2.dumps(["keycast/gk/1", PN, SG]), payload])
    with pytest.raises(InvalidSignature):
        verify(signing_key, signature, as_key)


@pytest.mark.parametrize(("height", "limit"), [(9, 70), (12, 67)])
def test_a_large_cover_is_cut_into_objects_that_stand_alone(signing_key, height, limit):
    keys = TreeKeys(TM, height)
    # the worst case: N/4 entries; and every number as long as it gets
    members = {slot for slot in range(1 << height) if slot.bit_count() % 2}
    numbers = {"sg_alias": 65535, "generation": 65535, "version": 0xFFFFFFFF, "activation": 0xFFFFFFFF}
    datagrams = send(signing_key, keys, members, **numbers)
    assert len(datagrams) == -(-(1 << height - 2) // limit)
    assert all(1300 < len(datagram) <= 1400 for datagram in datagrams[:-1])
    for slot in range(0, 1 << height, 37):
        opened = []
        for datagram in datagrams:
            received = parse(datagram)
            assert received.check(0xA1B2C3D4, 65535, keys.record(2, 65535, slot), 0xFFFFFFFE)
            try:
                key, signed = received.open(PN, SG)
            except NotAddressed:
                continue
            verify(signing_key, received.signature, signed)
            assert received.slots[0] <= slot <= received.slots[1]
            opened.append(key)
        assert opened == ([GK] if slot in members else [])


def test_up_to_70_entries_travel_in_one_object_without_slots(signing_key):
    keys = TreeKeys(TM, 10)
    members = {slot * 8 for slot in range(70)}
    assert len(cover(10, 2, members)) == 70
    (datagram,) = send(signing_key, keys, members)
    assert parse(datagram).slots is None and len(parse(datagram).entries) == 70 * 18
    assert len(send(signing_key, keys, members | {1016})) == 2
