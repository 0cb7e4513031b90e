"""Resources and parts of a PNE: a table leads each request of the PN GW to a part; another part is a file and a
line."""

import notes_board
from device_world import World
from vmtest import raises

from cpns import messages as m
from cpns import numbers as n
from cpns.errors import MalformedMessage, Stale, TooMany
from device_agent.coap import blocks
from device_agent.coap.message import option

VM_HEAP_KIB = 192  # the PNE and its PN GW in one heap
BLOCK1, BLOCK2, TAG = 27, 23, 292
CHANGED, CONTINUE, BAD_REQUEST, FORBIDDEN, NOT_FOUND = 0x44, 0x5F, 0x80, 0x83, 0x84
TOO_LARGE, OTHER_FORMAT = 0x8D, 0x8F


def with_notes():
    world = World()
    world.agent.requests.resources[notes_board.PATH] = notes_board.NOTES
    return world


def sent(world, options, octets=b"", code=2):
    """One verified request of the PN GW: (code, options, body) of the answer."""
    return world.perform(world.agent.requests.answer(code, options, octets))


def block(number, more, exponent=6):
    value = number << 4 | more << 3 | exponent
    return value.to_bytes(1 if value < 256 else 2, "big")


def in_blocks(world, body, tag=b"t", exponent=6):
    """Send `body` in blocks and fetch the answer in blocks."""
    size = 16 << exponent
    options = list(notes_board.OPTIONS)
    options.append((TAG, tag))
    for start in range(0, max(len(body), 1), size):
        more = start + size < len(body)
        asked = list(options)
        asked.append((BLOCK1, block(start // size, more, exponent)))
        code, found, piece = sent(world, asked, body[start : start + size])
        assert option(found, BLOCK1) == asked[-1][1]
        if code != (CONTINUE if more else CHANGED):
            return code, b""
    answer, number = piece, 0
    while (option(found, BLOCK2) or b"\0")[-1] & 8:
        assert (code, option(found, BLOCK2)) == (CHANGED, block(number, True, exponent))
        number += 1
        code, found, piece = sent(world, options[:2] + [(TAG, tag), (BLOCK2, block(number, False, exponent))])
        answer += piece
    return code, answer


def test_a_further_resource_answers_in_one_datagram_and_in_blocks():
    world = with_notes()
    assert sent(world, notes_board.OPTIONS, b"milk") == (CHANGED, [(12, b"")], b"MILK")
    assert sent(world, notes_board.OPTIONS) == (CHANGED, [], b"")
    for length in (1, 1024, 1025, 2048, notes_board.SIZE):
        body = (b"milk, eggs; " * (length // 12 + 1))[:length]
        assert in_blocks(world, body) == (CHANGED, body.upper())
    assert in_blocks(world, body[:1500], exponent=2) == (CHANGED, body[:1500].upper())
    assert sent(world, notes_board.OPTIONS, b"milk")[2] == b"MILK"


def test_what_a_resource_does_not_take_is_refused():
    world = with_notes()
    begun = notes_board.OPTIONS + [(BLOCK1, block(0, True))]
    full = bytes(1024)
    assert sent(world, notes_board.OPTIONS, bytes(notes_board.SIZE + 1))[0] == TOO_LARGE
    assert sent(world, notes_board.OPTIONS[:2] + [(12, b"\x3c")], b"milk")[0] == OTHER_FORMAT
    assert sent(world, notes_board.OPTIONS, b"milk", code=1)[0] == NOT_FOUND
    assert sent(world, notes_board.OPTIONS[:1], b"milk")[0] == NOT_FOUND
    assert sent(world, [], b"milk")[0] == NOT_FOUND
    assert sent(world, begun, full[1:])[0] == BAD_REQUEST
    for number in range(4):
        assert sent(world, notes_board.OPTIONS + [(BLOCK1, block(number, True))], full)[0] == CONTINUE
    assert sent(world, notes_board.OPTIONS + [(BLOCK1, block(4, True))], full)[0] == TOO_LARGE
    assert sent(world, notes_board.OPTIONS + [(BLOCK1, block(5, False))], full)[0] == BAD_REQUEST  # it is over
    assert sent(world, notes_board.OPTIONS + [(BLOCK2, block(1, False))])[0] == BAD_REQUEST  # no answer is kept
    for wrong in (b"\x0d", bytes(4), b"\x0f"):  # too small for this body, too long, too large
        assert sent(world, notes_board.OPTIONS + [(BLOCK1, wrong)], full)[0] == BAD_REQUEST


def test_another_transfer_ends_the_one_before():
    world = with_notes()
    options = notes_board.OPTIONS + [(TAG, b"1")]
    assert sent(world, options + [(BLOCK1, block(0, True))], bytes(1024))[0] == CONTINUE
    assert in_blocks(world, b"a" * 1500, b"2") == (CHANGED, b"A" * 1500)
    assert sent(world, options + [(BLOCK1, block(1, False))], b"rest")[0] == BAD_REQUEST


class Session:
    """Answers one request after the other: `answers` are (options, body)."""

    def __init__(self, answers):
        self.answers = answers
        self.asked = []

    def ask(self, options, octets):
        self.asked.append((option(options, BLOCK1), option(options, BLOCK2), octets))
        return self.answers.pop(0)
        yield


def asked(session, body, size=3000):
    return World(session=False).perform(blocks.ask(session, notes_board.OPTIONS, body, size))


def test_the_board_asks_in_blocks_and_takes_an_answer_in_blocks():
    session = Session([([], b""), ([(BLOCK2, block(0, True))], bytes(1024)), ([(BLOCK2, block(1, False))], b"end")])
    assert asked(session, b"a" * 1025) == bytes(1024) + b"end"
    assert session.asked == [
        (block(0, True), None, b"a" * 1024),
        (block(1, False), None, b"a"),
        (None, block(1, False), b""),
    ]
    session = Session([([], b"all of it")])
    assert asked(session, b"short") == b"all of it"
    assert session.asked == [(None, None, b"short")]


def test_an_answer_out_of_order_or_too_long_is_refused():
    first = ([(BLOCK2, block(0, True))], bytes(1024))
    for second in (([(BLOCK2, block(2, False))], b"x"), ([(BLOCK2, block(1, True))], b"x"), ([], b"x")):
        with raises(MalformedMessage):
            asked(Session([first, second]), b"")
    with raises(TooMany):
        asked(Session([first, ([(BLOCK2, block(1, False))], bytes(900))]), b"", 1900)


def test_a_part_answers_a_message_code_and_its_errors_are_told_apart():
    world = World()
    taken = []

    def part(fields):
        octets = fields[m.KEY_MESSAGE]
        if octets == b"refuse":
            raise TooMany("refused at once")
        return steps(octets)

    def steps(octets):
        yield
        if octets == b"fail":
            raise Stale("found out later")
        taken.append(octets)
        return {}

    assert world.ask(n.KEY_MESSAGE_REQUEST, {m.KEY_MESSAGE: b"notice"}) == (FORBIDDEN, None)
    world.agent.requests.parts[n.KEY_MESSAGE_REQUEST] = part
    answer = world.ask(n.KEY_MESSAGE_REQUEST, {m.KEY_MESSAGE: b"notice"})
    assert answer == (n.KEY_MESSAGE_RESPONSE, {m.RESULT: n.RESULT_SUCCESS}) and taken == [b"notice"]
    assert world.ask(n.KEY_MESSAGE_REQUEST, {m.KEY_MESSAGE: b"refuse"}) == (FORBIDDEN, None)
    code, fields = world.ask(n.KEY_MESSAGE_REQUEST, {m.KEY_MESSAGE: b"fail"})
    assert (code, fields[m.RESULT]) == (n.KEY_MESSAGE_RESPONSE, n.RESULT_FAIL)
    assert fields[m.ERROR_TEXT] == "found out later" and taken == [b"notice"]
    assert world.told("refused") == [
        {"message": n.KEY_MESSAGE_REQUEST, "error": Stale.code, "reason": "found out later"}
    ]
