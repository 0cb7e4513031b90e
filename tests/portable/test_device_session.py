"""The session of a PNE: sender numbers through power cuts, false hints, back-off, the Echo after a restart."""

from device_world import SESSION, World, member
from vmtest import raises, req

from cpns import messages as m
from cpns import numbers as n
from device_agent.coap.message import Message
from device_agent.entropy import RECORD, Entropy
from device_agent.key_store import KeyStore
from device_agent.session import NoSession

VM_HEAP_KIB = 192  # the PNE and its PN GW in one heap


class PowerCut(Exception):
    pass


def nonces(world, sent):
    """Make the PN GW check that the sender number of each request is above all before; `sent` lists them."""
    answer = world.gateway.coap

    def coap(address, code, options, payload, timeout):
        value = dict(options)[9]
        number = int.from_bytes(value[1 : 1 + (value[0] & 7)], "big")
        assert not sent or number > sent[-1], "a sender number was used twice"
        sent.append(number)
        world.gateway.heard.clear()
        world.events.clear()
        return answer(address, code, options, payload, timeout)

    world.gateway.coap = coap


@req("SEC-22")
def test_no_sender_number_is_used_twice_whichever_write_is_the_last_before_a_power_cut():
    for how in ("absent", "torn", "whole"):
        for dies_at in range(1, 5):  # two copies, each set and committed
            world = World()
            sent = []
            nonces(world, sent)
            world.join("kitchen", 5)
            cut(world.medium, dies_at, how)
            died = False
            for number in range(150):
                try:
                    world.join("kitchen", 5 + number)
                except PowerCut:
                    died = True
                    restore(world.medium)
                    world.boot()
            assert died
            assert len(sent) > 140


@req("SEC-22")
def test_no_sender_number_is_used_twice_with_either_copy_damaged():
    for damaged in ("sess0", "sess1"):
        world = World()
        sent = []
        nonces(world, sent)
        for number in range(70):
            world.join("kitchen", 5 + number)
        for _ in range(3):
            world.medium.octets[damaged] = b"\xff" * 30
            world.boot()
            for number in range(70):
                world.join("kitchen", 5 + number)


@req("SEC-22")
def test_no_sender_number_is_used_twice_with_either_copy_damaged_after_a_power_cut_at_any_write():
    for damaged in ("sess0", "sess1"):
        for how in ("absent", "torn", "whole"):
            for dies_at in range(1, 5):
                world = World()
                sent = []
                nonces(world, sent)
                world.join("kitchen", 5)
                cut(world.medium, dies_at, how)
                with raises(PowerCut):
                    for number in range(70):
                        world.join("kitchen", 5 + number)
                restore(world.medium)
                world.medium.octets[damaged] = b"\xff" * 30
                world.boot()
                if world.agent.session.up:  # the other copy may have been the torn one: then the session is given up
                    before = len(sent)
                    world.join("kitchen", 100)
                    assert len(sent) > before
                else:
                    assert how == "torn" and world.medium.octets[damaged] == b"\xff" * 30


@req("SEC-22")
def test_with_both_copies_damaged_the_session_is_given_up():
    world = World()
    world.join("kitchen", 5)
    world.medium.octets["sess0"] = world.medium.octets["sess1"] = b"\xff" * 30
    world.boot()
    assert not world.agent.session.up
    assert world.agent.session.wants_handshake(world.clock.ms)
    with raises(NoSession):
        world.join("kitchen", 5)


@req("SEC-22")
def test_the_first_request_after_a_restart_must_bring_the_echo():
    world = World()
    world.join("kitchen", 5)
    world.boot()
    octets = m.encode(n.DELETE_SERVICE_GROUP_REQUEST, {m.SG_ID: "kitchen", m.VERSION: 9})
    message, request = world.gateway.protect(octets)
    answer, plain = world.agent.session.unprotect(message, "gw")
    assert plain is None  # not acted on
    code, options, _ = world.gateway.unprotect(request, answer)
    assert code == 0x81
    message, _ = world.gateway.protect(octets, dict(options)[252])
    assert world.agent.session.unprotect(message, "gw")[1][2] == octets
    assert world.agent.session.unprotect(message, "gw") == (None, None)  # and a replay is not, nor answered (SEC-27)


@req("SEC-21", "SEC-22")
def test_who_replays_an_old_request_after_a_restart_wears_no_flash_and_the_session_is_renewed():
    world = World()
    world.join("kitchen", 5)
    world.boot()
    old, _ = world.gateway.protect(b"\xa0")
    session, before = world.agent.session, world.medium.writes
    answered = [session.unprotect(old, "elsewhere")[0] is not None for _ in range(1000)]
    assert answered == [True] * 64 + [False] * 936
    assert world.medium.writes - before <= 4  # numbers are reserved by 64
    assert session.wants_handshake(world.clock.ms) and session.address == world.at


@req("SEC-22")
def test_a_storage_that_fails_ends_no_loop_of_the_agent():
    world = World()
    world.join("kitchen", 5)
    world.boot()
    message, _ = world.gateway.protect(b"\xa0")
    world.medium.fails = True
    answer = world.agent._answer(message, "gw")  # the challenge would take the first of new sender numbers
    with raises(StopIteration) as end:
        answer.send(None)
    assert end.value.value is None
    assert world.told("failed")[0]["what"] == "store"


def test_what_is_not_protected_reaches_no_handler():
    world = World()
    message, _ = world.gateway.protect(b"\xa0")
    message.options = [(11, b"cpns")]
    assert world.agent.session.unprotect(message, "gw") == ((0x81, (), b""), None)
    message.options = [(9, b"\x09\x01" + SESSION[3])]
    message.payload = bytes(20)
    assert world.agent.session.unprotect(message, "gw") == ((0x80, (), b""), None)


@req("SEC-21")
def test_one_unprotected_refusal_is_asked_again_two_are_a_reason_for_a_handshake():
    world = World()
    session = world.agent.session
    world.join("kitchen", 5)
    answers, truly = [], world.gateway.coap

    def refused_once(*request):
        answers.append(1)
        return Message(2, 0x81, 0, b"", [], b"") if len(answers) == 1 else truly(*request)

    world.gateway.coap = refused_once
    world.join("kitchen", 5)
    assert len(answers) == 2 and not session.wants_handshake(world.clock.ms)
    world.gateway.coap = truly
    world.gateway.forgetful = True
    with raises(NoSession):
        world.join("kitchen", 5)
    assert session.wants_handshake(world.clock.ms)
    assert session.up  # the live session stays usable meanwhile
    world.gateway.forgetful = False
    world.join("kitchen", 5)
    assert not session.wants_handshake(world.clock.ms)


@req("SEC-21")
def test_a_request_without_any_answer_is_not_repeated_at_once():
    world = World()
    world.join("kitchen", 5)
    asked = []
    world.gateway.coap = lambda *request: asked.append(request)
    for expected in (False, True):
        with raises(NoSession):
            world.join("kitchen", 5)
        assert world.agent.session.wants_handshake(world.clock.ms) is expected
    assert len(asked) == 2


def test_a_handshake_gets_the_room_of_what_was_prepared_for_signatures_and_these_are_verified_all_the_same():
    world, group = member()
    receiver = world.agent.receiver
    world.perform(receiver.prepare())
    world.gateway.forgetful = True
    with raises(NoSession):
        world.join("kitchen", 5)
    steps = world.agent._connect()
    answer = None
    while receiver.prepared:
        wanted = steps.send(answer)
        answer = [] if wanted and wanted[0] is None else None  # nobody answers a question to everybody
    steps.close()  # a board computes one thing at a time: what is heard meanwhile waits
    world.hear(world.gateway.object("kitchen", 7))
    assert group.version == 7


@req("SEC-21")
def test_the_way_to_a_silent_gateway_is_tried_after_5_seconds_and_at_last_every_10_minutes():
    world = World(session=False, address="elsewhere")
    tries = []

    def coap(address, code, *rest):
        if address is None:
            return []  # nobody answers the question for gateways
        if code == 2:
            tries.append(world.clock.ms)
        return None

    world.gateway.coap = coap
    world.run_until(2 * 3600000)
    gaps = [tries[at + 1] - tries[at] for at in range(len(tries) - 1)]
    assert gaps[0] >= 5000
    assert 600000 <= max(gaps) < 900000
    assert 15 < len(tries) < 20
    assert all(isinstance(failure, NoSession) for failure in world.failures)


def test_a_gateway_at_no_known_address_is_asked_for_by_everybody():
    world = World(address="")
    world.agent.session.address = None
    asked = []

    def coap(address, code, options, payload, timeout):
        asked.append((address, code, options))
        return []

    world.gateway.coap = coap
    world.run_until(1)
    assert asked == [(None, 1, ((11, b".well-known"), (11, b"core"), (15, b"rt=keycast.gw")))]


def test_a_board_whose_address_hint_is_of_another_network_starts_and_asks_everybody():
    world = World(address="[fe80::1]:5683")
    asked = []
    world.gateway.coap = lambda address, *rest: asked.append(address) or []
    world.run_until(1)
    assert asked == [None]


@req("SEC-17")
def test_random_octets_differ_even_if_the_machine_has_no_entropy():
    world = World()
    store = KeyStore(world.medium)
    poor = Entropy(store, bytes)
    drawn = [poor(16) for _ in range(50)]
    again = Entropy(store, bytes)  # after a restart
    drawn.extend([again(16) for _ in range(50)])
    assert len(set(drawn)) == 100
    assert [len(poor(size)) for size in (0, 1, 31, 32, 33, 100)] == [0, 1, 31, 32, 33, 100]


@req("SEC-17")
def test_the_seed_is_replaced_before_the_first_octet_is_given_out():
    world = World()
    store = KeyStore(world.medium)
    before = store.load(RECORD)
    world.medium.fails = True
    with raises(OSError):
        Entropy(store, bytes)
    world.medium.fails = False
    Entropy(store, bytes)
    assert store.load(RECORD) != before


def cut(medium, dies_at, how):
    """From now on the medium dies at its n-th operation on the session record."""
    count = [0]
    medium.plain_set, medium.plain_commit = medium.set, medium.commit

    def step(change, torn):
        count[0] += 1
        if count[0] == dies_at:
            if how == "whole":
                change()
            elif how == "torn":
                torn()
            raise PowerCut
        change()

    def set_(name, octets):
        if not name.startswith("sess"):
            medium.plain_set(name, octets)
            return
        torn = octets[: len(octets) // 2]
        step(lambda: medium.plain_set(name, octets), lambda: medium.plain_set(name, torn))
        medium.pending = True

    def commit():
        if getattr(medium, "pending", False):
            medium.pending = False
            step(medium.plain_commit, medium.plain_commit)

    medium.set, medium.commit = set_, commit


def restore(medium):
    medium.set, medium.commit = medium.plain_set, medium.plain_commit
