"""Beacons are hints, confirmations are proofs."""

from vmtest import raises, req

from cpns import beacon, proof
from cpns.crypto.hkdf import hkdf
from cpns.crypto.hmac import hmac_sha256
from cpns.errors import MalformedMessage

KEY = bytes(range(16))
OTHER_KEY = bytes(range(1, 17))


@req("SEC-13")
def test_a_beacon_has_the_layout_of_the_protocol():
    body = b"\x42\x01\x02\x03\x04\x00\x07\x00\x02\x00\x01\x00\x05"
    tag = hmac_sha256(hkdf(KEY, b"keycast/beacon/1\x05lamps\x00\x01\x00\x05", 32), body)[:6]
    octets = beacon.build(KEY, "lamps", 0x01020304, 7, 2, 0x00010005)
    assert octets == body + tag
    parsed = beacon.parse(memoryview(octets))
    assert (parsed.pn_alias, parsed.sg_alias, parsed.generation, parsed.version) == (0x01020304, 7, 2, 0x00010005)


@req("SEC-13")
def test_a_beacon_verifies_only_under_its_key_group_and_octets():
    octets = beacon.build(KEY, "lamps", 1, 7, 2, 5)
    assert beacon.verifies(beacon.parse(octets), KEY, "lamps")
    assert not beacon.verifies(beacon.parse(octets), OTHER_KEY, "lamps")
    assert not beacon.verifies(beacon.parse(octets), KEY, "doors")
    for i in range(1, len(octets)):
        changed = bytearray(octets)
        changed[i] ^= 1
        assert not beacon.verifies(beacon.parse(changed), KEY, "lamps")


def test_what_is_no_beacon_is_refused():
    octets = beacon.build(KEY, "lamps", 1, 7, 2, 5)
    for wrong in (b"", octets[:-1], octets + b"\0", b"\x47" + octets[1:]):
        with raises(MalformedMessage):
            beacon.parse(wrong)


NAMED = {
    "report_key": bytes(16),
    "generation": 1,
    "slot": 3,
    "version": 5,
    "result": "1",
    "pn_id": "home",
    "sg_id": "lamps",
    "group_key": KEY,
}


@req("SEC-14")
def test_a_proof_has_the_layout_of_the_protocol():
    octets = b"\x00\x01" + b"\x00\x00\x00\x03" + b"\x00\x00\x00\x05" + b"\x01" + b"\x04home" + b"\x05lamps"
    expected = hmac_sha256(bytes(16), octets + hkdf(KEY, b"keycast/ack/1", 16))[:8]
    assert proof.confirmation(**NAMED) == expected


@req("SEC-14")
def test_a_proof_binds_slot_key_version_result_and_names():
    """A report for v6 never confirms v7, that of one slot never another's, and none is made without the Group Key."""
    proofs = {proof.confirmation(**NAMED)}
    for name, value in (
        ("report_key", b"\x01" * 16),
        ("generation", 2),
        ("slot", 4),
        ("version", 6),
        ("result", "2"),
        ("pn_id", "homel"),
        ("sg_id", "amps"),
        ("group_key", OTHER_KEY),
    ):
        changed = dict(NAMED)
        changed[name] = value
        proofs.add(proof.confirmation(**changed))
    changed = dict(NAMED)
    changed.update({"pn_id": "homel", "sg_id": "amps"})  # the same octets, cut elsewhere
    proofs.add(proof.confirmation(**changed))
    assert len(proofs) == 10
