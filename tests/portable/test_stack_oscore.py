"""OSCORE on the board: RFC 8613 appendix C, replay, nonces, sequence numbers."""

from vmtest import raises, req

from cpns.errors import MalformedMessage, NotAuthentic, Stale, TooMany
from device_agent import oscore
from device_agent.coap import message as coap

SECRET = bytes.fromhex("0102030405060708090a0b0c0d0e0f10")
SALT = bytes.fromhex("9e7ca92223786340")
HELLO = b"Hello World!"


class Reserved:
    """A store that counts ceilings, and fails on demand."""

    def __init__(self):
        self.ceilings = []
        self.broken = False

    def __call__(self, ceiling):
        if self.broken:
            raise OSError("flash")
        self.ceilings.append(ceiling)


def context(sender, recipient, salt=SALT, ceiling=0, **more):
    return oscore.Context(SECRET, salt, sender, recipient, ceiling, more.pop("reserve", Reserved()), **more)


def pair():
    """-> the two ends of one new context: a client's and a server's."""
    return context(b"C", b"S", fresh=True), context(b"S", b"C", fresh=True)


def keys(c):
    return c._sender_key.hex(), c._recipient_key.hex(), c._iv


def test_keys_with_master_salt_c1():
    client, server = context(b"", b"\x01"), context(b"\x01", b"")
    iv = 0x4622D4DD6D944168EEFB54987C
    assert keys(client) == ("f0910ed7295e6ad4b54fc793154302ff", "ffb14e093c94c9cac9471648b4f98710", iv)
    assert keys(server) == ("ffb14e093c94c9cac9471648b4f98710", "f0910ed7295e6ad4b54fc793154302ff", iv)
    assert client._nonce(b"", 0).hex() == "4622d4dd6d944168eefb54987c"
    assert client._nonce(b"\x01", 0).hex() == "4722d4dd6d944169eefb54987c"


def test_keys_without_master_salt_c2():
    client = context(b"\x00", b"\x01", salt=b"")
    assert keys(client) == (
        "321b26943253c7ffb6003b0b64d74041",
        "e57b5635815177cd679ab4bcec9d7dda",
        0xBE35AE297D2DACE910C52E99F9,
    )
    assert client._nonce(b"\x00", 0).hex() == "bf35ae297d2dace910c52e99f9"
    assert client._nonce(b"\x01", 0).hex() == "bf35ae297d2dace810c52e99f9"


def protected_request(client, unprotected):
    plain = coap.decode(bytes.fromhex(unprotected))
    code, options, payload, request = client.protect_request(plain.code, plain.options, plain.payload)
    return coap.Message(plain.type, code, plain.mid, plain.token, options, payload).encode().hex(), request


def test_request_c4():
    octets, _ = protected_request(context(b"", b"\x01", ceiling=20), "44015d1f00003974396c6f63616c686f737483747631")
    assert octets == "44025d1f00003974396c6f63616c686f7374620914ff612f1092f1776f1c1668b3825e"


def test_request_c5():
    client = context(b"\x00", b"\x01", salt=b"", ceiling=20)
    octets, _ = protected_request(client, "440171c30000b932396c6f63616c686f737483747631")
    assert octets == "440271c30000b932396c6f63616c686f737463091400ff4ed339a5a379b0b8bc731fffb0"


def test_kid_context_of_c6_is_skipped():
    option = bytes.fromhex("19140837cbf3210017a2d3")
    assert oscore.kid_of([(oscore.OSCORE, option)]) == b""
    assert oscore._parse(option) == (20, b"")


def served_request():
    """-> (server, request) after the request of C.4 was received."""
    server = context(b"\x01", b"", fresh=True)
    octets = bytes.fromhex("44025d1f00003974396c6f63616c686f7374620914ff612f1092f1776f1c1668b3825e")
    message = coap.decode(octets)
    code, options, payload, request = server.unprotect_request(message.options, message.payload)
    assert (code, options, payload) == (0x01, [(11, b"tv1"), (3, b"localhost")], b"")
    return server, request


def test_response_c7():
    server, request = served_request()
    code, options, payload = server.protect_response(request, 0x45, [], HELLO)
    octets = coap.Message(coap.ACK, code, 0x5D1F, b"\x00\x00\x39\x74", options, payload).encode()
    assert octets.hex() == "64445d1f0000397490ffdbaad1e9a7e7b2a813d3c31524378303cdafae119106"
    client = context(b"", b"\x01", ceiling=20)
    _, request = protected_request(client, "44015d1f00003974396c6f63616c686f737483747631")
    message = coap.decode(octets)
    assert client.unprotect_response(request, message.options, message.payload) == (0x45, [], HELLO)


@req("SEC-22")
def test_response_with_partial_iv_c8():
    server, request = served_request()
    server.protect_response(request, 0x45, [], b"first answer")
    code, options, payload = server.protect_response(request, 0x45, [], HELLO)
    octets = coap.Message(coap.ACK, code, 0x5D1F, b"\x00\x00\x39\x74", options, payload).encode()
    assert octets.hex() == "64445d1f00003974920100ff4d4c13669384b67354b2b6175ff4b8658c666a6cf88e"
    client = context(b"", b"\x01", ceiling=20)
    _, request = protected_request(client, "44015d1f00003974396c6f63616c686f737483747631")
    message = coap.decode(octets)
    assert client.unprotect_response(request, message.options, message.payload) == (0x45, [], HELLO)


def test_uri_path_content_format_and_echo_travel_inside():
    client, server = pair()
    options = [(11, b"cpns"), (12, b"\x3c"), (252, b"echo")]
    code, outer, payload, _ = client.protect_request(2, options, b"secret")
    assert code == 2 and [number for number, _ in outer] == [9] and b"cpns" not in payload
    assert server.unprotect_request(outer, payload)[:3] == (2, options, b"secret")


def test_outer_class_e_options_are_ignored():
    client, server = pair()
    _, outer, payload, _ = client.protect_request(2, [(11, b"cpns")], b"")
    assert server.unprotect_request([outer[0], (11, b"elsewhere")], payload)[1] == [(11, b"cpns")]


def test_a_request_is_accepted_once():
    client, server = pair()
    _, outer, payload, _ = client.protect_request(2, [], b"")
    server.unprotect_request(outer, payload)
    with raises(Stale):
        server.unprotect_request(outer, payload)


def test_window_takes_32_numbers_in_any_order_and_nothing_older():
    client, server = pair()
    sent = [client.protect_request(2, [], b"") for _ in range(40)]
    for i in (39, 8, 20, 38, 9):
        server.unprotect_request(sent[i][1], sent[i][2])
    for i in (39, 8, 20, 38, 9, 7, 0):
        with raises(Stale):
            server.unprotect_request(sent[i][1], sent[i][2])
    server.unprotect_request(sent[10][1], sent[10][2])


def test_a_forged_request_moves_no_window():
    client, server = pair()
    forged = [(9, b"\x0d\x10\x00\x00\x00\x00C")]
    for _ in range(2):
        with raises(NotAuthentic):
            server.unprotect_request(forged, bytes(20))
    _, outer, payload, _ = client.protect_request(2, [], b"")
    server.unprotect_request(outer, payload)


def test_an_answer_to_another_request_is_refused():
    client, server = pair()
    _, outer, payload, first = client.protect_request(2, [], b"1")
    second = client.protect_request(2, [], b"2")[3]
    _, options, answer = server.protect_response(server.unprotect_request(outer, payload)[3], 0x44, [], b"ok")
    with raises(NotAuthentic):
        client.unprotect_response(second, options, answer)
    assert client.unprotect_response(first, options, answer)[2] == b"ok"


def test_an_unprotected_answer_is_refused():
    client, _ = pair()
    request = client.protect_request(2, [], b"")[3]
    with raises(NotAuthentic):
        client.unprotect_response(request, [], b"ok")


@req("SEC-22")
def test_numbers_are_used_only_below_the_reserved_ceiling():
    store = Reserved()
    client = context(b"C", b"S", ceiling=128, reserve=store)
    for i in range(200):
        number = client.protect_request(2, [], b"")[3][1]
        assert number == 128 + i and number < store.ceilings[-1]
    assert store.ceilings == [192, 256, 320, 384]


@req("SEC-22")
def test_no_number_is_used_when_the_store_fails():
    store = Reserved()
    client = context(b"C", b"S", reserve=store)
    store.broken = True
    for _ in range(3):
        with raises(OSError):
            client.protect_request(2, [], b"")
    store.broken = False
    assert client.protect_request(2, [], b"")[3][1] == 0


@req("SEC-22")
def test_a_restart_from_the_ceiling_repeats_no_number():
    store = Reserved()
    before = context(b"C", b"S", reserve=store)
    used = {before.protect_request(2, [], b"")[3][1] for _ in range(70)}
    after = context(b"C", b"S", ceiling=store.ceilings[-1], reserve=store)
    assert after.protect_request(2, [], b"")[3][1] not in used


def test_numbers_end():
    client = context(b"C", b"S", ceiling=oscore.NUMBERS_MAX)
    with raises(TooMany):
        client.protect_request(2, [], b"")


@req("SEC-22")
def test_after_a_reboot_the_first_request_must_bring_the_echo():
    client, server = pair()
    _, outer, payload, _ = client.protect_request(2, [], b"heard before the reboot")
    server.unprotect_request(outer, payload)
    server = context(b"S", b"C", ceiling=64, echo=b"eightoct")
    _, outer2, payload2, request = client.protect_request(2, [], b"now")
    for old in ((outer, payload), (outer2, payload2), (outer2, payload2)):
        with raises(oscore.WindowLost) as caught:
            server.unprotect_request(*old)
    _, options, answer = server.challenge(caught.value.request)
    code, options, answer = client.unprotect_response(request, options, answer)
    assert code == 0x81 and answer == b""
    echo = coap.option(options, oscore.ECHO)
    _, outer3, payload3, _ = client.protect_request(2, [(oscore.ECHO, echo)], b"now")
    assert server.unprotect_request(outer3, payload3)[2] == b"now"
    for old in ((outer, payload), (outer2, payload2), (outer3, payload3)):
        with raises(Stale):
            server.unprotect_request(*old)


def test_a_wrong_echo_opens_nothing():
    client, _ = pair()
    server = context(b"S", b"C", echo=b"eightoct")
    _, outer, payload, _ = client.protect_request(2, [(oscore.ECHO, b"eightocT")], b"")
    with raises(oscore.WindowLost):
        server.unprotect_request(outer, payload)
    no_echo = context(b"S", b"C")
    _, outer, payload, _ = client.protect_request(2, [(oscore.ECHO, b"")], b"")
    with raises(oscore.WindowLost):
        no_echo.unprotect_request(outer, payload)


def test_challenges_to_a_replay_never_repeat_a_nonce():
    client, _ = pair()
    server = context(b"S", b"C", echo=b"eightoct")
    _, outer, payload, _ = client.protect_request(2, [], b"")
    seen = set()
    for _ in range(3):
        with raises(oscore.WindowLost) as caught:
            server.unprotect_request(outer, payload)
        seen.add(coap.option(server.challenge(caught.value.request)[1], oscore.OSCORE))
    assert seen == {b"\x01\x00", b"\x01\x01", b"\x01\x02"}


def test_broken_options_are_malformed():
    for value in (b"\x20", b"\x06", b"\x0b\x01", b"\x19\x14", b"\x19\x14\x08abc", b"\xff" * 9):
        with raises(MalformedMessage):
            oscore.kid_of([(9, value)])
    assert oscore.kid_of([]) is None
