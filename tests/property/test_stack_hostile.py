"""For all octets the board's stack raises only errors of its tree, and costs no more than its limits."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_stack_edhoc import MESSAGE_2, MESSAGE_4, trace_initiator

from cpns.crypto import ccm
from cpns.errors import CpnsError
from device_agent import edhoc, oscore
from device_agent.coap import message as coap
from device_agent.coap.endpoint import REMEMBERED_MAX, Endpoint
from device_agent.cose import Credential
from device_agent.crypto import p256

OPTION = st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=300))
OPTIONS = st.lists(OPTION, max_size=coap.OPTIONS_MAX)


def changed(octets):
    """Strategy: `octets` with some of them replaced, cut short or made longer."""

    def change(data, edits, cut, more):
        data = bytearray(data)
        for at, value in edits:
            data[at % len(data)] = value
        return bytes(data[: len(data) - cut]) + more

    edits = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=4)
    return st.builds(change, st.just(octets), edits, st.integers(0, 3), st.binary(max_size=3))


@given(st.binary(max_size=1500))
@settings(max_examples=500)
def test_coap_decodes_or_refuses(data):
    try:
        message = coap.decode(data)
    except CpnsError:
        return
    again = coap.decode(message.encode())
    assert (again.options, again.payload, again.token) == (message.options, message.payload, message.token)


@given(OPTIONS, st.binary(max_size=600))
def test_coap_bodies_come_back(options, payload):
    ordered = sorted(options, key=lambda option: option[0])
    assert coap.decode_body(coap.encode_body(options, payload), 0) == (ordered, payload)


@given(st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=60), st.integers(0, 5000)), max_size=40))
def test_the_endpoint_survives_any_datagrams(datagrams):
    endpoint = Endpoint(lambda n: bytes(n))
    endpoint.request(1, 1, [(11, b"x")], b"", 0)
    now = 0
    for address, data, pause in datagrams:
        now += pause
        for action in endpoint.datagram(address, data, now) + endpoint.tick(now):
            assert action[0] in ("send", "request", "response", "timeout", "reset")
        assert len(endpoint._in) <= REMEMBERED_MAX


@given(changed(coap.Message(coap.CON, 0x45, 7, b"\0" * 4, [(12, b"\x3c"), (252, b"e")], b"p").encode()))
def test_the_endpoint_survives_answers_that_nearly_fit(data):
    endpoint = Endpoint(lambda n: bytes(n))
    endpoint.request(1, 1, [(11, b"x")], b"", 0)
    endpoint.datagram(1, data, 1)
    endpoint.tick(300000)


def context(**more):
    return oscore.Context(bytes(16), b"", b"S", b"C", 0, lambda ceiling: None, **more)


@given(st.binary(max_size=20), OPTIONS, st.binary(max_size=100))
def test_oscore_refuses_what_it_cannot_open(value, options, payload):
    server = context(fresh=True)
    request = server.protect_request(2, [], b"")[3]
    options.append((9, value))
    with pytest.raises(CpnsError):
        server.unprotect_request(options, payload)
    with pytest.raises(CpnsError):
        server.unprotect_response(request, options, payload)


@given(st.binary(max_size=20))
def test_oscore_options_are_parsed_or_refused(value):
    try:
        kid = oscore.kid_of([(9, value)])
    except CpnsError:
        return
    assert kid is None or value.endswith(kid)


@given(st.binary(max_size=200))
def test_oscore_refuses_any_plaintext_that_is_no_message(plain):
    # the peer is authentic and hostile: the tag fits, the content is anything
    server, client = context(fresh=True), oscore.Context(bytes(16), b"", b"C", b"S", 0, lambda ceiling: None)
    request = [b"C", 5, True]
    payload = ccm.seal(client._sender_key, client._nonce(b"C", 5), oscore._aad(request), plain)
    try:
        code, _, _, _ = server.unprotect_request([(9, b"\x09\x05C")], payload)
    except CpnsError:
        return
    assert code == plain[0]


@given(st.one_of(st.binary(max_size=100), changed(MESSAGE_2)))
@settings(max_examples=60)
def test_edhoc_refuses_any_other_message_2(data):
    initiator = trace_initiator()
    try:
        p256.run(initiator.message_3(data))
    except CpnsError:
        return
    assert data == MESSAGE_2


@given(st.one_of(st.binary(max_size=100), changed(MESSAGE_4)))
@settings(max_examples=300)
def test_edhoc_refuses_any_other_message_4(data):
    initiator = trace_initiator()
    initiator._prk, initiator._th_4, initiator._state = bytes(32), bytes(32), edhoc._WAIT_4
    with pytest.raises(CpnsError):
        initiator.finish(data)


@given(st.binary(max_size=200))
def test_credentials_are_parsed_or_refused(data):
    try:
        credential = Credential.parse(data)
    except CpnsError:
        return
    assert credential.ccs == data


@given(changed(Credential.of("kitchen lamp", bytes(32)).ccs))
def test_credentials_that_nearly_fit_are_parsed_or_refused(data):
    try:
        credential = Credential.parse(data)
    except CpnsError:
        return
    assert Credential.of(credential.entity_id, credential.x).ccs == data
