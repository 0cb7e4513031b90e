"""Which slot a board runs, and which update is on trial: the record `slot`, and the rules by which it changes.

CBOR `[1, good, trial, quarters of starts left, number of the agent, number of the firmware, label, number tried last,
whether that was of the firmware, reason, number of the agent that failed, number of the firmware that failed]`. The
agent is in slot 1 or 2, or in the files that were flashed by cable (slot 0). A firmware on trial is in the application
partition `label`. Each change is one save. The files of slot 0 read this record also when they are years older than
what runs, so its form stays.

A board has this record before it has an update key (`key.py`), and before its first update the file MARK as well, which
no loss in the NVS concerns. One that has the key or the file and not this record, or both copies of it damaged, has
lost its floors: it takes no update until files come by cable, since any number might be an old one (SEC-30).
"""

import os

from cpns import cborlite
from cpns.errors import CpnsError
from device_agent.update.lost import lost
from suit import numbers as n

RECORD = "slot"
MARK = "update.floors"
FORMAT = 1
BASE = 0  # the slot of the files that were flashed by cable
FIRMWARE = 3  # in place of a slot of the agent
STARTS = 3  # of an agent on trial
BOOTS = 2  # of a firmware on trial after the first one, which the one before does
QUARTERS = 4  # of a start: one that the power ended says little of what is on trial, and counts as one of these
LOST = n.NUMBER_MAX + 1  # the floor of a board that has lost its floors
_UPDATE_KEY = "upkey"  # key.RECORD


class SlotRecord:
    """The state of the slots. `octets` is the record, or None on a board that was never updated; `lost`: it had one.

    `good` is the slot that runs while nothing is on trial, `trial` a slot, FIRMWARE or 0; `agent_number` and
    `firmware_number` are the highest numbers that were confirmed, or LOST; `wanted` is the number that was tried last
    (of the firmware if `of_firmware`), and `reason` (suit.numbers) why that one fell back, or NO_REASON. During a trial
    it is what is known of why a start of it ended. `agent_failed` and `firmware_failed` are the highest numbers that
    fell back: two updates that fail would otherwise take turns for ever.
    """

    def __init__(self, octets=None, lost=False):
        self._set([0] * 5 + ["", 0, False, n.NO_REASON, 0, 0])
        if octets is not None:
            try:
                form, *values = cborlite.decode(octets)
                lost = form != FORMAT
                if not lost:
                    self._set(values)
            except (CpnsError, TypeError, ValueError):
                lost = True
        if lost:
            self._set([0] * 3 + [LOST] * 2 + ["", 0, False, n.NO_FLOOR, 0, 0])

    def _set(self, values):
        self.good, self.trial, self.left, self.agent_number, self.firmware_number, *last = values
        self.label, self.wanted, self.of_firmware, self.reason, self.agent_failed, self.firmware_failed = last

    @property
    def starts(self):
        """How many more starts the trial has, if nothing cuts the power."""
        return self.left // QUARTERS

    def pack(self):
        """Return the octets of the record."""
        numbers = [self.good, self.trial, self.left, self.agent_number, self.firmware_number]
        last = [self.label, self.wanted, self.of_firmware, self.reason, self.agent_failed, self.firmware_failed]
        return cborlite.encode([FORMAT] + numbers + last)

    def refusal(self, firmware, number):
        """Return the reason for which update `number`, of the firmware or of the agent, is refused, or NO_REASON."""
        floor = self.firmware_number if firmware else self.agent_number
        if number <= floor:
            return n.NO_FLOOR if floor == LOST else n.OLD_NUMBER
        failed = self.firmware_failed if firmware else self.agent_failed
        return n.TRIED_BEFORE if number <= failed else n.NO_REASON

    def begin(self, trial, number, label=""):
        """Begin the trial of update `number` in slot `trial`, or FIRMWARE with the `label` of its partition."""
        self.trial, self.wanted, self.label, self.reason = trial, number, label, n.NO_REASON
        self.of_firmware = trial == FIRMWARE
        self.left = QUARTERS * (BOOTS if self.of_firmware else STARTS)

    def start(self, label, by_power=False):
        """Count a start, in the application partition `label`. Return True if the one on trial is to be booted.

        The boot loader starts a firmware on trial once; the one before chooses it again, as the power may have been
        cut. `by_power`: the power came just now, so the start before did not end by itself. A person who flips a switch
        is not to end a trial; one who does it again and again, as nothing works, is.
        """
        if self.trial == FIRMWARE and label == self.label:
            return False
        count = 1 if by_power else QUARTERS
        if self.trial and self.left >= count:
            self.left -= count
            return self.trial == FIRMWARE
        if self.trial:
            self.end_trial()
        return False

    def slot(self):
        """Return the slot of the agent that is to run."""
        return self.good if self.trial in (0, FIRMWARE) else self.trial

    def confirm(self):
        """Make what is on trial the good one, and its number the floor."""
        if self.trial == FIRMWARE:
            self.firmware_number = self.wanted
        elif self.trial:
            self.good, self.agent_number = self.trial, self.wanted
        self._end(n.NO_REASON)

    def crashed(self):
        """Note that a start of the trial ended with an error, or by the watchdog."""
        if self.trial:
            self.reason = n.CRASHED

    def end_trial(self):
        """End the trial without success, for what is known of its starts."""
        self._end(self.reason or (n.BOOT_LOADER if self.trial == FIRMWARE else n.NOT_CONFIRMED))

    def fall_back(self, reason):
        """End the trial without success."""
        self._end(reason)

    def refuse(self, firmware, number, reason):
        """Note that update `number`, of the firmware or of the agent, is not even put on trial."""
        self.wanted, self.of_firmware = number, firmware
        self._end(reason)

    def not_whole(self):
        """Note that the image in the slot that is to run is not whole."""
        if self.trial in (BASE, FIRMWARE):
            self.good = BASE
            self.reason = n.NOT_WHOLE
        else:
            self._end(n.NOT_WHOLE)

    def by_cable(self):
        """Note that files were flashed by cable: they run. The floors stay; if they are lost, they begin anew."""
        if self.agent_number == LOST:
            self.agent_number = self.firmware_number = 0
        self.good, self.wanted = BASE, 0
        self.agent_failed = self.firmware_failed = 0
        self._end(n.NO_REASON)

    def _end(self, reason):
        self.trial = self.left = 0
        self.label, self.reason = "", reason
        if reason and self.of_firmware:
            self.firmware_failed = max(self.firmware_failed, self.wanted)
        elif reason:
            self.agent_failed = max(self.agent_failed, self.wanted)


def load(store, folder=None):
    """Return the SlotRecord in `store`, a KeyStore. With `folder`, a path that ends with a slash, MARK counts, too."""
    octets = store.load(RECORD)
    if octets is not None:
        return SlotRecord(octets)
    marked = folder and MARK in os.listdir(folder)
    return SlotRecord(None, marked or lost(store, RECORD) or store.load(_UPDATE_KEY) is not None)


def begin_floors(store, folder=None):
    """Have a board that gets its first update key this record before, and with `folder` MARK, so its loss is seen."""
    save(store, load(store, folder))
    if folder:
        open(folder + MARK, "wb").close()


def save(store, record):
    """Save a SlotRecord: one write, which holds when this returns."""
    store.save(RECORD, record.pack())
