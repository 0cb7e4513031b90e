"""The record of the slots of a board: what runs at each start, and which numbers are refused."""

from vmtest import req

from device_agent.update.slot_record import BASE, FIRMWARE, SlotRecord
from suit import numbers as n


def stored(record):
    return SlotRecord(record.pack())


def test_a_board_that_was_never_updated_runs_its_files():
    for octets in (None, b"", b"\x01", b"\x82\x02\x03", b"\x81\x01"):
        record = SlotRecord(octets)
        assert not record.start("") and record.slot() == BASE and not record.reason
        assert record.refusal(False, 0) == n.OLD_NUMBER and not record.refusal(False, 1)


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
