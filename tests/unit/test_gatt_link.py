"""The GATT link with scripted boards: which it connects to and when, and boards that misbehave. No radio is used."""

import asyncio
import contextlib
import itertools

import pytest

from message_plane import tuning
from message_plane.links.fragments import cut
from message_plane.links.gatt import GattLink
from tests.integration.scripted_carrier import ScriptedRadio

LAMP, LOCK, OVEN = (f"F0:00:00:00:00:{number:02X}" for number in range(1, 4))
DATAGRAM = bytes(range(200)) * 7


class Gateway:
    """A link over a scripted radio, and what it received."""

    def __init__(self, **options):
        self.radio = ScriptedRadio()
        self.link = GattLink(self.radio, **options)
        self.counters = self.link.counters
        self.received = []

    def take(self, datagram, address):
        self.received.append((datagram, address))

    async def send(self, bluetooth, datagram=DATAGRAM):
        self.link.send(await self.link.find(f"gatt:{bluetooth}"), datagram)

    async def wanted(self, *addresses, for_s=1.0):
        """Boards say that they want a connection, ten times a second."""
        for _ in range(round(for_s * 10)):
            for address in addresses:
                self.link.advertised(address, True)
            await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def gateway(**options):
    made = Gateway(**options)
    await made.link.open(made.take)
    try:
        yield made
    finally:
        await made.link.close()
        assert not made.link._tasks and not made.radio.connected


def speaks(*datagrams):
    """The values of a board that sends these datagrams once it has got anything."""
    return [value for datagram in datagrams for value in cut(datagram, 244)]


async def test_a_board_that_wants_a_connection_gets_one_and_is_answered_on_it():
    async with gateway() as home:
        lamp = home.radio.board(LAMP)
        home.link.advertised(LAMP, True)
        await asyncio.sleep(1)
        for value in cut(DATAGRAM, 244):
            lamp.received(value)
        ((datagram, address),) = home.received
        assert datagram == DATAGRAM and address.place == f"gatt:{LAMP}" and not address.echo_proves
        home.link.send(address, b"answer")
        await asyncio.sleep(1)
        assert lamp.got == [b"\x01answer"] and lamp.connections == 1


async def test_a_board_that_wants_nothing_is_connected_to_only_if_there_is_something_for_it():
    async with gateway() as home:
        lamp = home.radio.board(LAMP)
        home.link.advertised(LAMP, False)
        await asyncio.sleep(5)
        assert not home.radio.began
        await home.send(LAMP)
        await asyncio.sleep(1)
        assert lamp.got == cut(DATAGRAM, 244) and len(lamp.got) == 6


async def test_a_datagram_waits_for_the_advert_of_its_board_and_then_is_lost():
    async with gateway() as home:
        lamp = home.radio.board(LAMP)
        await home.send(LAMP, b"early")
        await asyncio.sleep(tuning.GATT_QUEUED_S - 2)
        home.link.advertised(LAMP, False)
        await asyncio.sleep(1)
        assert lamp.got == [b"\x01early"] and home.counters["gatt_expired"] == 0
        await home.send(LOCK, b"never")
        await asyncio.sleep(tuning.GATT_QUEUED_S + 1)
        home.link.advertised(LOCK, False)
        await asyncio.sleep(1)
        assert home.counters["gatt_expired"] == 1 and not home.link._queues
        assert [address for _, address in home.radio.began] == [LAMP]


async def test_the_same_datagram_waits_once_and_others_have_little_room():
    async with gateway() as home:
        lamp = home.radio.board(LAMP)
        for _ in range(3):
            await home.send(LAMP, b"repeated")
        for number in range(tuning.GATT_QUEUED_MAX - 1):
            await home.send(LAMP, bytes([number]))
        with pytest.raises(OSError, match="too many"):
            await home.send(LAMP, b"one more")
        home.link.advertised(LAMP, False)
        await asyncio.sleep(1)
        assert lamp.got[0] == b"\x01repeated" and len(lamp.got) == tuning.GATT_QUEUED_MAX
        for number in range(tuning.GATT_QUEUES_MAX):
            await home.send(f"F1:00:00:00:{number // 256:02X}:{number % 256:02X}", b"to nobody")
        with pytest.raises(OSError, match="too many boards"):
            await home.send("F2:00:00:00:00:00", b"to nobody")


async def test_an_idle_connection_ends_and_the_next_datagram_makes_another():
    async with gateway() as home:
        lamp = home.radio.board(LAMP)
        home.link.advertised(LAMP, True)
        await asyncio.sleep(tuning.GATT_IDLE_S - 1)
        assert home.radio.connected == {LAMP}
        await asyncio.sleep(3)
        assert not home.radio.connected
        home.link.advertised(LAMP, False)
        await home.send(LAMP)
        await asyncio.sleep(3)
        assert lamp.connections == 2 and lamp.got == cut(DATAGRAM, 244)


async def test_there_are_no_more_connections_than_stated_and_the_least_recently_used_makes_room():
    async with gateway(connections_max=2) as home:
        boards = [home.radio.board(address) for address in (LAMP, LOCK, OVEN)]
        for board in boards:
            home.link.advertised(board.address, False)
            await home.send(board.address, b"hello")
        most = 0
        for _ in range(100):
            home.link.prefer(await home.link.find(f"gatt:{LAMP}"))
            home.link.prefer(await home.link.find(f"gatt:{LOCK}"))
            await asyncio.sleep(0.1)
            most = max(most, len(home.radio.connected))
        assert most == 2 and all(board.got == [b"\x01hello"] for board in boards)
        assert OVEN in home.radio.connected


async def test_the_gateway_goes_on_when_the_carrier_breaks():
    async with gateway() as home:
        home.radio.board(LAMP).connected = None  # calling it is a fault of the program
        lock = home.radio.board(LOCK)
        await home.wanted(LAMP, LOCK, for_s=5)
        assert lock.connections == 1


@pytest.mark.parametrize("fault", [OSError("gone"), RuntimeError("a fault of the program"), None], ids=repr)
async def test_a_connection_that_cannot_be_closed_keeps_no_place(fault):
    async with gateway(connections_max=1) as home:
        lamp, lock = home.radio.board(LAMP), home.radio.board(LOCK)

        async def close():
            lamp.is_connected = False
            if fault is None:
                await asyncio.Event().wait()
            raise fault

        lamp.close = close
        home.link.advertised(LAMP, True)
        await asyncio.sleep(1)
        await home.wanted(LOCK, for_s=30)
        assert lamp.connections == lock.connections == 1


async def test_a_board_that_changes_its_address_is_answered_at_the_new_one():
    async with gateway() as home:
        home.radio.board(LAMP)
        moved = home.radio.board(LOCK, answer=lambda value: ())
        home.link.advertised(LAMP, True)
        await asyncio.sleep(1)
        home.radio.boards[LAMP].leave()
        home.link.advertised(LOCK, True)
        await asyncio.sleep(1)
        moved.received(b"\x01here")
        home.link.send(home.received[-1][1], b"there")
        await asyncio.sleep(1)
        assert moved.got == [b"\x01there"]


# Boards that misbehave


async def test_a_board_that_stalls_is_disconnected_and_waits_longer_each_time():
    async with gateway() as home:
        lamp, lock = home.radio.board(LAMP, stalls=True), home.radio.board(LOCK)
        for _ in range(200):
            home.link.advertised(LAMP, True)
            with contextlib.suppress(OSError):
                await home.send(LAMP, b"x")
            await asyncio.sleep(0.5)
        assert 2 <= home.counters["gatt_stalled"] == lamp.connections <= 10
        home.link.advertised(LOCK, True)
        await asyncio.sleep(2)
        assert lock.connections == 1


async def test_a_board_that_leaves_in_the_middle_of_a_datagram_leaves_nothing_behind():
    async with gateway() as home:
        lamp = home.radio.board(LAMP)
        home.link.advertised(LAMP, True)
        await asyncio.sleep(1)
        lamp.received(b"\x00half")
        lamp.leave()
        await home.wanted(LAMP, for_s=5)
        assert lamp.connections == 2 and home.counters["gatt_lost"] == 1
        lamp.received(b"\x01whole")
        assert [datagram for datagram, _ in home.received] == [b"whole"]


async def test_a_board_that_leaves_while_it_is_written_to_costs_that_datagram_only():
    async with gateway() as home:

        def leaves(value):
            if lamp.connections == 1:
                lamp.leave()
            return ()

        lamp = home.radio.board(LAMP, answer=leaves)
        home.link.advertised(LAMP, False)
        await home.send(LAMP)
        await home.send(LAMP, b"next")
        await asyncio.sleep(5)
        assert lamp.got == [*cut(DATAGRAM, 244)[:1], b"\x01next"]


async def test_a_board_that_leaves_once_it_has_got_a_datagram_can_come_again():
    async with gateway() as home:

        def leaves(value):
            lamp.leave()
            return ()

        lamp = home.radio.board(LAMP, answer=leaves)
        for number in range(1, 4):
            home.link.advertised(LAMP, False)
            await home.send(LAMP, b"bye")
            await asyncio.sleep(10)
            assert lamp.connections == number and lamp.got == [b"\x01bye"] * number


async def test_fragments_without_end_are_dropped_and_end_the_connection():
    async with gateway() as home:
        lamp = home.radio.board(LAMP)
        home.link.advertised(LAMP, True)
        await asyncio.sleep(1)
        for _ in range(10_000):
            if not lamp.is_connected:
                break
            lamp.received(b"\x00" + bytes(200))
            (talk,) = home.link._talks.values()
            assert len(talk.joiner._pieces) <= tuning.GATT_DATAGRAM_MAX
            await asyncio.sleep(0.01)
        assert not lamp.is_connected and home.received == []
        assert home.counters["gatt_fragments_dropped"] == tuning.GATT_DROPPED_MAX


async def test_a_board_that_sends_a_crumb_now_and_then_does_not_keep_its_connection():
    async with gateway() as home:
        lamp = home.radio.board(LAMP)
        home.link.advertised(LAMP, True)
        await asyncio.sleep(1)
        for _ in range(10):
            lamp.received(b"\x00x")
            await asyncio.sleep(tuning.GATT_IDLE_S / 8)
        assert not lamp.is_connected


@pytest.mark.parametrize(
    "value",
    [b"", b"\x00", b"\x02more", b"\xff", bytes(513), b"\x01" + bytes(512)],
    ids=lambda value: value[:3].hex(),
)
async def test_a_value_that_is_no_fragment_drops_its_datagram_and_no_other(value):
    async with gateway() as home:
        lamp = home.radio.board(LAMP)
        home.link.advertised(LAMP, True)
        await asyncio.sleep(1)
        for each in (b"\x01before", b"\x00be", value, b"\x00gin", b"\x01end", b"\x01after"):
            lamp.received(each)
        assert home.counters["gatt_fragments_dropped"] >= 1 and lamp.is_connected
        received = [datagram for datagram, _ in home.received]
        assert received[0] == b"before" and received[-1] == b"after"
        assert b"begin" + b"end" not in received


async def test_a_board_that_never_lets_itself_be_subscribed_to_costs_its_own_attempts():
    """For the link, a peripheral without our service or one that does not answer is one that cannot be connected to."""
    async with gateway() as home:
        home.radio.board(LAMP, refuses=True)
        home.radio.boards[LOCK] = None  # never answers
        home.radio.boards.pop(LOCK)
        oven = home.radio.board(OVEN)
        await home.wanted(LAMP, LOCK, for_s=60)
        attempts = [address for _, address in home.radio.began]
        assert 4 <= attempts.count(LAMP) <= 10 and 3 <= attempts.count(LOCK) <= 8
        assert home.counters["gatt_not_connected"] >= len(attempts) - 1
        await home.wanted(OVEN, for_s=10)
        assert oven.connections == 1


async def test_a_board_that_connects_ten_times_a_second_is_connected_to_ever_more_rarely():
    async with gateway() as home:
        lamp, lock = home.radio.board(LAMP, connect_s=0.01), home.radio.board(LOCK)
        for _ in range(1200):
            home.link.advertised(LAMP, True)
            if lamp.is_connected:
                lamp.leave()
            await asyncio.sleep(0.1)
        times = [time for time, _ in home.radio.began]
        assert min(later - earlier for earlier, later in itertools.pairwise(times)) >= tuning.GATT_AGAIN_S
        assert len(times) <= 5 + 120 / tuning.GATT_AGAIN_MAX_S + 1
        home.link.advertised(LOCK, True)
        await asyncio.sleep(2)
        assert lock.is_connected
        await asyncio.sleep(tuning.GATT_AGAIN_MAX_S)
        assert lamp.connections > len(times), "it is not locked out for good"


# Attackers with any number of addresses


def addresses(count, prefix="E0"):
    return [f"{prefix}:00:00:00:{number // 256:02X}:{number % 256:02X}" for number in range(count)]


@pytest.mark.req("SEC-21", "SEC-35")
async def test_strangers_without_number_keep_no_known_board_out():
    async with gateway(connections_max=3) as home:
        for address in addresses(500):
            home.radio.board(address)
        lamp = home.radio.board(LAMP)
        home.link.prefer(await home.link.find(f"gatt:{LAMP}"))
        await home.wanted(*addresses(500), for_s=30)
        assert len(home.link._choice) <= tuning.GATT_STRANGERS_MAX + 1, "memory is bounded"
        assert len(home.radio.connected) == 2, "one place is not for strangers"
        began = len(home.radio.began)
        await home.wanted(LAMP, *addresses(500), for_s=1)
        assert lamp.is_connected
        assert began <= 4 + 30 * tuning.GATT_CONNECTS_STRANGERS[0]


@pytest.mark.req("SEC-21", "SEC-35")
async def test_strangers_delay_a_new_board_but_do_not_keep_it_out():
    async with gateway(connections_max=3) as home:
        hostile = addresses(20)
        for address in hostile:
            home.radio.board(address, connect_s=0.1)
        lamp = home.radio.board(LAMP)
        for _ in range(300):
            await home.wanted(LAMP, *hostile, for_s=2)
            if lamp.connections:
                break
        assert lamp.connections, "in ten minutes of an attack it gets its turn"
        assert lamp.is_connected
        await home.wanted(*hostile, for_s=tuning.GATT_STRANGER_S - 4)
        assert lamp.is_connected, "and has the time for a handshake"


async def test_boards_that_are_always_busy_leave_room_for_others():
    async with gateway(connections_max=1) as home:
        lamp, lock = home.radio.board(LAMP), home.radio.board(LOCK)
        await home.send(LOCK, b"hello")
        until = tuning.GATT_HOLD_S + 10
        home.link.advertised(LAMP, True)
        await asyncio.sleep(1)
        for _ in range(int(until)):
            if not lamp.is_connected:
                break
            lamp.received(b"\x01busy")
            home.link.prefer(home.received[-1][1])
            home.link.advertised(LOCK, True)
            await asyncio.sleep(1)
        await asyncio.sleep(2)
        assert lock.connections == 1
