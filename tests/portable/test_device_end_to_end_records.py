"""The records of end-to-end groups: the Server's credential, Entity User Keys, and what people compare."""

from device_world import identity
from vmtest import raises, req

from cpns import cborlite
from cpns.errors import MalformedMessage
from cpns.fingerprint import fingerprint
from device_agent import provisioning
from device_agent.cose import Credential
from device_agent.end_to_end import entity_user_keys

SERVER = Credential.of("server", bytes(31) + b"\x05")


def with_server(ccs):
    return provisioning.Provisioning(*cborlite.decode(identity().pack())[1:], ccs)


def test_a_record_without_a_server_has_ten_fields_as_before_and_is_read():
    octets = identity().pack()
    assert len(cborlite.decode(octets)) == 10
    assert provisioning.parse(octets).server_ccs == b""


def test_a_record_with_the_credential_of_a_server_is_read():
    octets = with_server(SERVER.ccs).pack()
    assert provisioning.parse(octets).server_ccs == SERVER.ccs
    assert provisioning.parse(octets).pack() == octets


@req("SEC-25")
def test_a_record_whose_server_is_the_gateway_or_none_is_refused():
    for ccs in (Credential.of("server", Credential.parse(identity().gateway_ccs).x).ccs, b"\x01", SERVER.ccs[:-1]):
        with raises(MalformedMessage):
            with_server(ccs)
    fields = cborlite.decode(with_server(SERVER.ccs).pack())
    for wrong in (fields + [b""], fields[:-1] + ["text"], fields[:9]):
        with raises(MalformedMessage):
            provisioning.parse(cborlite.encode(wrong))


def test_entity_user_keys_are_packed_and_parsed():
    for current, previous in ((b"c" * 16, b"p" * 16), (b"c" * 16, b""), (b"", b"")):
        assert entity_user_keys.parse(entity_user_keys.pack(current, previous)) == (current, previous)


def test_what_is_no_record_of_entity_user_keys_is_refused():
    for wrong in ([b"c" * 15, b""], [b"c" * 16], [b"c" * 16, b"", b""], ["c" * 16, b""], 7, {}):
        with raises(MalformedMessage):
            entity_user_keys.parse(cborlite.encode(wrong))


def test_a_fingerprint_is_eight_octets_of_the_hash_in_four_groups():
    assert fingerprint(b"") == "e3b0-c442-98fc-1c14"
    assert fingerprint(SERVER.ccs) != fingerprint(identity().gateway_ccs)
