"""The link over GATT: fragments, waiting for a connection, and centrals that do what they should not."""

import asyncio

from scripted_radio import ScriptedRadio
from vmtest import raises

from device_agent import tuning
from device_agent.links.gatt import ADDRESS, GattLink, Joining, fragment

EMPTY = b"\x01"  # what a central writes when it has subscribed


class Clock:
    ms = 0

    def now(self):
        return self.ms


def cut(datagram, value_max):
    """All fragments of a datagram."""
    return [fragment(datagram, at, value_max) for at in range(0, len(datagram), value_max - 1)]


def joined(values, value_max=20):
    """The datagrams that come of these values, and how many were dropped."""
    joining = Joining()
    whole = [joining.take(value, value_max) for value in values]
    return [datagram for datagram in whole if datagram], joining.dropped


class Board:
    """A GattLink on a ScriptedRadio; `datagrams` are those that it received."""

    def __init__(self):
        self.clock = Clock()
        self.radio = ScriptedRadio()
        self.link = GattLink(self.radio, self.clock)
        self.datagrams = []

    async def settle(self):
        """Let the link take what was written, and do its work once."""
        receiving = asyncio.create_task(self._receive())
        for _ in range(50):
            await asyncio.sleep(0)
        receiving.cancel()
        await self.link._tend()

    async def _receive(self):
        while True:
            self.datagrams.append(await self.link.recv())


def run(test):
    asyncio.run(test(Board()))


def test_a_datagram_of_any_length_comes_out_as_it_went_in():
    for size in (1, 18, 19, 20, 38, 39, 243, 511, 512, 1400):
        datagram = bytes([at & 255 for at in range(size)])
        for value_max in (20, 244, 512):
            values = cut(datagram, value_max)
            assert max([len(value) for value in values]) <= value_max
            assert [value[0] for value in values] == [0] * (len(values) - 1) + [1]
            assert joined(values, value_max) == ([datagram], 0)


def test_malformed_fragments_drop_their_datagram_and_no_other():
    good = [b"\x00one", b"\x01two"]
    for bad in (b"", b"\x00", b"\x02x", b"\xff", b"\x00" + bytes(20), b"\x01" + bytes(512)):
        values = [b"\x00begun", bad, b"\x01end"] if bad[:1] != b"\x01" else [b"\x00begun", bad]
        assert joined(values + good) == ([b"onetwo"], 1), bad


def test_fragments_without_end_are_dropped_and_take_no_room():
    joining = Joining()
    for _ in range(1000):
        assert joining.take(b"\x00" + bytes(19), 20) is None
        assert len(joining._pieces) * 19 <= tuning.DATAGRAM_MAX
    assert joining.dropped == 1
    assert joining.take(b"\x01x", 20) is None
    assert joining.take(b"\x01y", 20) == b"y"


def test_a_datagram_that_is_too_long_by_one_octet_is_dropped():
    assert joined(cut(bytes(tuning.DATAGRAM_MAX + 1), 512), 512) == ([], 1)


def test_an_empty_fragment_is_no_datagram():
    assert joined([EMPTY, b"\x01x"]) == ([b"x"], 0)


def test_a_stranger_that_is_not_silent_and_answers_nothing_does_not_keep_the_connection():
    async def test(board):
        board.radio.connect()
        for second in range(4):
            assert not board.radio.disconnected, second
            board.clock.ms += 1000
            board.radio.write(b"\x01garbage")
            board.link.send(ADDRESS, b"a request, and its repetitions")
            await board.settle()
        assert board.radio.disconnected == 1
        board.radio.connect()  # the gateway, which answers each
        for number in range(20):
            board.radio.write(b"\x01answer")
            board.link.send(ADDRESS, b"a request" + bytes((number // 2,)))  # some are lost
            await board.settle()
        assert board.radio.disconnected == 1 and board.radio.connected

    run(test)


def test_a_link_that_wants_to_send_advertises_it_and_sends_when_the_central_has_subscribed():
    async def test(board):
        board.link.ask_all(b"is there a gateway?" * 2)
        await board.settle()
        assert board.radio.wants and not board.link.standing()
        board.radio.connect()
        await board.settle()
        assert board.radio.sent == [] and not board.link.standing()
        board.radio.write(EMPTY)
        await board.settle()
        assert joined(board.radio.sent) == ([b"is there a gateway?" * 2], 0)
        assert board.link.standing() and board.datagrams == []
        board.radio.write(b"\x01here")
        await board.settle()
        assert board.datagrams == [(ADDRESS, b"here")]
        board.radio.connected = False
        await board.settle()
        assert not board.radio.wants and not board.link.standing()  # nothing is left to send

    run(test)


def test_a_central_that_never_writes_is_sent_to_after_a_while_and_then_left():
    async def test(board):
        board.link.send(ADDRESS, b"hello")
        board.radio.connect()
        await board.settle()
        board.clock.ms += tuning.GATT_SUBSCRIBING
        await board.settle()
        assert board.radio.sent == []
        board.clock.ms += 1
        await board.settle()
        assert board.radio.sent == [b"\x01hello"] and not board.radio.disconnected
        board.clock.ms += tuning.GATT_SILENT
        await board.settle()
        assert board.radio.disconnected == 1

    run(test)


def test_a_central_that_writes_no_datagrams_does_not_keep_its_connection():
    async def test(board):
        board.radio.connect()
        for _ in range(tuning.GATT_SILENT // 1000):
            board.radio.write(b"\x00more")
            await board.settle()
            board.clock.ms += 1000
        assert not board.radio.disconnected
        board.clock.ms += 1
        await board.settle()
        assert board.radio.disconnected == 1 and board.datagrams == []

    run(test)


def test_a_datagram_that_no_connection_comes_for_is_dropped_and_no_more_wanted():
    async def test(board):
        board.link.send(ADDRESS, b"hello")
        await board.settle()
        board.clock.ms += tuning.CONNECTING - 1
        await board.settle()
        assert board.radio.wants
        board.clock.ms += 1
        await board.settle()
        assert not board.radio.wants and board.link.dropped == 1

    run(test)


def test_a_datagram_that_is_repeated_while_it_waits_is_sent_once():
    async def test(board):
        for _ in range(5):
            board.link.send(ADDRESS, b"hello")
        board.radio.connect()
        board.radio.write(EMPTY)
        await board.settle()
        assert board.radio.sent == [b"\x01hello"]

    run(test)


def test_no_more_datagrams_wait_than_there_is_room_for():
    async def test(board):
        for number in range(tuning.GATT_QUEUE_MAX + 2):
            board.link.send(ADDRESS, b"%d" % number)
        board.radio.connect()
        board.radio.write(EMPTY)
        await board.settle()
        assert [value[1:] for value in board.radio.sent] == [b"2", b"3", b"4", b"5"] and board.link.dropped == 2

    run(test)


def test_a_connection_that_takes_no_more_values_is_ended_and_the_datagram_goes_over_the_next_one():
    datagram = bytes(range(100))

    async def test(board):
        board.radio.connect()
        board.radio.write(EMPTY)
        await board.settle()
        board.radio.room = 2
        board.link.send(ADDRESS, datagram)
        sending = asyncio.create_task(board.link._tend())
        await asyncio.sleep(0.01)
        assert not sending.done() and len(board.radio.sent) == 2
        board.clock.ms += tuning.GATT_STALLED + 1
        await sending
        assert board.radio.disconnected == 1
        board.radio.room = 100
        board.radio.sent.clear()
        board.radio.connect()
        board.radio.write(EMPTY)
        await board.settle()
        assert joined(board.radio.sent) == ([datagram], 0)

    run(test)


def test_what_one_central_left_half_written_is_not_joined_to_what_the_next_one_writes():
    async def test(board):
        for half in (b"\x00half", b"\x02", b"\x00" + bytes(30)):
            board.datagrams.clear()
            board.radio.connect()
            board.radio.write(half)
            board.radio.connect()
            board.radio.write(b"\x01whole")
            await board.settle()
            assert board.datagrams == [(ADDRESS, b"whole")], half

    run(test)


def test_a_central_that_connects_and_goes_all_the_time_is_sent_nothing_and_the_next_one_is():
    async def test(board):
        board.link.send(ADDRESS, b"hello")
        for _ in range(50):
            board.radio.connect()
            await board.settle()
            board.radio.connected = False
            await board.settle()
            board.clock.ms += 100
        assert board.radio.sent == [] and board.radio.wants
        board.radio.connect()
        board.radio.write(EMPTY)
        await board.settle()
        assert board.radio.sent == [b"\x01hello"]

    run(test)


def test_its_address_is_no_place_that_is_remembered():
    link = Board().link
    assert link.address(ADDRESS) == ADDRESS and link.text(ADDRESS) == ""
    with raises(ValueError):
        link.address("192.168.1.10")


def test_the_agent_learns_that_the_radio_went_off():
    async def test(board):
        waiting = asyncio.create_task(board.link.changed())
        await asyncio.sleep(0)
        assert board.link.up() and not waiting.done()
        board.radio.on = False
        await waiting
        assert not board.link.up()

    run(test)
