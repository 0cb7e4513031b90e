"""The record of the slots of a board: what runs at each start, and which numbers are refused."""

from vmtest import req

from device_agent.key_store import KeyStore
from device_agent.update import key, slot_record
from device_agent.update.slot_record import BASE, FIRMWARE, SlotRecord
from suit import numbers as n


def stored(record):
    return SlotRecord(record.pack())


def test_a_board_that_was_never_updated_runs_its_files():
    record = SlotRecord()
    assert not record.start("") and record.slot() == BASE and not record.reason
    assert record.refusal(False, 0) == n.OLD_NUMBER and not record.refusal(False, 1)


class Medium:
    """A ports.Storage in memory."""

    def __init__(self, octets=()):
        self.octets = dict(octets)

    def get(self, name):
        return self.octets.get(name)

    def set(self, name, octets):
        self.octets[name] = bytes(octets)

    def commit(self):
        pass


def known(octets):
    """-> a store whose record of the slots is this, beside an update key."""
    medium = Medium()
    store = KeyStore(medium)
    key.keep(store, bytes(64))
    if octets is not None:
        store.save(slot_record.RECORD, octets)
    return medium, store


def takes_none(record):
    for number in (1, 5, n.NUMBER_MAX):
        for firmware in (False, True):
            if record.refusal(firmware, number) != n.NO_FLOOR:
                return False
    return not record.start("") and record.slot() == BASE and record.reason == n.NO_FLOOR


@req("SEC-30")
def test_a_board_that_cannot_read_its_record_runs_its_files_and_takes_no_update():
    confirmed = SlotRecord()
    confirmed.begin(1, 7)
    confirmed.confirm()
    confirmed = confirmed.pack()
    for octets in (b"", b"\x01", b"\x82\x02\x03", b"\x81\x01", confirmed[:-1], confirmed + b"\0", b"\x80"):
        assert takes_none(slot_record.load(known(octets)[1])), octets


@req("SEC-30")
def test_a_board_that_has_lost_its_record_takes_no_update_until_files_come_by_cable():
    confirmed = SlotRecord()
    confirmed.begin(1, 7)
    confirmed.confirm()
    medium, store = known(confirmed.pack())
    for name in ("slot0", "slot1"):
        medium.set(name, bytes([medium.get(name)[0] ^ 1]) + medium.get(name)[1:])
    copies = dict(medium.octets)
    assert takes_none(slot_record.load(store))
    record = slot_record.load(store)
    slot_record.save(store, record)  # whatever is saved meanwhile: the floors stay lost
    assert takes_none(slot_record.load(store))
    for name in ("slot0", "slot1"):
        del medium.octets[name]  # NVS forgets what is damaged
    assert takes_none(slot_record.load(store))
    for lost in (copies, {name: copies[name] for name in copies if name[:4] != "slot"}):
        medium.octets = dict(lost)
        record = slot_record.load(store)
        record.by_cable()
        slot_record.save(store, record)
        assert not slot_record.load(store).refusal(False, 1) and not slot_record.load(store).reason


@req("SEC-30")
def test_each_octet_of_the_record_counts():
    confirmed = SlotRecord()
    confirmed.begin(1, 7)
    confirmed.confirm()
    medium, store = known(confirmed.pack())
    whole = dict(medium.octets)
    for at in range(len(whole["slot0"])):
        for names in (("slot0",), ("slot1",), ("slot0", "slot1")):
            medium.octets = dict(whole)
            for name in names:
                octets = bytearray(medium.get(name))
                octets[at] ^= 0x10
                medium.set(name, octets)
            record = slot_record.load(store)
            assert takes_none(record) if len(names) == 2 else record.refusal(False, 7) == n.OLD_NUMBER


@req("SEC-04")
def test_a_first_write_of_the_record_that_was_cut_is_no_loss():
    medium = Medium()
    store = KeyStore(medium)
    key.keep(store, bytes(64))
    for names in (("slot0",), ("slot0", "slot1"), ("slot0", "slot1", "upkey0"), ("slot0", "slot1", "upkey0", "upkey1")):
        cut = Medium([(name, medium.get(name)) for name in names])
        cut.set(names[-1], medium.get(names[-1])[: len(medium.get(names[-1])) // 2])
        assert not slot_record.load(KeyStore(cut)).refusal(False, 1), names


def test_an_agent_that_is_confirmed_stays():
    record = stored(SlotRecord())
    record.begin(1, 7)
    record = stored(record)
    assert not record.start("") and record.slot() == 1 and record.starts == 2
    record.confirm()
    record = stored(record)
    assert (record.good, record.trial, record.agent_number, record.slot()) == (1, 0, 7, 1)
    assert record.refusal(False, 7) == n.OLD_NUMBER and not record.refusal(True, 7)


def test_an_agent_that_is_not_confirmed_runs_three_times():
    record = SlotRecord()
    record.begin(2, 7)
    for _ in range(3):
        record = stored(record)
        record.start("")
        assert record.slot() == 2
    record = stored(record)
    record.start("")
    assert record.slot() == BASE and record.reason == n.NOT_CONFIRMED and record.agent_number == 0
    assert record.refusal(False, 7) == n.TRIED_BEFORE and not record.refusal(False, 8) and not record.refusal(True, 7)


def starts(trial, causes):
    """How often what is on trial runs, if its starts have these causes, True for the power, and it is not confirmed."""
    record = SlotRecord()
    record.begin(trial, 7, "ota_1" if trial == FIRMWARE else "")
    runs = 1 if trial == FIRMWARE else 0  # the first time it is the boot loader that starts a firmware
    for by_power in causes:
        record = stored(record)
        record.start("ota_0", by_power)
        if not record.trial:
            break
        runs += 1
    return runs


@req("SEC-30")
def test_a_switch_that_is_flipped_some_times_does_not_end_a_trial_and_one_that_never_rests_does():
    for trial in (1, FIRMWARE):
        first = [] if trial == FIRMWARE else [False]  # the reset after the installation
        assert starts(trial, first + [False] * 20) == 3
        assert starts(trial, first + [True] * 20) == 9
        assert starts(trial, first + [True] * 3 + [False] * 20) >= 5
        for pattern in range(256):
            causes = first + [bool(pattern >> place & 1) for place in range(8)] + [True] * 20
            assert 3 <= starts(trial, causes) <= 9
    assert starts(1, [True] * 20) == 12  # the power was cut between installation and first start, too


def test_the_reason_for_the_end_of_a_trial_says_that_it_crashed_if_that_is_known():
    for trial, silent in ((1, n.NOT_CONFIRMED), (FIRMWARE, n.BOOT_LOADER)):
        for crashes in (False, True):
            record = SlotRecord()
            record.crashed()
            assert not record.reason  # no trial
            record.begin(trial, 7, "ota_1")
            for number in range(3):
                record.start("ota_0")
                if crashes and not number:
                    record.crashed()
                record = stored(record)
            record.start("ota_0")
            assert (record.trial, record.reason) == (0, n.CRASHED if crashes else silent)
    record.begin(1, 8)
    record.crashed()
    record.confirm()
    assert not record.reason


def test_a_firmware_that_is_confirmed_stays():
    record = SlotRecord()
    record.begin(FIRMWARE, 3, "ota_1")
    assert not stored(record).start("ota_1")
    record.start("ota_1")
    record.confirm()
    record = stored(record)
    assert (record.firmware_number, record.label, record.trial) == (3, "", 0)
    assert not record.start("ota_1") and not record.reason


def test_a_firmware_from_which_the_boot_loader_went_back_is_chosen_twice_more():
    record = SlotRecord()
    record.begin(FIRMWARE, 3, "ota_1")
    for _ in range(2):
        record.start("ota_1")
        record = stored(record)
        assert record.trial == FIRMWARE and record.start("ota_0")
    assert not record.start("ota_0") and record.reason == n.BOOT_LOADER and not record.trial
    assert stored(record).refusal(True, 3) == n.TRIED_BEFORE


def test_an_image_that_is_not_whole_gives_way_to_the_good_one_and_this_one_to_the_files():
    record = SlotRecord()
    record.begin(1, 4)
    record.confirm()
    record.begin(2, 5)
    record.not_whole()
    assert record.slot() == 1 and record.reason == n.NOT_WHOLE
    record.not_whole()
    assert record.slot() == BASE and record.agent_number == 4


def test_an_image_that_is_damaged_during_the_trial_of_a_firmware_does_not_end_that():
    record = SlotRecord()
    record.begin(1, 4)
    record.confirm()
    record.begin(FIRMWARE, 2, "ota_0")
    record.not_whole()
    assert record.slot() == BASE and record.trial == FIRMWARE


def test_files_flashed_by_cable_run_and_the_floors_stay():
    record = SlotRecord()
    record.begin(1, 4)
    record.confirm()
    record.begin(2, 5)
    record.by_cable()
    record = stored(record)
    assert record.slot() == BASE and record.refusal(False, 4) == n.OLD_NUMBER and not record.refusal(False, 5)


@req("SEC-30")
def test_updates_that_failed_do_not_take_turns():
    record = SlotRecord()
    for trial, number in ((1, 6), (FIRMWARE, 3)):
        record.begin(trial, number, "ota_1")
        record.fall_back(n.NOT_CONFIRMED)
    record.refuse(True, 4, n.NOT_WHOLE)
    record = stored(record)
    for number in (5, 6):
        assert record.refusal(False, number) == n.TRIED_BEFORE
    for number in (3, 4):
        assert record.refusal(True, number) == n.TRIED_BEFORE
    assert not record.refusal(False, 7) and not record.refusal(True, 5)
    record.by_cable()
    assert not stored(record).refusal(False, 5) and not record.refusal(True, 3)
