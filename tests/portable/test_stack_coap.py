"""CoAP on the board: the messages of RFC 7252 appendix A, hostile octets, and the endpoint's exchanges."""

from vmtest import raises, req

from cpns.errors import MalformedMessage, TooMany
from device_agent.coap import message as coap
from device_agent.coap.endpoint import EXCHANGE_LIFETIME, REMEMBERED_MAX, REQUESTS_MAX, Endpoint

GET, POST, CONTENT = 1, 2, 0x45
PEER, OTHER, AIR = ("10.0.0.1", 5683), ("10.0.0.2", 5683), ("10.0.0.255", 5683)
TEMPERATURE = [(11, b"temperature")]


class Random:
    """Octets that count up, so that every draw is another one."""

    def __init__(self):
        self.n = 0

    def __call__(self, size):
        self.n += 1
        return self.n.to_bytes(size, "big")


def endpoint():
    return Endpoint(Random())


def sent(actions):
    """-> the messages that `actions` send."""
    return [coap.decode(action[2]) for action in actions if action[0] == "send"]


def others(actions):
    return [action for action in actions if action[0] != "send"]


def test_piggybacked_exchange_of_appendix_a():
    octets = bytes.fromhex("40017d34bb74656d7065726174757265")
    assert coap.Message(coap.CON, GET, 0x7D34, b"", TEMPERATURE).encode() == octets
    request = coap.decode(octets)
    assert (request.type, request.code, request.mid, request.token) == (coap.CON, GET, 0x7D34, b"")
    assert request.options == TEMPERATURE and request.payload == b"" and coap.path(request.options) == "temperature"
    octets = bytes.fromhex("60457d34ff32322e332043")
    assert coap.Message(coap.ACK, CONTENT, 0x7D34, payload=b"22.3 C").encode() == octets
    assert coap.decode(octets).payload == b"22.3 C"


def test_request_with_token_of_appendix_a():
    octets = bytes.fromhex("41017d3520bb74656d7065726174757265")
    assert coap.Message(coap.CON, GET, 0x7D35, b"\x20", TEMPERATURE).encode() == octets
    assert coap.decode(octets).token == b"\x20"


def test_options_of_every_length_and_distance_come_back():
    options = []
    number = 0
    for delta in (0, 1, 12, 13, 14, 268, 269, 270, 2000):
        number += delta
        for length in (0, 12, 13, 268, 269):
            options.append((number, bytes(length)))
            if len(options) == coap.OPTIONS_MAX:
                assert coap.decode_body(coap.encode_body(options, b"p"), 0) == (options, b"p")
                options = []
    assert coap.decode_body(coap.encode_body(options, b"p"), 0) == (options, b"p")


def test_options_are_sorted_and_repeated_ones_keep_their_order():
    options = [(12, b"x"), (11, b"b"), (3, b"h"), (11, b"a"), (11, b"c")]
    sorted_options = [(3, b"h"), (11, b"b"), (11, b"a"), (11, b"c"), (12, b"x")]
    assert coap.decode_body(coap.encode_body(options, b""), 0)[0] == sorted_options


def test_malformed_messages_are_refused():
    for octets in (
        "",
        "4001",
        "80017d34",  # version 2
        "49017d34000000000000000000",  # token of 9 octets
        "42017d3420",  # token cut off
        "40017d34ff",  # marker without payload
        "40017d34b5",  # option cut off
        "40017d34f0",  # reserved delta
        "40017d340f",  # reserved length
        "40017d34d0",  # extended delta cut off
        "40017d34e0ff",
        "40017d34e0ffff",  # option number beyond 16 bit
        "40017d340effff",  # option longer than the datagram
        "41007d3420",  # empty message with a token
        "40007d34b0",  # empty message with an option
        "40017d34" + "00" * (coap.OPTIONS_MAX + 1),
    ):
        with raises(MalformedMessage):
            coap.decode(bytes.fromhex(octets))


def test_a_path_that_is_not_text_is_no_path():
    assert coap.path([(11, b"\xff\xfe")]) == ""
    assert coap.path([(11, b".well-known"), (11, b"edhoc"), (12, b"\x40")]) == ".well-known/edhoc"


def test_request_and_piggybacked_response():
    e = endpoint()
    token, actions = e.request(PEER, GET, TEMPERATURE, b"", 0)
    (request,) = sent(actions)
    assert request.type == coap.CON and request.token == token and len(token) == 4
    answer = coap.Message(coap.ACK, CONTENT, request.mid, token, [], b"22.3 C").encode()
    ((kind, got, message, address),) = e.datagram(PEER, answer, 40)
    assert (kind, got, message.payload, address) == ("response", token, b"22.3 C", PEER)
    assert e.next_wake() is None and e.datagram(PEER, answer, 41) == []


def test_separate_response_is_acknowledged_each_time_and_reported_once():
    e = endpoint()
    token, actions = e.request(PEER, GET, TEMPERATURE, b"", 0)
    assert e.datagram(PEER, coap.Message(coap.ACK, 0, sent(actions)[0].mid).encode(), 10) == []
    assert e.tick(40000) == []  # no retransmission any more
    answer = coap.Message(coap.CON, CONTENT, 0xAD7B, token, [], b"22.3 C").encode()
    actions = e.datagram(PEER, answer, 40001)
    assert [a.encode().hex() for a in sent(actions)] == ["6000ad7b"]
    assert others(actions)[0][:2] == ("response", token)
    actions = e.datagram(PEER, answer, 40002)
    assert [a.encode().hex() for a in sent(actions)] == ["6000ad7b"] and others(actions) == []


def test_separate_response_may_overtake_the_acknowledgement():
    e = endpoint()
    token, actions = e.request(PEER, GET, TEMPERATURE, b"", 0)
    mid = sent(actions)[0].mid
    assert others(e.datagram(PEER, coap.Message(coap.CON, CONTENT, 7, token).encode(), 5))[0][:2] == ("response", token)
    assert e.datagram(PEER, coap.Message(coap.ACK, 0, mid).encode(), 6) == []
    assert e.next_wake() is None


def test_non_confirmable_exchange():
    e = endpoint()
    token, actions = e.request(PEER, GET, TEMPERATURE, b"", 0, confirmable=False, timeout=5000)
    assert sent(actions)[0].type == coap.NON and e.next_wake() == 5000
    actions = e.datagram(PEER, coap.Message(coap.NON, CONTENT, 0xAD7C, token).encode(), 20)
    assert others(actions)[0][:2] == ("response", token) and sent(actions) == []


def test_confirmable_request_is_repeated_four_times_with_doubled_gaps():
    e = endpoint()
    token, actions = e.request(PEER, GET, TEMPERATURE, b"", 1000)
    octets = actions[0][2]
    times = []
    while True:
        now = e.next_wake()
        assert e.tick(now - 1) == []
        actions = e.tick(now)
        if actions == [("timeout", token)]:
            break
        assert actions == [("send", PEER, octets)]
        times.append(now - 1000)
    first = times[0]
    assert 1000 <= first <= 1500 and times == [first, 3 * first, 7 * first, 15 * first]
    assert now - 1000 == 31 * first and e.next_wake() is None


def test_the_callers_timeout_is_kept():
    e = endpoint()
    token, _ = e.request(PEER, GET, TEMPERATURE, b"", 0, timeout=900)
    assert e.next_wake() == 900 and e.tick(900) == [("timeout", token)]


@req("SEC-35")
def test_a_reset_that_anybody_can_send_ends_no_request():
    """Message IDs are counted up, and a question to everybody shows where they stand."""
    e = endpoint()
    token, actions = e.request(PEER, GET, TEMPERATURE, b"", 0)
    mid = sent(actions)[0].mid
    for address in (OTHER, PEER):
        assert e.datagram(address, coap.Message(coap.RST, 0, mid).encode(), 1) == []
    assert sent(e.tick(2000))[0].mid == mid  # it goes on, and is answered
    assert others(e.datagram(PEER, coap.Message(coap.ACK, CONTENT, mid, token).encode(), 2001))[0][0] == "response"


def test_a_cancelled_request_is_silent():
    e = endpoint()
    token, actions = e.request(PEER, GET, TEMPERATURE, b"", 0)
    e.cancel(token)
    assert e.next_wake() is None and e.tick(100000) == []
    assert e.datagram(PEER, coap.Message(coap.ACK, CONTENT, sent(actions)[0].mid, token).encode(), 1) == []


def test_answers_are_matched_by_peer_and_token():
    e = endpoint()
    token, actions = e.request(PEER, GET, TEMPERATURE, b"", 0)
    mid = sent(actions)[0].mid
    assert others(e.datagram(OTHER, coap.Message(coap.ACK, CONTENT, mid, token).encode(), 1)) == []
    assert others(e.datagram(OTHER, coap.Message(coap.NON, CONTENT, 9, token).encode(), 1)) == []
    assert others(e.datagram(PEER, coap.Message(coap.ACK, CONTENT, mid, b"\0\0\0\xff").encode(), 1)) == []
    assert others(e.datagram(PEER, coap.Message(coap.NON, CONTENT, 10, b"\0\0\0\xff").encode(), 1)) == []
    assert others(e.datagram(PEER, coap.Message(coap.ACK, CONTENT, mid, token).encode(), 1))[0][0] == "response"


def test_an_unexpected_confirmable_answer_is_reset():
    actions = endpoint().datagram(PEER, coap.Message(coap.CON, CONTENT, 0x1234, b"t").encode(), 0)
    assert actions == [("send", PEER, b"\x70\x00\x12\x34")]


def test_one_request_per_peer_is_on_its_way():
    e = endpoint()
    first, actions = e.request(PEER, GET, TEMPERATURE, b"1", 0)
    second, waiting = e.request(PEER, GET, TEMPERATURE, b"2", 0)
    _, elsewhere = e.request(OTHER, GET, TEMPERATURE, b"3", 0)
    assert waiting == [] and len(elsewhere) == 1
    mid = sent(actions)[0].mid
    actions = e.datagram(PEER, coap.Message(coap.ACK, CONTENT, mid, first).encode(), 50)
    assert others(actions)[0][1] == first and sent(actions)[0].payload == b"2" and sent(actions)[0].token == second


def test_a_waiting_request_starts_when_the_first_one_times_out():
    e = endpoint()
    first, _ = e.request(PEER, GET, TEMPERATURE, b"1", 0, timeout=1000)
    second, _ = e.request(PEER, GET, TEMPERATURE, b"2", 0)
    actions = e.tick(1000)
    assert others(actions) == [("timeout", first)] and sent(actions)[0].token == second


def test_requests_are_bounded():
    e = endpoint()
    for _ in range(REQUESTS_MAX):
        e.request(PEER, GET, TEMPERATURE, b"", 0)
    with raises(TooMany):
        e.request(PEER, GET, TEMPERATURE, b"", 0)


def test_everybody_may_answer_a_broadcast_until_the_timeout():
    e = endpoint()
    token, actions = e.request(AIR, GET, TEMPERATURE, b"", 0, timeout=2000, anyone=True)
    assert sent(actions)[0].type == coap.NON
    answer = coap.Message(coap.NON, CONTENT, 3, token).encode()
    assert [e.datagram(peer, answer, 10)[0][3] for peer in (PEER, OTHER)] == [PEER, OTHER]
    assert e.tick(2000) == [("timeout", token)] and e.datagram(PEER, answer, 2001) == []


def test_a_challenge_with_echo_is_answered_once():
    e = endpoint()
    token, actions = e.request(PEER, POST, [(11, b".well-known"), (11, b"edhoc")], b"m1", 0)
    mid = sent(actions)[0].mid
    challenge = coap.Message(coap.ACK, 0x81, mid, token, [(252, b"fresh?")])
    (again,) = sent(e.datagram(PEER, challenge.encode(), 5))
    assert again.mid != mid and again.payload == b"m1" and coap.option(again.options, 252) == b"fresh?"
    challenge.mid = again.mid
    actions = e.datagram(PEER, challenge.encode(), 9)
    assert others(actions)[0][2].code == 0x81 and sent(actions) == []


def test_an_oscore_request_is_never_repeated_by_itself_for_an_echo():
    e = endpoint()
    token, actions = e.request(PEER, POST, [(9, b"\x09\x01C")], b"ciphertext", 0)
    challenge = coap.Message(coap.ACK, 0x81, sent(actions)[0].mid, token, [(252, b"fresh?")]).encode()
    actions = e.datagram(PEER, challenge, 5)
    assert sent(actions) == [] and others(actions)[0][0] == "response"


def ask(e, mid=0x7D38, kind=coap.CON, options=TEMPERATURE, now=0, address=PEER):
    return e.datagram(address, coap.Message(kind, GET, mid, b"\x53", options, b"").encode(), now)


def test_a_request_is_reported_once_and_duplicates_get_the_same_answer():
    e = endpoint()
    ((kind, exchange, message, address),) = ask(e)
    assert kind == "request" and message.options == TEMPERATURE and address == PEER
    actions = e.reply(exchange, CONTENT, [], b"22.3 C", 100)
    assert actions == [("send", PEER, bytes.fromhex("61457d3853ff32322e332043"))]
    assert ask(e, now=3000) == actions and ask(e, now=200000) == actions
    assert ask(e, now=3000, address=OTHER)[0][0] == "request"
    assert ask(e, mid=0x7D39, now=EXCHANGE_LIFETIME)[0][0] == "request"  # makes room
    assert ask(e, now=EXCHANGE_LIFETIME)[0][0] == "request"


def test_a_slow_answer_comes_separately_and_is_repeated_until_acknowledged():
    e = endpoint()
    exchange = ask(e)[0][1]
    assert e.next_wake() == 1000
    assert e.tick(1000) == [("send", PEER, bytes.fromhex("60007d38"))] and e.next_wake() is None
    assert ask(e, now=2000) == [("send", PEER, bytes.fromhex("60007d38"))]
    actions = e.reply(exchange, CONTENT, [], b"22.3 C", 3000)
    (answer,) = sent(actions)
    assert (answer.type, answer.token, answer.payload) == (coap.CON, b"\x53", b"22.3 C")
    assert e.tick(e.next_wake()) == actions
    assert e.datagram(PEER, coap.Message(coap.ACK, 0, answer.mid).encode(), 7000) == []
    assert e.next_wake() is None


def test_a_reset_ends_a_separate_answer():
    e = endpoint()
    exchange = ask(e)[0][1]
    e.tick(1000)
    (answer,) = sent(e.reply(exchange, CONTENT, [], b"", 3000))
    assert e.datagram(PEER, coap.Message(coap.RST, 0, answer.mid).encode(), 3001) == []
    assert e.next_wake() is None


def test_a_duplicate_before_the_answer_gets_an_empty_acknowledgement():
    e = endpoint()
    ask(e)
    assert ask(e, now=500) == [("send", PEER, bytes.fromhex("60007d38"))]


def test_a_non_confirmable_request_gets_a_non_confirmable_answer():
    e = endpoint()
    exchange = ask(e, kind=coap.NON)[0][1]
    assert e.next_wake() is None and ask(e, kind=coap.NON) == []
    (answer,) = sent(e.reply(exchange, CONTENT, [], b"22.3 C", 10))
    assert (answer.type, answer.token) == (coap.NON, b"\x53") and e.next_wake() is None


def test_critical_options_that_are_not_understood_are_refused():
    e = endpoint()
    (answer,) = sent(ask(e, options=[(27, b"\x08")]))  # Block1
    assert (answer.type, answer.code) == (coap.ACK, 0x82)
    assert sent(ask(e, mid=2, options=[(35, b"coap://x")]))[0].code == 0xA5
    assert ask(e, mid=3, kind=coap.NON, options=[(27, b"\x08")]) == []
    assert ask(e, mid=4, options=[(2048, b"elective")])[0][0] == "request"
    token, actions = e.request(PEER, GET, TEMPERATURE, b"", 0)
    answer = coap.Message(coap.ACK, CONTENT, sent(actions)[0].mid, token, [(23, b"\x08")]).encode()  # Block2
    assert e.datagram(PEER, answer, 1) == []


def test_ping_and_format_errors_are_answered_with_reset():
    e = endpoint()
    assert e.datagram(PEER, bytes.fromhex("40001234"), 0) == [("send", PEER, bytes.fromhex("70001234"))]
    assert e.datagram(PEER, bytes.fromhex("40017d34ff"), 0) == [("send", PEER, bytes.fromhex("70007d34"))]
    assert e.datagram(PEER, bytes.fromhex("40e17d34"), 0) == [("send", PEER, bytes.fromhex("70007d34"))]
    for silent in ("50001234", "50017d34ff", "80017d34", "4001", "60017d34ff", "6000ffff", "7000ffff", "50e17d34"):
        assert e.datagram(PEER, bytes.fromhex(silent), 0) == []


def test_a_flood_of_requests_is_bounded_and_ends():
    e = endpoint()
    reported = [ask(e, mid=i) for i in range(100)]
    assert sum(1 for actions in reported if actions) == REMEMBERED_MAX
    assert len(e._in) == REMEMBERED_MAX
    e.tick(1000)  # acknowledged: their places may be taken
    assert ask(e, mid=200, now=1001)[0][0] == "request" and len(e._in) == REMEMBERED_MAX
