"""Messages to a Service Group: their protection by the Group Key, and that each is opened once."""

from vmtest import raises, req

from cpns import group_message, tuning
from cpns import numbers as n
from cpns.crypto import ccm
from cpns.crypto.hkdf import hkdf
from cpns.crypto.hmac import h16
from cpns.errors import MalformedMessage, NotAddressed, NotAllowed, NotAuthentic, Stale, TooMany, Unknown

KEY = bytes(range(16))
OTHER_KEY = bytes(range(1, 17))
INC = b"inc-of-8"
AUTHENTICATED = group_message.Group("lamps", 0x01020304, 7, n.PROTECTION_AUTHENTICATED)
SEALED = group_message.Group("lamps", 0x01020304, 7, n.PROTECTION_SEALED)
BOTH = (AUTHENTICATED, SEALED)
TEXT = b"switch on"


def sender(group, sender_id="switch", version=5, inc=INC):
    made = group_message.Sender(group, sender_id)
    made.start(version, inc)
    made.reserved(made.reserve())
    return made


def opened(receiver, datagram, key=KEY, now=0, store=True):
    got = receiver.open(group_message.parse(datagram), {5: key}, now)
    if got.record and store:
        receiver.recorded(got.record, now)
    return got


@req("CPNS-GKM-51", "CPNS-GKM-53")
def test_every_member_opens_with_the_one_group_key_and_needs_no_session():
    for group in BOTH:
        datagram = sender(group).protect(5, KEY, TEXT)
        for member in ("lamp-1", "lamp-2"):
            got = opened(group_message.Receiver(group, member), datagram)
            assert (got.sender_id, got.version, got.message) == ("switch", 5, TEXT)


@req("CPNS-GKM-53", "CPNS-GKM-55")
def test_who_has_no_group_key_neither_opens_nor_makes_a_message():
    for group in BOTH:
        receiver = group_message.Receiver(group, "lamp")
        with raises(NotAuthentic):
            opened(receiver, sender(group).protect(5, OTHER_KEY, TEXT))  # made without the key
        with raises(NotAuthentic):
            opened(receiver, sender(group).protect(5, KEY, TEXT), OTHER_KEY)  # opened without the key
        assert opened(receiver, sender(group).protect(5, KEY, TEXT)).message == TEXT


@req("CPNS-GKM-54")
def test_the_mac_is_a_keyed_hash_under_a_key_of_the_group_key():
    datagram = sender(AUTHENTICATED).protect(5, KEY, TEXT)
    head = b"\x47\x01\x01\x02\x03\x04\x00\x07\x00\x00\x00\x05" + INC + bytes(4) + b"\x06switch"
    info = b"keycast/msg/1" + b"\x01" + b"\x05lamps" + b"\x00\x00\x00\x05" + b"\x06switch" + INC
    assert datagram == head + TEXT + h16(hkdf(KEY, info, 32), head, TEXT)


@req("CPNS-GKM-57", "Q-11")
def test_sealed_messages_are_encrypted_under_another_key_of_the_group_key():
    datagram = sender(SEALED).protect(5, KEY, TEXT)
    head = b"\x47\x02\x01\x02\x03\x04\x00\x07\x00\x00\x00\x05" + INC + bytes(4) + b"\x06switch"
    info = b"keycast/msg/1" + b"\x02" + b"\x05lamps" + b"\x00\x00\x00\x05" + b"\x06switch" + INC
    assert datagram == head + ccm.seal(hkdf(KEY, info, 16), bytes(13), head, TEXT)
    assert TEXT not in datagram


@req("CPNS-GKM-56")
def test_any_changed_octet_is_noticed():
    for group in BOTH:
        datagram = sender(group).protect(5, KEY, TEXT)
        receiver = group_message.Receiver(group, "lamp")
        for i in range(len(datagram)):
            changed = bytearray(datagram)
            changed[i] ^= 1
            with raises((MalformedMessage, NotAuthentic, NotAddressed, NotAllowed, Unknown)):
                opened(receiver, bytes(changed))
        for size in range(len(datagram)):
            with raises((MalformedMessage, NotAuthentic)):
                opened(receiver, datagram[:size])
        assert opened(receiver, datagram).message == TEXT  # none of them moved the window


@req("SEC-24", "CPNS-GKM-53")
def test_keys_differ_by_group_sender_version_and_inc():
    """Two groups with one Group Key, two senders, a re-used number under a new inc: no key twice."""
    datagram = sender(SEALED).protect(5, KEY, bytes(32))
    bodies = {bytes(group_message.parse(datagram).body)}
    doors = group_message.Group("doors", 0x01020304, 7, n.PROTECTION_SEALED)
    for other in (
        sender(doors).protect(5, KEY, bytes(32)),
        sender(SEALED, sender_id="button").protect(5, KEY, bytes(32)),
        sender(SEALED, version=6).protect(6, KEY, bytes(32)),
        sender(SEALED, inc=b"another!").protect(5, KEY, bytes(32)),
    ):
        bodies.add(bytes(group_message.parse(other).body))
    assert len(bodies) == 5


@req("SEC-24")
def test_the_other_protection_is_refused():
    for group, other in ((AUTHENTICATED, SEALED), (SEALED, AUTHENTICATED)):
        with raises(NotAllowed):
            opened(group_message.Receiver(group, "lamp"), sender(other).protect(5, KEY, TEXT))


@req("SEC-24")
def test_each_message_is_opened_once_in_any_order_within_the_window():
    for group in BOTH:
        source = sender(group)
        datagrams = [source.protect(5, KEY, bytes((i,))) for i in range(40)]
        receiver = group_message.Receiver(group, "lamp")
        for i in (3, 1, 0, 2, 33, 5, 34, 30, 4):
            assert opened(receiver, datagrams[i]).message == bytes((i,))
        for i in (0, 1, 2, 3, 4, 5, 30, 33, 34):
            with raises(Stale):
                opened(receiver, datagrams[i])
        assert opened(receiver, datagrams[39]).message == b"\x27"
        with raises(Stale):
            opened(receiver, datagrams[7])  # never seen, but 32 below the newest: it cannot be told from a copy
        assert opened(receiver, datagrams[8]).message == b"\x08"


@req("SEC-24")
def test_a_reboot_of_the_receiver_opens_nothing_again():
    source = sender(SEALED)
    datagrams = [source.protect(5, KEY, TEXT) for _ in range(5)]
    receiver = group_message.Receiver(SEALED, "lamp")
    stored = [opened(receiver, datagram, now=20 * i).record for i, datagram in enumerate(datagrams[:3])]
    receiver = group_message.Receiver(SEALED, "lamp")
    receiver.restore(stored[-1])
    for datagram in datagrams[:3]:
        with raises(Stale):
            opened(receiver, datagram)
    assert opened(receiver, datagrams[3]).message == TEXT


@req("SEC-24")
def test_the_number_is_stored_before_the_message_goes_up_one_by_one_or_in_steps_of_16():
    source = sender(SEALED)
    receiver = group_message.Receiver(SEALED, "lamp")
    slow = [opened(receiver, source.protect(5, KEY, TEXT), now=10 * i).record for i in range(3)]
    assert [record[3] for record in slow] == [0, 1, 2]
    fast = [opened(receiver, source.protect(5, KEY, TEXT), now=21).record for i in range(17)]
    assert [record and record[3] for record in fast] == [18] + [None] * 15 + [34]
    again = opened(receiver, source.protect(5, KEY, TEXT), now=60, store=False)
    assert again.record is None
    for _ in range(15):
        source.protect(5, KEY, TEXT)
    unstored = opened(receiver, source.protect(5, KEY, TEXT), now=60, store=False)
    assert opened(receiver, source.protect(5, KEY, TEXT), now=60).record[3] == unstored.record[3] + 1


def forge(receiver, group, number, sender_id="switch"):
    """A member with the Group Key speaks in the name of another, under an inc of its own each time."""
    return opened(receiver, sender(group, sender_id, inc=b"f" + number.to_bytes(7, "big")).protect(5, KEY, b"forged"))


@req("SEC-24")
def test_forged_incs_keep_the_true_sender_from_nothing_whether_it_spoke_before_or_not():
    for group in BOTH:
        for spoke in (True, False):
            receiver = group_message.Receiver(group, "lamp", states_max=8)
            true = sender(group)
            said = [true.protect(5, KEY, TEXT)] if spoke else []
            for datagram in said:
                opened(receiver, datagram)
            for number in range(200):
                forge(receiver, group, number)
                if number % 10 == 0:
                    said.append(true.protect(5, KEY, TEXT))
                    assert opened(receiver, said[-1]).message == TEXT
                assert len(receiver.records()) <= tuning.INC_PER_SENDER_MAX
            for datagram in said:
                with raises(Stale):
                    opened(receiver, datagram)
            assert len(receiver.evicted) <= 12 * tuning.EVICTED_MAX


@req("SEC-24")
def test_forged_names_keep_the_true_sender_from_nothing_and_states_are_bounded():
    for group in BOTH:
        receiver = group_message.Receiver(group, "lamp", states_max=4)
        for number in range(10):
            forge(receiver, group, number, "nobody-%d" % number)
        true = sender(group)
        said = []
        for number in range(10, 50):
            said.append(true.protect(5, KEY, TEXT))
            got = opened(receiver, said[-1])
            assert (got.message, got.replayable) == (TEXT, False)
            forge(receiver, group, number, "nobody-%d" % number)
            assert len(receiver.records()) <= 4
        for datagram in said:
            with raises(Stale):
                opened(receiver, datagram)


@req("SEC-24")
def test_a_state_that_made_room_goes_on_above_its_highest_number():
    receiver = group_message.Receiver(SEALED, "lamp")
    incs = [sender(SEALED, inc=b"inc----" + bytes((48 + i,))) for i in range(tuning.INC_PER_SENDER_MAX + 1)]
    datagrams = [[source.protect(5, KEY, TEXT) for _ in range(40)] for source in incs]
    for of in datagrams:
        opened(receiver, of[20])
    for of in datagrams[-2], datagrams[-1]:  # each makes room for the other
        with raises(Stale):
            opened(receiver, of[20])
        with raises(Stale):
            opened(receiver, of[3])  # cannot be told from a copy
        assert opened(receiver, of[21]).replayable is False
    with raises(Stale):
        opened(receiver, datagrams[-2][21])
    after = group_message.Receiver(SEALED, "lamp")
    for record in receiver.records():
        after.restore(record)
    after.evicted = receiver.evicted
    for of in datagrams:
        with raises(Stale):
            opened(after, of[20])


@req("SEC-24")
def test_when_too_many_states_made_room_what_follows_is_flagged_and_heard():
    receiver = group_message.Receiver(SEALED, "lamp")
    said = [forge(receiver, SEALED, number) for number in range(tuning.INC_PER_SENDER_MAX + tuning.EVICTED_MAX)]
    assert [got.replayable for got in said].count(True) == 0 and receiver.lost_version == 0
    assert forge(receiver, SEALED, 1000).replayable is True and receiver.lost_version == 5
    got = opened(receiver, sender(SEALED, inc=b"the true").protect(5, KEY, TEXT))
    assert (got.message, got.replayable) == (TEXT, True)
    later = sender(SEALED, version=6, inc=b"the true").protect(6, OTHER_KEY, TEXT)
    assert receiver.open(group_message.parse(later), {6: OTHER_KEY}, 0).replayable is False
    assert receiver.evicted == b""  # with its key all of it goes


@req("SEC-24")
def test_who_has_no_group_key_moves_no_state():
    receiver = group_message.Receiver(SEALED, "lamp")
    for number in range(4):
        forge(receiver, SEALED, number)
    records = receiver.records()
    for number in range(50):
        with raises(NotAuthentic):
            opened(receiver, sender(SEALED, inc=b"o" + number.to_bytes(7, "big")).protect(5, OTHER_KEY, TEXT))
    assert (receiver.records(), receiver.evicted) == (records, b"")


@req("SEC-24")
def test_messages_of_a_version_whose_windows_were_lost_are_flagged():
    for lost, flagged in ((0, False), (4, False), (5, True), (9, True)):
        receiver = group_message.Receiver(SEALED, "lamp", lost_version=lost)
        assert opened(receiver, sender(SEALED).protect(5, KEY, TEXT)).replayable is flagged


@req("SEC-22")
def test_a_number_is_used_only_below_a_stored_ceiling_and_never_twice():
    source = group_message.Sender(SEALED, "switch")
    source.start(5, INC)
    with raises(RuntimeError):
        source.protect(5, KEY, TEXT)
    record = source.reserve()
    assert record == (5, INC, tuning.SEQUENCE_STEP)
    with raises(RuntimeError):
        source.protect(5, KEY, TEXT)  # asked for, but not stored
    source.reserved(record)
    numbers = [group_message.parse(source.protect(5, KEY, TEXT)).sequence for _ in range(tuning.SEQUENCE_STEP)]
    assert numbers == list(range(tuning.SEQUENCE_STEP)) and source.must_reserve()
    with raises(RuntimeError):
        source.protect(5, KEY, TEXT)
    after_reboot = group_message.Sender(SEALED, "switch")
    after_reboot.resume(record)
    assert after_reboot.must_reserve()
    after_reboot.reserved(after_reboot.reserve())
    assert group_message.parse(after_reboot.protect(5, KEY, TEXT)).sequence == tuning.SEQUENCE_STEP


def test_reservations_are_checked_and_end():
    source = sender(SEALED)
    with raises(ValueError):
        source.reserved((5, INC, 1 << 31))
    with raises(RuntimeError):
        source.protect(6, OTHER_KEY, TEXT)  # a new version starts anew, with an inc of its own
    source.resume((5, INC, 0xFFFFFFFF))
    with raises(TooMany):
        source.reserve()


def test_own_and_foreign_messages_are_not_for_us():
    datagram = sender(SEALED).protect(5, KEY, TEXT)
    for receiver in (
        group_message.Receiver(SEALED, "switch"),
        group_message.Receiver(group_message.Group("lamps", 9, 7, n.PROTECTION_SEALED), "lamp"),
        group_message.Receiver(group_message.Group("lamps", 0x01020304, 8, n.PROTECTION_SEALED), "lamp"),
    ):
        with raises(NotAddressed):
            opened(receiver, datagram)


@req("SEC-13")
def test_an_unknown_version_is_told_apart_as_a_hint_to_pull():
    receiver = group_message.Receiver(SEALED, "lamp")
    with raises(Unknown):
        receiver.open(group_message.parse(sender(SEALED, version=6).protect(6, KEY, TEXT)), {5: KEY}, 0)


def test_lengths_are_bounded():
    for group in BOTH:
        longest = bytes(tuning.GROUP_MESSAGE_MAX)
        assert opened(group_message.Receiver(group, "lamp"), sender(group).protect(5, KEY, longest)).message == longest
        assert opened(group_message.Receiver(group, "lamp"), sender(group).protect(5, KEY, b"")).message == b""
        with raises(MalformedMessage):
            sender(group).protect(5, KEY, longest + b"\0")
        with raises(MalformedMessage):
            group_message.parse(sender(group).protect(5, KEY, longest) + b"\0")
        head = sender(group).protect(5, KEY, TEXT)[:24]
        for tail in (b"\0" + bytes(30), b"\x41" + b"x" * 65 + bytes(30), b"\x02\xff\xff" + bytes(30), b"\x05swi"):
            with raises(MalformedMessage):
                group_message.parse(head + tail)
