"""The Group Keys of one Service Group at a member: floors, reasons, activation, grace."""

from vmtest import raises, req

from cpns import key_ring, tuning
from cpns import numbers as n
from cpns.errors import MalformedMessage, NotAllowed, Stale

K1, K2, K3, K4, K5 = [bytes((i,)) * 16 for i in range(1, 6)]
NOW = 1000
UNIX = 1800000000
HOUR = 3600
DAY = 86400


def ring_at(version, floor=0):
    """A ring that holds K1 under `version`, stored at NOW."""
    ring = key_ring.KeyRing(n.PROTECTION_SEALED, floor)
    ring.install(version, K1, 0, n.REASON_CREATE, NOW)
    return ring


def version(epoch, counter):
    return epoch << 16 | counter


@req("SEC-04")
def test_without_a_floor_no_broadcast_is_accepted():
    ring = key_ring.KeyRing(n.PROTECTION_SEALED)
    with raises(NotAllowed):
        ring.install(6, K1, 0, n.REASON_CREATE, NOW, path=key_ring.BROADCAST)
    ring.raise_floor(5)
    assert ring.install(6, K1, 0, n.REASON_CREATE, NOW, path=key_ring.BROADCAST)
    assert ring.floor == 6


@req("SEC-04")
def test_recorded_v6_after_leave_at_v7_and_rejoin_at_v9_is_refused():
    ring = ring_at(6)
    ring.install(7, K2, 0, n.REASON_LEAVE, NOW)
    ring.wipe()
    assert ring.sending_key(NOW) is None and ring.receiving_keys(NOW) == {}
    ring.raise_floor(9)
    for path in (key_ring.BROADCAST, key_ring.UNICAST, key_ring.END_TO_END):
        with raises(Stale):
            ring.install(6, K1, 0, n.REASON_PERIODIC, NOW, path=path)
        with raises(Stale):
            ring.install(9, K1, 0, n.REASON_PERIODIC, NOW, path=path)
    assert ring.install(10, K3, 0, n.REASON_JOIN, NOW)


@req("SEC-04")
def test_the_floor_never_sinks():
    ring = ring_at(7)
    ring.raise_floor(3)
    assert ring.floor == 7
    ring.raise_floor(12)
    ring.wipe()
    ring = key_ring.KeyRing.load(ring.dump(NOW), 0)
    assert ring.floor == 12
    with raises(Stale):
        ring.install(12, K1, 0, n.REASON_PERIODIC, NOW)


@req("SEC-03")
def test_a_broadcast_may_not_jump_more_than_16_epochs():
    for path, epochs, taken in (
        (key_ring.BROADCAST, tuning.EPOCH_JUMP_MAX, True),
        (key_ring.BROADCAST, tuning.EPOCH_JUMP_MAX + 1, False),
        (key_ring.UNICAST, 0xFFFE, True),
    ):
        ring = ring_at(version(1, 9))
        if taken:
            assert ring.install(version(1 + epochs, 0), K2, 0, n.REASON_PERIODIC, NOW, path=path)
        else:
            with raises(NotAllowed):
                ring.install(version(1 + epochs, 0), K2, 0, n.REASON_PERIODIC, NOW, path=path)
            assert ring.floor == version(1, 9)


@req("SEC-03")
def test_the_epoch_counts_more_than_the_counter():
    ring = ring_at(version(2, 0))
    with raises(Stale):
        ring.install(version(1, 0xFFFF), K2, 0, n.REASON_PERIODIC, NOW)


@req("SEC-05")
def test_after_a_leave_the_new_key_is_active_at_once_and_the_old_one_is_read_30_s_and_never_sent_with():
    ring = ring_at(1)
    ring.install(2, K2, UNIX + HOUR, n.REASON_LEAVE, NOW, UNIX)  # whatever activation the request names
    assert ring.sending_key(NOW) == (2, K2)
    assert ring.receiving_keys(NOW + tuning.GRACE_AFTER_LEAVE_S - 1) == {1: K1, 2: K2}
    assert ring.receiving_keys(NOW + tuning.GRACE_AFTER_LEAVE_S) == {2: K2}
    assert ring.sending_key(NOW + DAY) == (2, K2)


@req("SEC-05")
def test_a_policy_may_shorten_the_grace_after_a_leave_to_nothing_and_never_stretch_it():
    for wanted, granted in ((0, 0), (-1, 0), (5, 5), (3600, tuning.GRACE_AFTER_LEAVE_S)):
        ring = ring_at(1)
        ring.limit_grace(wanted)
        ring.install(2, K2, 0, n.REASON_LEAVE, NOW)
        if granted:
            assert ring.receiving_keys(NOW + granted - 1) == {1: K1, 2: K2}
        assert ring.receiving_keys(NOW + granted) == {2: K2}


@req("SEC-05")
def test_a_leave_also_ends_keys_that_lay_ahead_and_grace_that_ran():
    ring = ring_at(1)
    ring.install(2, K2, 0, n.REASON_PERIODIC, NOW)  # K1 is in grace for an hour
    ring.install(3, K3, UNIX + HOUR, n.REASON_PERIODIC, NOW + 10, UNIX)  # K3 lies ahead; the leaver knows it
    ring.install(4, K4, 0, n.REASON_LEAVE, NOW + 20, UNIX)
    assert ring.receiving_keys(NOW + 49) == {2: K2, 3: K3, 4: K4}
    assert ring.receiving_keys(NOW + 50) == {4: K4}
    for later in (NOW + 20, NOW + 2 * HOUR, NOW + 2 * DAY):
        assert ring.sending_key(later) == (4, K4)


@req("SEC-05")
def test_a_leave_does_not_lengthen_grace():
    ring = ring_at(1)
    ring.install(2, K2, 0, n.REASON_LEAVE, NOW)
    ring.install(3, K3, 0, n.REASON_LEAVE, NOW + 20)
    assert ring.receiving_keys(NOW + 30) == {2: K2, 3: K3}


@req("SEC-05")
def test_a_periodic_key_may_lie_ahead_and_the_old_one_is_read_for_an_hour_after():
    for reason in (n.REASON_PERIODIC, n.REASON_JOIN):
        ring = ring_at(1)
        ring.install(2, K2, UNIX + 60, reason, NOW, UNIX)
        assert ring.sending_key(NOW + 59) == (1, K1)
        assert ring.receiving_keys(NOW + 59) == {1: K1, 2: K2}  # another member's clock may be ahead of ours
        assert ring.sending_key(NOW + 60) == (2, K2)
        assert ring.receiving_keys(NOW + 60 + HOUR - 1) == {1: K1, 2: K2}
        assert ring.receiving_keys(NOW + 60 + HOUR) == {2: K2}


@req("SEC-05")
def test_activation_lies_at_most_a_day_ahead_whatever_the_clocks_say():
    """The PN GW's clock at 1970 or at 2038, ours at another year: no key waits longer than a day."""
    for activation, clock in ((0xFFFFFFFF, UNIX), (UNIX, 1), (1, UNIX), (0x7FFFFFFF, 3600)):
        ring = ring_at(1)
        ring.install(2, K2, activation, n.REASON_PERIODIC, NOW, clock)
        assert ring.sending_key(NOW + DAY) == (2, K2)
        assert ring.receiving_keys(NOW + DAY + HOUR) == {2: K2}


@req("SEC-05")
def test_without_activation_or_time_a_key_is_active_when_stored():
    for activation, clock in ((0, UNIX), (UNIX + HOUR, 0), (UNIX - HOUR, UNIX)):
        ring = ring_at(1)
        ring.install(2, K2, activation, n.REASON_PERIODIC, NOW, clock)
        assert ring.sending_key(NOW) == (2, K2)


@req("SEAL-GMK-09")
def test_of_several_active_keys_the_one_activated_last_is_sent_with():
    ring = ring_at(1)
    ring.install(2, K2, UNIX + 100, n.REASON_PERIODIC, NOW, UNIX)
    ring.install(3, K3, UNIX + 50, n.REASON_PERIODIC, NOW, UNIX)
    assert [ring.sending_key(NOW + at)[0] for at in (49, 50, 99, 100)] == [1, 3, 3, 2]
    ring = ring_at(1)  # both at the same moment: the newer version
    ring.install(2, K2, 0, n.REASON_PERIODIC, NOW)
    assert ring.sending_key(NOW) == (2, K2)


@req("SEC-05")
def test_a_key_made_for_a_newcomer_is_not_relieved_by_an_older_one_that_lay_ahead():
    ring = ring_at(1)
    ring.install(2, K2, UNIX + 30, n.REASON_PERIODIC, NOW, UNIX)
    ring.install(3, K3, 0, n.REASON_JOIN, NOW + 10, UNIX + 10)
    assert [ring.sending_key(NOW + at)[0] for at in (10, 30, 2 * HOUR)] == [3, 3, 3]
    ring = ring_at(1)
    ring.install(2, K2, UNIX + 30, n.REASON_PERIODIC, NOW, UNIX)
    ring.install(3, K3, 0, n.REASON_JOIN, NOW + 10, UNIX + 10)
    again = key_ring.KeyRing.load(ring.dump(NOW + 10), 0, UNIX + 20)
    assert [again.sending_key(at)[0] for at in (0, 10, 2 * HOUR)] == [3, 3, 3]


@req("SEC-11")
def test_the_same_key_again_is_no_news_and_another_key_under_its_version_is_refused():
    ring = ring_at(1)
    before = ring.dump(NOW)
    for path in (key_ring.BROADCAST, key_ring.UNICAST):
        assert ring.admit(1, path) is False
        assert ring.install(1, K1, 0, n.REASON_LEAVE, NOW + 5, path=path) is False
    assert ring.conflicts == 0
    with raises(Stale):
        ring.install(1, K2, 0, n.REASON_LEAVE, NOW + 5)
    assert ring.conflicts == 1
    assert ring.dump(NOW) == before and ring.sending_key(NOW) == (1, K1)


@req("SEC-05", "SEC-11")
def test_a_key_whose_grace_is_over_is_stale_not_a_repeat():
    ring = ring_at(1)
    ring.install(2, K2, 0, n.REASON_LEAVE, NOW)
    with raises(Stale):
        ring.install(1, K1, 0, n.REASON_LEAVE, NOW + 31)
    assert ring.versions == [2]


@req("SEC-26")
def test_an_end_to_end_group_takes_no_1_0_key_again():
    ring = key_ring.KeyRing(n.PROTECTION_SEALED, 0)
    ring.install(1, K1, 0, n.REASON_CREATE, NOW, path=key_ring.END_TO_END)
    ring = key_ring.KeyRing.load(ring.dump(NOW), 0)
    for path in (key_ring.UNICAST, key_ring.BROADCAST):
        with raises(NotAllowed):
            ring.admit(2, path)
        with raises(NotAllowed):
            ring.install(2, K2, 0, n.REASON_PERIODIC, NOW, path=path)
    ring.wipe()
    with raises(NotAllowed):
        ring.install(2, K2, 0, n.REASON_PERIODIC, NOW)
    assert ring.install(2, K2, 0, n.REASON_PERIODIC, NOW, path=key_ring.END_TO_END)


@req("SEC-05")
def test_after_a_reboot_grace_is_over():
    ring = ring_at(1)
    ring.install(2, K2, 0, n.REASON_PERIODIC, NOW)
    assert ring.receiving_keys(NOW + 1) == {1: K1, 2: K2}
    for clock in (0, UNIX):
        assert key_ring.KeyRing.load(ring.dump(NOW + 1), 5, clock).receiving_keys(5) == {2: K2}


@req("SEC-05", "SEC-24")
def test_a_reboot_keeps_floor_protection_and_what_lies_ahead():
    ring = ring_at(1)
    ring.install(2, K2, UNIX + HOUR, n.REASON_PERIODIC, NOW, UNIX)
    stored = ring.dump(NOW)
    ring = key_ring.KeyRing.load(stored, 5, UNIX + 600)
    assert (ring.floor, ring.protection, ring.versions) == (2, n.PROTECTION_SEALED, [1, 2])
    assert ring.sending_key(5 + 2999) == (1, K1)
    assert ring.sending_key(5 + 3000) == (2, K2)
    ring = key_ring.KeyRing.load(stored, 5, UNIX + 2 * DAY)  # the activation passed while the board was off
    assert ring.receiving_keys(5) == {2: K2}


@req("SEC-05")
def test_after_a_reboot_without_time_the_newest_key_is_active_and_the_one_before_is_read_for_an_hour():
    ring = ring_at(1)
    ring.install(2, K2, UNIX + HOUR, n.REASON_PERIODIC, NOW, UNIX)
    ring = key_ring.KeyRing.load(ring.dump(NOW), 5)
    assert ring.sending_key(5) == (2, K2)
    assert ring.receiving_keys(5 + HOUR - 1) == {1: K1, 2: K2}
    assert ring.receiving_keys(5 + HOUR) == {2: K2}


def test_few_keys_are_kept_and_never_the_sending_one_given_up():
    ring = ring_at(1)
    for i, key in enumerate((K2, K3, K4, K5)):
        ring.install(2 + i, key, UNIX + HOUR + i, n.REASON_PERIODIC, NOW, UNIX)
    assert len(ring.versions) == tuning.KEYS_PER_RING
    assert ring.sending_key(NOW) == (1, K1) and ring.versions[-1] == 5


def test_a_key_has_16_octets():
    ring = ring_at(1)
    for size in (0, 15, 17, 24, 32):
        with raises(MalformedMessage):
            ring.install(2, bytes(size), 0, n.REASON_PERIODIC, NOW)
    assert ring.versions == [1]


def test_no_key_is_shown():
    shown = repr(ring_at(1))
    assert "versions=[1]" in shown and str(K1) not in shown and "x01" not in shown


def test_what_is_no_dump_is_refused():
    good = ring_at(1).dump(NOW)
    for data in (b"", good[:-1], b"\x01", b"\x80", b"\x84\x01\x00\xf4\x01", b"\x84\x01\x00\xf4\x81\x01"):
        with raises(MalformedMessage):
            key_ring.KeyRing.load(data, 0)
