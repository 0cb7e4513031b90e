"""Floods, rates, the half-open table, the shape of datagrams, blocks: pure parts with a clock of the test's own."""

import random

import pytest

from cpns import tuning as cpns_tuning
from cpns.errors import MalformedMessage, TooMany
from message_plane import blockwise, tuning
from message_plane.datagram import check_datagram
from message_plane.flood import FloodGuard, Verdict
from message_plane.half_open import HalfOpen
from message_plane.links.link import DATAGRAM_MIN
from message_plane.links.udp import UdpAddress, UdpLink
from message_plane.rate import Bucket, Buckets

MOST = cpns_tuning.UPLINK_MESSAGE_MAX


def at(host, port=5683):
    """An address that no socket has to reach."""
    return UdpAddress(UdpLink([]), None, (host, port))


class Responder:
    def __init__(self, c_r):
        self.c_r = c_r


@pytest.fixture
def guard():
    return FloodGuard(bytes(range(32)))


def test_a_bucket_gives_its_burst_and_then_its_rate():
    bucket = Bucket(2.0, 3)
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(100.5) for _ in range(2)] == [True, False]
    assert not bucket.take(50.0), "a clock that goes back gives nothing"


def test_only_so_many_buckets_are_remembered():
    buckets = Buckets(1.0, 1, size=2)
    assert buckets.take("a", 0.0) and buckets.take("b", 0.0) and not buckets.take("a", 0.0)
    assert buckets.take("c", 0.0)
    assert not buckets.take("a", 0.0), "a was used last before c"
    assert buckets.take("b", 0.0), "b was idle longest and is new again"


@pytest.mark.req("SEC-21")
def test_above_ten_handshakes_a_second_everybody_is_asked_for_echo_first(guard):
    verdicts = [guard.judge(at(f"10.0.0.{n}"), None, False, 1000.0) for n in range(30)]
    assert verdicts[:10] == [Verdict.PROCEED] * 10
    assert verdicts[10:] == [Verdict.CHALLENGE] * 20
    assert guard.judge(at("10.0.1.1"), None, False, 1001.0) is Verdict.PROCEED


@pytest.mark.req("SEC-21")
def test_one_address_gets_one_handshake_a_second(guard):
    verdicts = []
    for step in range(100):
        now = 1000 + step / 10
        echo = guard.echo(at("10.0.0.1"), now)
        verdicts.append(guard.judge(at("10.0.0.1"), echo, False, now))
    burst = tuning.HANDSHAKES_PER_ADDRESS[1]
    assert 9 <= verdicts.count(Verdict.PROCEED) - burst <= 11
    assert set(verdicts) == {Verdict.PROCEED, Verdict.REFUSE}


@pytest.mark.req("SEC-21")
def test_the_ports_of_one_host_have_one_limit(guard):
    """A sender has as many of them as it likes, and gets answers at all of them."""
    table, burst = HalfOpen(), tuning.HANDSHAKES_PER_ADDRESS[1]
    ports = [at("10.0.0.1", 40_000 + n) for n in range(tuning.HALF_OPEN_PER_ADDRESS + 1)]
    verdicts = [guard.judge(port, guard.echo(port, 1000.0), False, 1000.0) for port in ports]
    assert verdicts == [Verdict.PROCEED] * burst + [Verdict.REFUSE] * (len(ports) - burst)
    for n, port in enumerate(ports):
        table.add(Responder(bytes([0, 0, n])), port, 1000.0, proven=True)
    assert len(table) == tuning.HALF_OPEN_PER_ADDRESS and table.take(b"\0\0\0", ports[0]) is None
    guard.punish(ports[0], 1000.0)
    assert guard.judge(at("10.0.0.1", 50_000), None, False, 1030.0) is Verdict.REFUSE


@pytest.mark.req("SEC-21")
def test_one_address_that_proves_nothing_gets_one_handshake_a_second_too(guard):
    verdicts = [guard.judge(at("10.0.0.1"), None, False, 1000 + step / 10) for step in range(100)]
    burst = tuning.HANDSHAKES_PER_ADDRESS[1]
    assert 9 <= verdicts.count(Verdict.PROCEED) - burst <= 11
    assert set(verdicts) == {Verdict.PROCEED, Verdict.CHALLENGE}


@pytest.mark.req("SEC-21")
def test_a_forged_address_does_not_use_up_the_limit_of_the_one_it_names(guard):
    for step in range(50):
        guard.judge(at("10.0.0.1", 4000 + step), None, False, 1000.0)
    echo = guard.echo(at("10.0.0.1"), 1000.0)
    assert guard.judge(at("10.0.0.1"), echo, False, 1000.0) is Verdict.PROCEED


@pytest.mark.req("SEC-21")
def test_an_echo_value_is_good_for_its_address_and_its_time_only(guard):
    echo = guard.echo(at("10.0.0.1"), 1000.0)
    crowded = True
    assert guard.judge(at("10.0.0.2"), echo, crowded, 1000.0) is Verdict.CHALLENGE
    assert guard.judge(at("10.0.0.1", 5684), echo, crowded, 1000.0) is Verdict.CHALLENGE
    assert guard.judge(at("10.0.0.1"), echo, crowded, 1001.0 + tuning.ECHO_LIFE_S) is Verdict.CHALLENGE
    assert guard.judge(at("10.0.0.1"), echo, crowded, 990.0) is Verdict.CHALLENGE
    for damaged in (b"", echo[:-1], echo + b"\0", bytes(len(echo))):
        assert guard.judge(at("10.0.0.1"), damaged, crowded, 1000.0) is Verdict.CHALLENGE
    assert FloodGuard(bytes(32)).judge(at("10.0.0.1"), echo, crowded, 1000.0) is Verdict.CHALLENGE
    assert guard.judge(at("10.0.0.1"), echo, crowded, 1000.0) is Verdict.PROCEED


def test_an_address_whose_octets_broke_the_library_waits_a_minute(guard):
    guard.punish(at("10.0.0.1"), 1000.0)
    echo = guard.echo(at("10.0.0.1"), 1000.0)
    assert guard.judge(at("10.0.0.1"), echo, False, 1000.0) is Verdict.REFUSE
    assert guard.judge(at("10.0.0.2"), None, False, 1000.0) is Verdict.PROCEED
    assert guard.judge(at("10.0.0.1"), None, False, 1000.1 + tuning.PENALTY_S) is Verdict.PROCEED


@pytest.mark.req("SEC-21", "SEC-35")
def test_half_open_handshakes_are_few_short_lived_and_bound_to_their_address():
    table = HalfOpen()
    for n in range(tuning.HALF_OPEN_PER_ADDRESS):
        table.add(Responder(bytes([0, 0, n])), at("10.0.0.1"), 1000.0, proven=True)
    for n in range(tuning.HALF_OPEN_MAX - tuning.HALF_OPEN_PER_ADDRESS):
        table.add(Responder(b"\1" + n.to_bytes(2, "big")), at(f"10.1.{n >> 8}.{n & 255}"), 1001.0, proven=True)
    assert table.crowded and len(table) == tuning.HALF_OPEN_MAX
    assert table.take(b"\0\0\0", at("10.0.0.2")) is None
    assert table.take(b"\0\0\0", at("10.0.0.1", 5684)) is None
    assert table.take(b"\0\0\0", at("10.0.0.1")).c_r == b"\0\0\0"
    assert table.take(b"\0\0\0", at("10.0.0.1")) is None, "one try"
    assert table.expire(1000.0 + tuning.HALF_OPEN_S) == tuning.HALF_OPEN_PER_ADDRESS - 1
    assert table.expire(1001.0 + tuning.HALF_OPEN_S) == tuning.HALF_OPEN_MAX - tuning.HALF_OPEN_PER_ADDRESS
    assert len(table) == 0 and not table.crowded
    assert not table._per_sender, "no address is remembered that has none"


@pytest.mark.req("SEC-21", "SEC-35")
def test_whoever_has_many_addresses_keeps_nobody_out_for_longer_than_a_board_needs():
    """All of them are shown, at the most handshakes a second that are computed, and none is ever gone on with."""
    table, board_needs_s = HalfOpen(), 5
    begun = tuning.HALF_OPEN_MAX
    for n in range(begun):
        table.add(Responder(b"\1" + n.to_bytes(2, "big")), at(f"10.1.{n >> 8}.{n & 255}"), 1000.0, proven=True)
    table.add(Responder(b"\0\0\0"), at("10.0.0.1"), 1000.0, proven=True)
    for n in range(begun, begun + int(tuning.HANDSHAKES_MAX[0]) * board_needs_s):
        table.add(Responder(b"\1" + n.to_bytes(2, "big")), at(f"10.1.{n >> 8}.{n & 255}"), 1000.0, proven=True)
        assert len(table) == tuning.HALF_OPEN_MAX
    assert table.take(b"\0\0\0", at("10.0.0.1")).c_r == b"\0\0\0"
    for n in range(2 * tuning.HALF_OPEN_PER_ADDRESS):  # one address displaces its own only
        table.add(Responder(b"\2\0" + bytes([n])), at("10.0.0.2"), 1000.0, proven=True)
    assert table.take(b"\2\0\0", at("10.0.0.2")) is None and len(table) == tuning.HALF_OPEN_MAX


@pytest.mark.req("SEC-21", "SEC-35")
def test_half_open_handshakes_of_forged_addresses_share_one_small_pool():
    table = HalfOpen()
    for n in range(3 * tuning.HALF_OPEN_UNPROVEN):
        table.add(Responder(b"\1" + n.to_bytes(2, "big")), at("10.0.0.1"), 1000.0, proven=False)
        assert len(table) == min(n + 1, tuning.HALF_OPEN_UNPROVEN)
        assert table.crowded == (n + 1 >= tuning.HALF_OPEN_UNPROVEN // 4)
    assert table.take(b"\1\0\0", at("10.0.0.1")) is None, "the oldest gave way"
    newest = b"\1" + (3 * tuning.HALF_OPEN_UNPROVEN - 1).to_bytes(2, "big")
    assert table.take(newest, at("10.0.0.1")).c_r == newest
    table.add(Responder(b"\0\0\0"), at("10.0.0.1"), 1001.0, proven=True)
    for n in range(3 * tuning.HALF_OPEN_UNPROVEN):
        table.add(Responder(b"\2" + n.to_bytes(2, "big")), at("10.0.0.1"), 1001.0, proven=False)
    assert table.take(b"\0\0\0", at("10.0.0.1")).c_r == b"\0\0\0", "a proven one gives way to none of them"
    assert table.expire(1001.0 + tuning.HALF_OPEN_S) == tuning.HALF_OPEN_UNPROVEN and len(table) == 0


@pytest.mark.req("SEC-21", "SEC-35")
def test_octets_that_broke_the_library_from_a_forged_address_cost_it_one_more_round_trip(guard):
    guard.punish(at("10.0.0.1"), 1000.0, proven=False)
    for host in ("10.0.0.1", "10.0.0.2"):
        assert guard.judge(at(host), None, False, 1001.0) is Verdict.CHALLENGE
        assert guard.judge(at(host), guard.echo(at(host), 1001.0), False, 1001.0) is Verdict.PROCEED
        assert guard.judge(at(host), None, False, 1000.0 + tuning.PENALTY_S) is Verdict.PROCEED


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x40\x01\x00",
        b"\x80\x01\x00\x00",
        b"\x49\x01\x00\x00" + bytes(9),
        b"\x44\x01\x00\x00\x01\x02\x03",
        b"\x40\x01\x00\x00\xff",
        b"\x40\x01\x00\x00\xf1a",
        b"\x40\x01\x00\x00\x1f",
        b"\x40\x01\x00\x00\x15abcd",
        b"\x40\x01\x00\x00\xd1",
        b"\x40\x01\x00\x00\xe1\x00",
        b"\x40\x01\x00\x00" + b"\x00" * 17,
        b"\x40\x00\x00\x00\x00",
        b"\x40\x01\x00\x00\xff" + bytes(tuning.DATAGRAM_MAX),
    ],
)
def test_octets_that_are_no_coap_message_are_found_out_before_they_are_taken_apart(data):
    with pytest.raises(MalformedMessage):
        check_datagram(data)


def test_a_coap_message_with_long_options_and_a_payload_passes():
    check_datagram(b"\x40\x00\x12\x34")
    check_datagram(b"\x42\x02\x12\x34tk\xb4cpns\x11\x3c\xff\xa0")
    check_datagram(b"\x40\x02\x12\x34\xdd\x00\x00" + b"p" * 13 + b"\xee\x00\x00\x00\x01" + b"p" * 270)


def test_no_octets_make_the_shape_check_raise_anything_else():
    source = random.Random(7)
    for _ in range(5000):
        data = bytes([0x40 | source.randrange(10)]) + source.randbytes(source.randrange(60))
        try:
            check_datagram(data)
        except MalformedMessage:
            continue
        assert len(data) >= 4


SZX = tuning.BLOCK_EXPONENT_MAX
BLOCK = blockwise.block_size(SZX)


@pytest.mark.parametrize("exponent", [0, 3, SZX])
@pytest.mark.parametrize("length", [1, 1024, 1025, 2048, 100_000, MOST])
def test_a_message_cut_into_blocks_is_put_together_again(length, exponent):
    message = random.Random(length).randbytes(length)
    transfers = blockwise.Transfers()
    number, whole = 0, None
    while whole is None:
        piece, block = blockwise.cut(message, number, exponent)
        whole = transfers.collect(b"session", b"tag", block, piece, MOST, 10.0)
        assert (whole is None) == block.more
        number += 1
    assert whole == message


def test_blocks_out_of_order_or_of_another_transfer_are_refused():
    full = bytes(BLOCK)
    transfers = blockwise.Transfers()
    assert transfers.collect(b"s", b"t", blockwise.Block(0, True, SZX), full, MOST, 0.0) is None
    for session, tag, number, now in ((b"x", b"t", 1, 0.0), (b"s", b"x", 1, 0.0), (b"s", b"t", 2, 0.0)):
        with pytest.raises(MalformedMessage):
            transfers.collect(session, tag, blockwise.Block(number, True, SZX), full, MOST, now)
    with pytest.raises(MalformedMessage):
        transfers.collect(b"s", b"u", blockwise.Block(0, True, SZX), full[1:], MOST, 0.0)
    with pytest.raises(MalformedMessage):
        transfers.collect(b"s", b"u", blockwise.Block(0, False, SZX), full + b"x", MOST, 0.0)
    assert transfers.collect(b"s", b"late", blockwise.Block(0, True, SZX), full, MOST, 0.0) is None
    with pytest.raises(MalformedMessage):
        transfers.collect(b"s", b"late", blockwise.Block(1, True, SZX), full, MOST, 1.0 + tuning.BLOCKWISE_S)


def test_a_transfer_that_grows_too_long_is_refused():
    transfers = blockwise.Transfers()
    full = bytes(BLOCK)
    most = MOST // BLOCK
    for number in range(most):
        assert transfers.collect(b"s", b"t", blockwise.Block(number, True, SZX), full, MOST, 0.0) is None
    with pytest.raises(TooMany):
        transfers.collect(b"s", b"t", blockwise.Block(most, True, SZX), full, MOST, 0.0)


def test_a_peer_keeps_few_transfers_and_not_at_the_cost_of_another_peer():
    transfers = blockwise.Transfers()
    transfers.keep(b"other", b"t", b"o" * 2000, 0.0)
    for n in range(20):
        transfers.keep(b"s", bytes([n]), bytes(2000), 0.0)
    assert transfers.piece(b"other", b"t", 1, SZX, 0.0)[0] == b"o" * (2000 - BLOCK)
    with pytest.raises(MalformedMessage):
        transfers.piece(b"s", bytes([11]), 1, SZX, 0.0)
    assert len(transfers.piece(b"s", bytes([12]), 1, SZX, 0.0)[0]) == 2000 - BLOCK


@pytest.mark.parametrize(
    ("datagram_max", "octets"), [(8448, 1024), (1120, 1024), (1119, 512), (247, 128), (DATAGRAM_MIN, 32)]
)
def test_the_blocks_of_a_link_fit_into_its_datagrams(datagram_max, octets):
    assert blockwise.block_size(blockwise.exponent_for(datagram_max)) == octets


def test_a_block_larger_than_any_is_refused():
    with pytest.raises(MalformedMessage, match="at most 1024 octets"):
        blockwise.join(b"", blockwise.Block(0, True, SZX + 1), bytes(2 * BLOCK), MOST)


class Vouched(UdpAddress):
    """An address of a link that vouches for the sender of each datagram."""

    echo_proves = False


@pytest.mark.req("SEC-21", "SEC-35")
def test_an_address_that_its_link_vouches_for_is_asked_for_no_echo_and_has_the_limits_of_a_proven_one(guard):
    crowded = True
    first, other = (Vouched(None, None, (host, 5683)) for host in ("10.0.0.1", "10.0.0.2"))
    burst = tuning.HANDSHAKES_PER_ADDRESS[1]
    verdicts = [guard.judge(first, None, crowded, 1000.0) for _ in range(burst + 1)]
    assert verdicts == [Verdict.PROCEED] * burst + [Verdict.REFUSE]
    assert guard.judge(other, None, crowded, 1000.0) is Verdict.PROCEED
    assert guard.judge(at("10.0.0.2"), None, crowded, 1000.0) is Verdict.CHALLENGE
