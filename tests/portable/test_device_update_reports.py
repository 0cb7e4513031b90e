"""Reports of a PNE about its updates: when it reports, what it says, and what an answer does to it."""

from device_world import SIGNING, identity
from update_world import AGENT, FIRMWARE, KEY, Update, in_a_group, record, updatable, without_updates
from vmtest import req

from cpns import cborlite
from device_agent import tuning
from device_agent.crypto import p256
from device_agent.key_store import KeyStore
from device_agent.update.key import key_id
from device_agent.update.slot_record import SlotRecord
from suit import numbers as n

VM_HEAP_KIB = 192  # the PNE and its PN GW in one heap

DAY = 86400 * 1000
IDLE = [[AGENT, FIRMWARE], b"", 4, 0, n.IDLE, 0, 0]


def test_a_board_in_a_group_reports_when_it_starts_and_then_once_a_day():
    world, offers = updatable()
    in_a_group(world)
    world.run_for(tuning.UPDATE_LEISURE)
    assert [told for _, told in offers.reports] == [IDLE]
    world.run_for(10 * DAY)
    assert 9 <= len(offers.reports) - 1 <= 10


def test_boards_report_at_different_moments():
    moments = []
    for drawn in range(16):
        world, offers = updatable()
        world._drawn = drawn
        world.boot()
        world.run_for(tuning.UPDATE_LEISURE)
        moments.append(offers.reports[0][0])
    assert len(set(moments)) > 12


def test_it_reports_when_the_gateway_asks():
    world, offers = updatable()
    world.run_for(10000)
    for _ in range(3):
        assert world.ask_resource(n.PATH, cborlite.encode([n.ASK])) == (0x44, b"")
    world.run_for(tuning.UPDATE_LEISURE)
    assert len(offers.reports) == 2


def test_a_gateway_without_updates_is_asked_once_in_a_session():
    world, asked = without_updates()
    in_a_group(world)
    world.run_for(10 * DAY)
    assert len(asked) == 1 and not world.failures
    for _ in range(3):
        world.hear(b"\x55\x02" + b"87654321" + bytes(1026))
    world.run_for(DAY)
    assert len(asked) == 1
    world.agent.updating.hint()  # as a new session does
    world.run_for(DAY)
    assert len(asked) == 2


def test_a_report_without_answer_is_repeated_at_leisure():
    world, offers = updatable()
    world.gateway.deaf = True
    world.run_for(60000)
    world.gateway.deaf = False
    assert not offers.reports
    world.run_for(2 * tuning.UPDATE_RETRY_MIN)
    assert len(offers.reports) == 1


def test_a_wrong_answer_changes_nothing():
    world, _ = updatable(record(trial=2, wanted=5))
    good = [b"", 0, b"", 0]
    for place, wrong in ((0, b"1234567"), (0, ""), (1, -1), (2, KEY[:63]), (3, -1), (3, b"")):
        answer = list(good)
        answer[place] = wrong
        world.gateway.resources[n.PATH] = lambda octets, answer=answer: (0x44, cborlite.encode(answer))
        world.agent.updating.hint()
        world.run_for(tuning.UPDATE_LEISURE)
        assert world.updates.record.trial == 2
    for octets in (b"", b"\x80", cborlite.encode(good + [0]), b"\xff"):
        world.gateway.resources[n.PATH] = lambda asked, octets=octets: (0x44, octets)
        world.agent.updating.hint()
        world.run_for(tuning.UPDATE_LEISURE)
        assert world.updates.record.trial == 2
    assert len(world.failures) == 10


def test_an_answer_confirms_what_is_on_trial():
    world, offers = updatable(record(trial=2, wanted=5))
    world.gateway.deaf = True
    world.run_for(600000)
    assert world.updates.record.trial == 2
    world.gateway.deaf = False
    world.run_for(2 * tuning.UPDATE_RETRY_MIN)
    assert [told[2:] for _, told in offers.reports] == [[4, 0, n.TRIAL, 5, 0], [5, 0, n.IDLE, 0, 0]]
    assert world.told("update") == [{"state": "confirmed", "number": 5, "reason": n.NO_REASON}]


def test_it_says_why_it_fell_back():
    world, offers = updatable(record(wanted=5, reason=n.NOT_CONFIRMED))
    world.run_for(tuning.UPDATE_LEISURE)
    assert offers.reports[0][1][2:] == [4, 0, n.FELL_BACK, 5, n.NOT_CONFIRMED]


@req("SEC-17")
def test_the_first_update_key_of_the_gateway_stays():
    world, offers = updatable()
    offers.key = KEY
    world.run_for(tuning.UPDATE_LEISURE)
    offers.key = p256.run(p256.public_key(bytes(31) + b"\x0c"))
    for _ in range(2):
        world.boot()
        world.run_for(tuning.UPDATE_LEISURE)
    first, *later = [told[1] for _, told in offers.reports]
    assert first == b"" and len(later) >= 3 and set(later) == {key_id(KEY)}


@req("SEC-17")
def test_no_update_key_that_is_another_key_of_the_home_or_no_point_of_the_curve():
    world, offers = updatable()
    gateway_key = bytes(31) + b"\x02" + bytes(32)
    for key in (identity().signing_key, gateway_key, bytes(31) + b"\x01" + bytes(32), bytes(64), KEY[:63] + b"\0"):
        offers.key = key
        world.agent.updating.hint()
        world.run_for(tuning.UPDATE_LEISURE)
        world.boot()
        world.run_for(tuning.UPDATE_LEISURE)
        assert offers.reports[-1][1][1] == b""
    assert p256.run(p256.public_key(SIGNING)) == identity().signing_key


@req("SEC-13")
def test_frames_of_an_unknown_update_cause_few_reports_and_fewer_each_time():
    world, offers = updatable()
    in_a_group(world)
    world.run_for(60000)
    before = len(offers.reports)

    def flood(seconds):
        for second in range(seconds):
            for frame in range(3):
                world.hear(b"\x55\x02" + bytes((second & 255, frame)) + bytes(6) + bytes(1026))
            world.run_for(1000)
        return len(offers.reports) - before

    assert 3 <= flood(600) <= 5  # after 0, 30, 90, 210 and 450 s
    offers.update = Update(blocks=1)  # an offer that the board did not know: what it heard was to some purpose
    world.run_for(tuning.UPDATE_RETRY_MAX)
    flood(1)
    world.run_for(tuning.UPDATE_LEISURE)
    assert world.agent.updating.offer == offers.update.id
    assert world.agent.updating.hint_gap == tuning.UPDATE_HINT_EVERY


@req("SEC-17", "SEC-30")
def test_a_board_whose_update_key_is_damaged_takes_no_other_over_the_network():
    world, offers = updatable()
    offers.key = KEY
    world.run_for(tuning.UPDATE_LEISURE)
    octets = world.medium.octets
    for name in ("upkey0", "upkey1"):
        octets[name] = octets[name][:-1] + bytes((octets[name][-1] ^ 1,))
    offers.key = p256.run(p256.public_key(bytes(31) + b"\x0c"))
    damaged = octets["upkey0"], octets["upkey1"]
    for _ in range(2):
        world.boot()
        world.run_for(tuning.UPDATE_LEISURE)
        assert offers.reports[-1][1][1] == b"" and (octets["upkey0"], octets["upkey1"]) == damaged
    offers.update = Update()
    offers.ask()
    world.run_for(60000)
    assert offers.states()[-1] == (n.REFUSED, 5, n.OTHER_KEY)


@req("SEC-30")
def test_a_board_has_a_record_of_its_floors_before_it_has_an_update_key():
    world, offers = updatable()
    offers.key = KEY
    written, put = [], world.medium.set

    def set(name, octets):
        written.append(name)
        put(name, octets)

    world.medium.set = set
    world.run_for(tuning.UPDATE_LEISURE)
    assert [name for name in written if name[:-1] in ("slot", "upkey")] == ["slot0", "slot1", "upkey0", "upkey1"]


@req("SEC-30")
def test_a_board_that_has_lost_its_floors_says_so_and_takes_no_update():
    world, offers = updatable(SlotRecord(lost=True))
    offers.key = KEY
    world.run_for(tuning.UPDATE_LEISURE)
    assert offers.reports[0][1][2:] == [0, 0, n.REFUSED, 0, n.NO_FLOOR]
    assert KeyStore(world.medium).load("upkey") is None  # as the one that it may have had is lost, too
    offers.update = Update(n.NUMBER_MAX)
    offers.ask()
    world.run_for(60000)
    assert offers.states()[-1] == (n.REFUSED, n.NUMBER_MAX, n.NO_FLOOR)
    assert not world.updates.begun and not world.agent.receiver.verifications
