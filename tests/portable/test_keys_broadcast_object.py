"""Signed broadcasts from the PN GW's cover to a member's Group Key, and everything a receiver must refuse first.

The signature here is a stand-in that both Pythons compute at once; with ES256 the same objects are tested in
tests/unit/test_keys_signed_objects.py.
"""

import gc
from hashlib import sha256

from vmtest import ON_VM, raises, req

from cpns import cborlite, messages, numbers
from cpns.broadcast_encryption.cover import cover
from cpns.broadcast_encryption.keys import TreeKeys
from cpns.broadcast_object import PROTECTED, Received, ReceivedDelete, parse, to_be_signed
from cpns.broadcast_object_build import build, build_delete, elements, entries
from cpns.errors import CpnsError, MalformedMessage, NotAddressed, NotAllowed, NotAuthentic, Stale, Unknown

TM = bytes(range(32))
GK = bytes(range(16, 32))
PN, SG = "pn.home", "sg.light"
PN_ALIAS, SG_ALIAS = 0xA1B2C3D4, 7
FLOOR, VERSION = 0x00010001, 0x00010002


def stand_in(signed, secret=b"PN GW"):
    return sha256(secret + signed).digest() * 2


def send(members, height=3, keys=None, secret=b"PN GW", **changes):
    """The datagrams by which the PN GW of PN brings GK to `members` of SG."""
    keys = keys or TreeKeys(TM, height)
    arguments = {
        "pn_id": PN,
        "sg_id": SG,
        "pn_alias": PN_ALIAS,
        "sg_alias": SG_ALIAS,
        "generation": 1,
        "version": VERSION,
        "activation": 0,
        "reason": numbers.REASON_LEAVE,
        "group_key": GK,
        "height": height,
        "subsets": cover(height, 2, members),
        "key_of": keys.subset_key,
    }
    arguments.update(changes)
    return [draft.finish(stand_in(draft.to_be_signed, secret)) for draft in build(**arguments)]


class Receiver:
    """A board as SEC-09 wants it: counts its signature checks, stores last."""

    def __init__(self, slot, height=3, generation=1, floor=FLOOR, held=None, pn=PN, sg=SG):
        self.record = TreeKeys(TM, height).record(2, generation, slot)
        self.floor = floor
        self.held = held
        self.names = pn, sg
        self.checked = 0
        self.stored = None

    def receive(self, datagram):
        received = parse(datagram)
        if not received.check(PN_ALIAS, SG_ALIAS, self.record, self.floor, self.held):
            return False
        key, signed = received.open(*self.names)
        self.checked += 1
        if received.signature != stand_in(signed):
            raise NotAuthentic("signature")
        self.stored = key
        self.floor = received.version
        self.held = received.version, received.commit
        return True

    def refuses(self, datagram, error, checks=0):
        before = self.checked
        with raises(error):
            self.receive(datagram)
        assert self.checked == before + checks, "signature checks"
        assert self.stored is None


@req("CPNS-GKM-19", "CPNS-GKM-35", "CPNS-GKM-38", "CPNS-GKM-69", "CPNS-GKM-70", "CPNS-GKM-75")
def test_members_and_only_members_get_the_key_from_one_datagram():
    for members in ([0, 1, 2, 3, 4, 6, 7], [0, 2, 5], [5], list(range(8))):
        (datagram,) = send(members)
        for slot in range(8):
            board = Receiver(slot)
            if slot in members:
                assert board.receive(datagram) and board.stored == GK
            else:
                board.refuses(datagram, NotAddressed)


@req("CPNS-GKM-36")
def test_the_object_is_a_group_key_delivery_request():
    (datagram,) = send([0, 1, 2], activation=1_900_000_000)
    assert datagram[0] == numbers.FRAME_COSE_SIGN1
    tag = cborlite.decode(datagram)
    protected, unprotected, payload, signature = tag.value
    assert (tag.number, protected, unprotected, len(signature)) == (18, PROTECTED, {}, 64)
    items = cborlite.decode(payload)
    assert items[:7] == [3, PN_ALIAS, SG_ALIAS, 1, VERSION, 1_900_000_000, numbers.REASON_LEAVE]
    received = parse(datagram)
    assert (received.activation, received.reason, received.slots) == (1_900_000_000, numbers.REASON_LEAVE, None)
    assert items[7:] == [received.commit, received.entries]
    aad = cborlite.encode(["keycast/gk/1", PN, SG])
    assert to_be_signed("keycast/gk/1", PN, SG, payload) == cborlite.encode(["Signature1", PROTECTED, aad, payload])


def test_one_of_1024_leaves_in_130_octets():
    (datagram,) = send(range(1, 1024), height=10, sg_alias=255, generation=255, version=0xFFFFFFFF)
    assert len(datagram) <= 130
    received = parse(datagram)
    assert received.check(PN_ALIAS, 255, TreeKeys(TM, 10).record(2, 255, 777), 0xFFFFFFFE)
    key, signed = received.open(PN, SG)
    assert key == GK and received.signature == stand_in(signed)


@req("SEC-09")
def test_an_outsider_never_reaches_the_signature():
    board = Receiver(1)
    (genuine,) = send([0, 1, 2])
    received = parse(genuine)
    for i in range(100):  # what can be made without a subset key: any block, any COMMIT, any signature
        noise = sha256(bytes([i])).digest()
        index = received.entries[:2]
        head = [3, PN_ALIAS, SG_ALIAS, 1, VERSION + i, 0, 2]
        head.append(noise[:16])
        head.append(index + noise[16:])
        payload = cborlite.encode(head)
        board.refuses(genuine[:7] + cborlite.encode(payload) + genuine[-66:-64] + noise + noise, NotAuthentic)
    assert board.receive(genuine) and board.checked == 1


@req("SEC-09")
def test_a_member_reaches_the_signature_and_fails_there():
    for secret in (b"member", b""):
        (forged,) = send([0, 1, 2], secret=secret, group_key=bytes(16))
        Receiver(1).refuses(forged, NotAuthentic, checks=1)


@req("SEC-09")
def test_the_order_cannot_be_missed():
    received = parse(send([0, 1, 2])[0])
    with raises(RuntimeError):
        received.open(PN, SG)
    board = Receiver(1)
    with raises(Stale):
        received.check(PN_ALIAS, SG_ALIAS, board.record, VERSION)
    with raises(RuntimeError):
        received.open(PN, SG)


@req("SEC-08")
def test_the_same_octets_under_another_name_fail():
    (datagram,) = send([0, 1, 2])
    for pn, sg in (("pn.other", SG), (PN, "sg.other"), (SG, PN), (PN + SG, "")):
        Receiver(1, pn=pn, sg=sg).refuses(datagram, NotAuthentic, checks=1)
    draft = build_delete(pn_id=PN, sg_id=SG, pn_alias=PN_ALIAS, sg_alias=SG_ALIAS, version=VERSION)
    payload = cborlite.decode(draft.finish(bytes(64))).value[2]
    contexts = [
        to_be_signed(context, PN, SG, payload) for context in ("keycast/gk/1", "keycast/delete/1", "keycast/rollover/1")
    ]
    assert draft.to_be_signed == contexts[1] and len(set(contexts)) == 3


def test_other_aliases_are_not_for_us():
    for change in ({"pn_alias": PN_ALIAS + 1}, {"sg_alias": SG_ALIAS + 1}):
        Receiver(1).refuses(send([0, 1, 2], **change)[0], NotAddressed)


@req("SEC-04")
def test_without_a_floor_no_broadcast_is_taken():
    Receiver(1, floor=None).refuses(send([0, 1, 2])[0], NotAllowed)
    assert Receiver(1, floor=0).receive(send([0, 1, 2])[0])


@req("SEC-04")
def test_a_version_not_above_the_floor_is_refused():
    (datagram,) = send([0, 1, 2])
    for floor in (VERSION, VERSION + 1, 0xFFFFFFFF):
        Receiver(1, floor=floor).refuses(datagram, Stale)


@req("SEC-03")
def test_an_epoch_jump_of_more_than_16_is_refused():
    assert Receiver(1).receive(send([0, 1, 2], version=0x00110000)[0])
    Receiver(1).refuses(send([0, 1, 2], version=0x00120000)[0], NotAllowed)
    Receiver(1, floor=0).refuses(send([0, 1, 2], version=0xFFFFFFFF)[0], NotAllowed)


def test_a_foreign_generation_is_refused():
    (datagram,) = send([0, 1, 2], generation=2)
    Receiver(1, generation=3).refuses(datagram, Stale)
    Receiver(1, generation=1).refuses(datagram, Unknown)
    # the same number, another tree: nothing fits
    (foreign,) = send([0, 1, 2], keys=TreeKeys(bytes(32), 3))
    Receiver(1).refuses(foreign, NotAuthentic)


@req("SEC-11")
def test_a_duplicate_costs_nothing():
    (datagram,) = send([0, 1, 2])
    board = Receiver(1)
    assert board.receive(datagram)
    for _ in range(20):
        assert board.receive(datagram) is False
    assert board.checked == 1


@req("SEC-11")
def test_another_key_under_the_held_version_is_refused():
    held = VERSION, parse(send([0, 1, 2])[0]).commit
    Receiver(1, floor=VERSION, held=held).refuses(send([0, 1, 2], group_key=bytes(16))[0], NotAuthentic)


def test_a_wrong_commit_is_refused_before_the_signature():
    (datagram,) = send([0, 1, 2])
    payload = cborlite.decode(datagram).value[2]
    items = cborlite.decode(payload)
    for at, value in ((4, VERSION + 1), (7, bytes(16)), (8, items[8][:-1] + b"\0")):
        changed = list(items)
        changed[at] = value
        frame = cborlite.Tag(18, [PROTECTED, {}, cborlite.encode(changed), datagram[-64:]])
        Receiver(1).refuses(cborlite.encode(frame), NotAuthentic)
    changed = list(items)
    changed[6] = numbers.REASON_PERIODIC  # not under COMMIT: only the signature tells
    frame = cborlite.Tag(18, [PROTECTED, {}, cborlite.encode(changed), datagram[-64:]])
    Receiver(1).refuses(cborlite.encode(frame), NotAuthentic, checks=1)


@req("SEC-01")
def test_index_0_is_refused():
    (datagram,) = send([0, 1, 2])
    items = cborlite.decode(cborlite.decode(datagram).value[2])
    items[8] = b"\0\0" + items[8][2:]
    payload = cborlite.encode(items)
    signature = stand_in(to_be_signed("keycast/gk/1", PN, SG, payload))  # even by the PN GW
    Receiver(1).refuses(cborlite.encode(cborlite.Tag(18, [PROTECTED, {}, payload, signature])), MalformedMessage)


def test_a_slot_outside_the_named_part_costs_no_cryptography():
    (datagram,) = send([0, 1, 2])
    items = cborlite.decode(cborlite.decode(datagram).value[2])

    def received(*slots):
        payload = cborlite.encode(items[:9] + list(slots))
        return cborlite.encode(
            cborlite.Tag(18, [PROTECTED, {}, payload, stand_in(to_be_signed("keycast/gk/1", PN, SG, payload))])
        )

    assert Receiver(1).receive(received(0, 2)) and Receiver(1).receive(received(1, 1))
    Receiver(1).refuses(received(2, 7), NotAddressed)
    Receiver(1).refuses(received(0, 0), NotAddressed)


@req("CPNS-GKM-47", "CPNS-GKM-48")
def test_packed_entries_and_group_key_elements_say_the_same():
    for height, members in ((3, [0, 2, 5]), (5, [1, 2, 3, 5, 8, 13, 21]), (3, range(8))):
        (datagram,) = send(members, height=height)
        packed = parse(datagram).entries
        fields = {messages.SG_ID: SG, messages.VERSION: VERSION, messages.GROUP_KEY: elements(1, height, packed)}
        fields[messages.ACTIVATION] = 0
        fields[messages.REASON] = numbers.REASON_LEAVE
        code, fields = messages.decode(messages.encode(numbers.GROUP_KEY_DELIVERY_REQUEST, fields))
        assert code == numbers.GROUP_KEY_DELIVERY_REQUEST
        assert len(fields[messages.GROUP_KEY]) == len(packed) // 18 >= 1
        assert entries(1, height, fields[messages.GROUP_KEY]) == packed
    assert elements(1, 3, bytes.fromhex("200ddbea2e0e853b51feac1352cceab46915")) == [
        (bytes.fromhex("dbea2e0e853b51feac1352cceab46915"), "1.200d")
    ]
    for wrong in ([(bytes(16), "2.200d")], [(bytes(15), "1.200d")], [(bytes(16), "1.0000")], [(bytes(16), "1.200")]):
        with raises(MalformedMessage):
            entries(1, 3, wrong)
    for wrong in (bytes(17), bytes(18)):
        with raises(MalformedMessage):
            elements(1, 3, wrong)


@req("SEC-08")
def test_a_signed_delete():
    draft = build_delete(pn_id=PN, sg_id=SG, pn_alias=PN_ALIAS, sg_alias=SG_ALIAS, version=VERSION)
    received = parse(draft.finish(stand_in(draft.to_be_signed)))
    assert isinstance(received, ReceivedDelete)
    for held in (0, FLOOR, VERSION):
        assert received.check(PN_ALIAS, SG_ALIAS, held, PN, SG) == draft.to_be_signed
    assert received.signature == stand_in(draft.to_be_signed)
    assert received.check(PN_ALIAS, SG_ALIAS, VERSION, PN, "sg.other") != draft.to_be_signed
    with raises(Stale):
        received.check(PN_ALIAS, SG_ALIAS, VERSION + 1, PN, SG)
    for aliases in ((PN_ALIAS + 1, SG_ALIAS), (PN_ALIAS, SG_ALIAS + 1)):
        with raises(NotAddressed):
            received.check(*aliases, VERSION, PN, SG)


def frame(*items):
    return cborlite.encode(cborlite.Tag(18, [PROTECTED, {}, cborlite.encode(list(items)), bytes(64)]))


def test_what_is_no_signed_broadcast_is_malformed():
    (good,) = send([0, 1, 2])
    head = [3, PN_ALIAS, SG_ALIAS, 1, VERSION, 0, 2]
    ok = frame(*head, bytes(16), bytes(18))
    assert isinstance(parse(ok), Received)
    for end in range(len(good)):
        with raises(MalformedMessage):
            parse(good[:end])
    wrong = [good + b"\0", b"\xd2" * 200, bytes(1400), ok[:7] + b"\x01" + ok[8:], ok[:6] + b"\xa1" + ok[7:]]
    wrong.append(ok[:-66] + b"\x58\x3f" + ok[-64:])
    wrong.append(frame(*head, bytes(16), bytes(1400)))  # longer than any broadcast
    wrong.append(frame())
    wrong.append(frame(3))
    wrong.append(frame(*head))
    wrong.append(frame(*head, bytes(15), bytes(18)))
    wrong.append(frame(*head, bytes(16), "text"))
    wrong.append(frame(*head, bytes(16), bytes(18), 0))
    wrong.append(frame(*head, bytes(16), bytes(18), 0, 1, 2))
    wrong.append(frame(*head, bytes(16), bytes(18), -1, 1))
    wrong.append(frame(4, *head[1:], bytes(16), bytes(18)))
    wrong.append(frame(True, *head[1:], bytes(16), bytes(18)))
    wrong.append(frame(22, PN_ALIAS, SG_ALIAS))
    wrong.append(frame(22, PN_ALIAS, SG_ALIAS, VERSION, 0))
    wrong.append(frame(22, PN_ALIAS, SG_ALIAS, -1))
    for at, values in (
        (1, (-1, 1 << 32, "a", True)),
        (2, (1 << 16, None)),
        (3, (1 << 16,)),
        (4, (1 << 32,)),
        (5, (1 << 32,)),
        (6, (5, 8)),
    ):
        for value in values:
            changed = list(head)
            changed[at] = value
            wrong.append(frame(*changed, bytes(16), bytes(18)))
    for datagram in wrong:
        with raises(MalformedMessage):
            parse(datagram)


@req("SEC-09")
def test_a_thousand_empty_arrays_are_refused_before_they_cost_a_board_its_heap():
    for empty in (b"\x80", b"\xa0"):
        thousand = b"\x99\x03\xe8" + empty * 1000
        for payload in (thousand, b"\x84\x16\x01\x01" + thousand, b"\x89" + b"\x03" * 8 + thousand):
            datagram = b"\xd2\x84\x43\xa1\x01\x26\xa0" + cborlite.encode(payload) + b"\x58\x40" + bytes(64)
            gc.collect()
            gc.disable()
            before = gc.mem_alloc() if ON_VM else 0
            with raises(MalformedMessage):
                parse(datagram)
            used = gc.mem_alloc() - before if ON_VM else 0
            gc.enable()
            assert used < 3 * len(datagram), used


def test_what_does_not_fit_is_not_built():
    for change in (
        {"pn_alias": 1 << 32},
        {"sg_alias": 1 << 16},
        {"generation": 1 << 16},
        {"version": 1 << 32},
        {"activation": -1},
        {"reason": 5},
        {"sg_alias": 0},
        {"generation": 0},
        {"version": 0},
        {"group_key": bytes(15)},
    ):
        with raises(ValueError):
            send([0, 1, 2], **change)
    assert send([]) == []
    draft = build_delete(pn_id=PN, sg_id=SG, pn_alias=1, sg_alias=1, version=1)
    with raises(ValueError):
        draft.finish(bytes(63))


def test_no_refusal_tells_a_secret():
    (datagram,) = send([0, 1, 2], secret=b"member")
    for board in (Receiver(1), Receiver(5), Receiver(1, floor=VERSION)):
        with raises(CpnsError) as caught:
            board.receive(datagram)
        reason = caught.value.reason
        assert reason and GK.hex() not in reason and "\\x" not in reason
        assert board.record.pack()[8:24].hex() not in repr(board.record) and "\\x" not in repr(board.record)
