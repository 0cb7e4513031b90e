"""EDHOC on the board against RFC 9529 chapter 3 (method 3, suite 2), what it must refuse, and a whole session."""

import gc
import sys
from hashlib import sha256

from vmtest import ON_VM, raises, req

from cpns.cborlite import encode
from cpns.errors import CpnsError, MalformedMessage, NotAllowed, NotAuthentic, Unknown
from device_agent import edhoc, oscore
from device_agent.coap import message as coap
from device_agent.cose import Credential
from device_agent.crypto import p256

X = bytes.fromhex("368ec1f69aeb659ba37d5a8d45b21bdc0299dceaa8ef235f3ca42ce3530f9525")
SK_I = bytes.fromhex("fb13adeb6518cee5f88417660841142e830a81fe334380a953406a1305e8706b")
CRED_I = bytes.fromhex(
    "a2027734322d35302d33312d46462d45462d33372d33322d333908a101a5010202412b2001215820ac75e9ece3e50bfc"
    "8ed60399889522405c47bf16df96660a41298cb4307f7eb62258206e5de611388a4b8a8211334ac7d37ecb52a387d257"
    "e6db3c2a93df21ff3affc8"
)
CRED_R = bytes.fromhex(
    "a2026b6578616d706c652e65647508a101a501020241322001215820bbc34960526ea4d32e940cad2a234148ddc21791"
    "a12afbcbac93622046dd44f02258204519e257236b2a0ce2023f0931f1f386ca7afda64fcde0108c224c51eabf6072"
)
G_I = bytes.fromhex("ac75e9ece3e50bfc8ed60399889522405c47bf16df96660a41298cb4307f7eb6")
G_R = bytes.fromhex("bbc34960526ea4d32e940cad2a234148ddc21791a12afbcbac93622046dd44f0")
MESSAGE_1 = "0382060258208af6f430ebe18d34184017a9a11bf511c8dff8f834730b96c1b7c8dbca2fc3b637"
MESSAGE_2 = bytes.fromhex("582b419701d7f00a26c2dc587a36dd752549f33763c893422c8ea0f955a13a4ff5d59862a1eef9e0e7e1886fcd")
MESSAGE_3 = "52e562097bc417dd5919485ac7891ffd90a9fc"
MESSAGE_4 = bytes.fromhex("4828c966b7ca304f83")

# RFC 6979, A.2.5
KEY = bytes.fromhex(
    "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6"
    "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299"
)
SAMPLE = bytes.fromhex(
    "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716"
    "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"
)

INITIATOR = Credential(CRED_I, "42-50-31-FF-EF-37-32-39", b"\x2b", G_I)
RESPONDER = Credential(CRED_R, "example.edu", b"\x32", G_R)


def trace_initiator(peer=RESPONDER):
    """-> the initiator of RFC 9529 chapter 3, after message_1; it offers suites 6 and 2."""
    ours, edhoc.SUITES = edhoc.SUITES, b"\x82\x06\x02"
    try:
        initiator = edhoc.Initiator(INITIATOR, SK_I, X, b"\x37", peer)
        message_1 = p256.run(initiator.message_1())
    finally:
        edhoc.SUITES = ours
    assert message_1.hex() == MESSAGE_1
    return initiator


def test_trace_of_rfc_9529_chapter_3():
    initiator = trace_initiator()
    assert p256.run(initiator.message_3(MESSAGE_2)).hex() == MESSAGE_3
    assert initiator.c_r == b"\x27" and initiator.prefix_3 == b"\x27"
    initiator.finish(MESSAGE_4)
    assert initiator.peer is RESPONDER
    secret, salt, sender, recipient = initiator.oscore()
    assert secret.hex() == "f9868f6a3aca78a05d1485b35030b162"
    assert salt.hex() == "ada24c7dbfc85eeb"
    assert (sender, recipient) == (b"\x27", b"\x37")


def test_message_1_of_our_profile():
    message = p256.run(edhoc.Initiator(INITIATOR, SK_I, X, b"\x01\x02", RESPONDER).message_1())
    assert message.hex() == "0302" + MESSAGE_1[8:-2] + "420102"


def fails(initiator, message_2, error):
    with raises(error) as caught:
        p256.run(initiator.message_3(message_2))
    with raises(RuntimeError):
        p256.run(initiator.message_3(MESSAGE_2))
    with raises(RuntimeError):
        initiator.finish(MESSAGE_4)
    with raises(RuntimeError):
        initiator.oscore()
    return caught.value


@req("SEC-21")
def test_a_changed_message_2_ends_the_handshake():
    for at in (10, 34, 36, 40, 44):
        octets = bytearray(MESSAGE_2)
        octets[at] ^= 1
        fails(trace_initiator(), bytes(octets), CpnsError)


@req("SEC-21")
def test_a_message_2_of_garbage_ends_the_handshake():
    for octets in (b"", b"\x40", b"\x58\x2b", b"\x58\x20" + bytes(32), b"\x58\x20" + b"\xff" * 32, b"\x80", b"\x60"):
        fails(trace_initiator(), octets, MalformedMessage)


@req("SEC-16")
@req("SEC-21")
def test_a_message_2_is_short_and_nothing_in_it_is_nested():
    for message_2 in (encode(bytes(256)), encode([[]] * 200), b"\x81" * 100):
        with raises(MalformedMessage):
            p256.run(trace_initiator().message_3(message_2))


def test_a_responder_with_another_credential_of_the_same_kid_is_refused():
    other = Credential(CRED_R[:3] + b"f" + CRED_R[4:], "fxample.edu", b"\x32", G_R)
    fails(trace_initiator(other), MESSAGE_2, NotAuthentic)


@req("SEC-16")
def test_a_responder_with_another_key_of_the_same_kid_is_refused():
    fails(trace_initiator(Credential(CRED_R, "example.edu", b"\x32", G_I[:31] + b"\xb7")), MESSAGE_2, CpnsError)


@req("SEC-16")
def test_a_responder_with_an_unexpected_kid_is_refused():
    fails(trace_initiator(Credential(CRED_R, "example.edu", b"\x33", G_R)), MESSAGE_2, Unknown)


@req("SEC-20")
def test_while_pairing_the_responder_must_send_its_credential():
    fails(trace_initiator(None), MESSAGE_2, Unknown)


def test_an_error_of_the_responder_is_told_by_its_code():
    assert "error 1" in fails(trace_initiator(), encode(1) + encode("no"), NotAllowed).reason
    assert "error 2" in fails(trace_initiator(), encode(2) + encode([6]), NotAllowed).reason


def test_a_wrong_message_4_is_refused():
    initiator = trace_initiator()
    p256.run(initiator.message_3(MESSAGE_2))
    with raises(NotAuthentic):
        initiator.finish(MESSAGE_4[:-1] + b"\0")
    with raises(RuntimeError):
        initiator.oscore()


def test_nothing_is_exported_before_message_4():
    initiator = trace_initiator()
    p256.run(initiator.message_3(MESSAGE_2))
    with raises(RuntimeError):
        initiator.oscore()


def test_connection_identifiers_that_read_as_small_integers_are_sent_as_such():
    assert edhoc._identifier(b"\x00") == b"\x00" and edhoc._identifier(b"\x17") == b"\x17"
    assert edhoc._identifier(b"\x20") == b"\x20" and edhoc._identifier(b"\x37") == b"\x37"
    for octets in (b"\x18", b"\x1f", b"\x38", b"\x40", b"\xff", b"\x00\x00"):
        assert edhoc._identifier(octets) == encode(octets)
    assert edhoc._identified(-8) == b"\x27" and edhoc._identified(23) == b"\x17"
    for item in (24, -25, "text", None):
        with raises(MalformedMessage):
            edhoc._identified(item)


def test_critical_data_is_refused_other_is_skipped():
    edhoc._refuse_critical(b"\x01\x41a\x00\x05", 0)
    with raises(NotAllowed):
        edhoc._refuse_critical(b"\x01\x41a\x20\x41a", 0)
    with raises(MalformedMessage):
        edhoc._refuse_critical(b"\x41a", 0)


def live():
    """Return the heap in use, in octets of a 32-bit one: objects of a 64-bit VM are twice as big."""
    if not ON_VM:
        return 0
    gc.collect()
    return gc.mem_alloc() if sys.maxsize < 1 << 31 else gc.mem_alloc() // 2


def drain(steps, limit):
    """Run `steps` to their end -> their value; the heap in use between them stays below `limit` more than before."""
    before = live()
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value
        assert live() - before < limit


@req("CPNS-GKM-50")
def test_handshake_session_and_signature_fit_a_board():
    initiator = trace_initiator()
    drain(initiator.message_3(MESSAGE_2), 8192)
    initiator.finish(MESSAGE_4)
    secret, salt, ours, theirs = initiator.oscore()
    ceilings = []
    board = oscore.Context(secret, salt, ours, theirs, 0, ceilings.append, fresh=True)
    gateway = oscore.Context(secret, salt, theirs, ours, 0, ceilings.append, fresh=True)
    for asks, answers in ((board, gateway), (gateway, board)):
        code, outer, payload, request = asks.protect_request(2, [(11, b"cpns")], bytes(1000))
        datagram = coap.Message(coap.CON, code, 1, b"1234", outer, payload).encode()
        message = coap.decode(datagram)
        code, inner, payload, answered = answers.unprotect_request(message.options, message.payload)
        assert (code, coap.path(inner), payload) == (2, "cpns", bytes(1000))
        code, outer, payload = answers.protect_response(answered, 0x44, [(12, b"\x3c")], b"answer")
        assert asks.unprotect_response(request, outer, payload) == (0x44, [(12, b"\x3c")], b"answer")
    key = p256.VerifyingKey(KEY)
    drain(key.verify(sha256(b"sample").digest(), SAMPLE), 8192)
    assert ceilings == [64, 64]
