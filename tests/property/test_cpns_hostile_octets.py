"""For all octets the parsers return a value or raise an error of the project's tree, and a value has one encoding."""

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cpns import beacon, cborlite, group_message, key_ring, messages, numbers, xml_form
from cpns.errors import CpnsError, MalformedMessage
from tests.property.cpns_strategies import LIMIT, MESSAGES

KEY = bytes(16)
GROUP = group_message.Group("lamps", 1, 2, numbers.PROTECTION_SEALED)

CBOR_HEADS = st.sampled_from([bytes((major << 5 | low,)) for major in range(8) for low in (0, 1, 2, 3, 23, 24, 25, 27)])
CBOR_LIKE = st.lists(st.one_of(CBOR_HEADS, st.binary(max_size=3)), max_size=60).map(b"".join)
XML_PIECES = """< > / </ /> = " ' & ; &lt; &#x0; &#xD800; &#65; <?xml ?> <!DOCTYPE <!-- --> <![CDATA[ ]]> version="1.0"
    xmlns="urn:keycast:cpns:1" JoinRequest GKDKAssignmentRequest PNEID SGID a é"""
XML_LIKE = st.lists(
    st.sampled_from([*XML_PIECES.split(), " ", "\n", "\x00", "\ufffe"]),
    max_size=30,
).map("".join)


@st.composite
def mutated(draw, octets):
    """`octets` with a few changed, dropped, doubled or added."""
    data = bytearray(octets)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        kind = draw(st.integers(0, 3))
        if kind == 0 and at < len(data):
            data[at] ^= draw(st.integers(1, 255))
        elif kind == 1:
            del data[at : at + draw(st.integers(1, 8))]
        elif kind == 2:
            data[at:at] = draw(st.binary(min_size=1, max_size=8))
        else:
            data[at:at] = data[at : at + draw(st.integers(1, 40))]
    return bytes(data)


@given(st.one_of(st.binary(max_size=300), CBOR_LIKE))
def test_cbor_is_malformed_or_canonical(octets):
    with contextlib.suppress(MalformedMessage):
        assert cborlite.encode(cborlite.decode(octets)) == octets


@given(st.one_of(st.binary(max_size=300), CBOR_LIKE))
def test_a_cbor_sequence_never_runs_past_its_end(octets):
    offset = 0
    with contextlib.suppress(MalformedMessage):
        while True:
            _, end = cborlite.decode_prefix(octets, offset)
            assert offset < end <= len(octets)
            offset = end


@given(st.one_of(st.binary(max_size=300), CBOR_LIKE))
def test_random_octets_are_no_message(octets):
    with contextlib.suppress(MalformedMessage):
        code, fields = messages.decode(octets)
        assert messages.encode(code, fields) == octets


@given(MESSAGES.flatmap(lambda message: mutated(messages.encode(*message))))
def test_a_mutated_message_is_malformed_or_another_message(octets):
    with contextlib.suppress(MalformedMessage):
        code, fields = messages.decode(octets, LIMIT)
        assert messages.encode(code, fields) == octets


@given(st.one_of(st.binary(max_size=300), XML_LIKE.map(str.encode)))
@example(b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>')
@example(b"<JoinRequest" * 10000)
@example(b'<JoinRequest xmlns="urn:keycast:cpns:1">' + b"<PNEID>" * 10000)
def test_random_text_is_no_xml_message(octets):
    with contextlib.suppress(MalformedMessage):
        xml_form.decode(octets)


@given(MESSAGES.flatmap(lambda message: mutated(xml_form.encode(*message))))
def test_a_mutated_xml_message_is_malformed_or_another_message(octets):
    with contextlib.suppress(MalformedMessage):
        code, fields = xml_form.decode(octets)
        assert xml_form.decode(xml_form.encode(code, fields)) == (code, fields)


def _datagram():
    sender = group_message.Sender(GROUP, "switch")
    sender.start(5, b"inc-of-8")
    sender.reserved(sender.reserve())
    return sender.protect(5, KEY, b"switch on")


@pytest.mark.req("CPNS-GKM-56")
@given(st.one_of(st.binary(max_size=100).map(lambda tail: b"\x47" + tail), mutated(_datagram())))
def test_no_group_message_is_opened_but_the_sent_one(octets):
    receiver = group_message.Receiver(GROUP, "lamp")
    try:
        opened = receiver.open(group_message.parse(octets), {5: KEY}, 0)
    except CpnsError:
        return
    assert octets == _datagram() and opened.message == b"switch on"


@pytest.mark.req("SEC-13")
@given(st.one_of(st.binary(max_size=40), mutated(beacon.build(KEY, "lamps", 1, 2, 3, 4))))
def test_no_beacon_verifies_but_the_sent_one(octets):
    with contextlib.suppress(MalformedMessage):
        sent = beacon.build(KEY, "lamps", 1, 2, 3, 4)
        assert not beacon.verifies(beacon.parse(octets), KEY, "lamps") or octets == sent


@given(st.one_of(st.binary(max_size=100), mutated(key_ring.KeyRing(1, 5).dump(0))))
def test_a_damaged_ring_is_refused_or_has_the_form_of_one(octets):
    with contextlib.suppress(MalformedMessage):
        assert key_ring.KeyRing.load(octets, 0).receiving_keys(0) == {}
