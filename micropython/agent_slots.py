"""The choice of the slot at the start of a board, before anything but `main.py` is imported.

The files that were flashed by cable, or are frozen into the firmware, are slot 0. The record `slot`
(`device_agent/update/slot_record.py`) says whether one of the two images runs in their place (`slot_images.py`). As
long as it says slot 0, the image with the highest generation in `romfs` does, as `keycast board flash` writes one.
"""

import gc
import sys

from suit import numbers

TRIAL_MS = 300000  # a trial may hang in an import, before the agent has its own watchdog


def mount():
    """Choose the slot, and mount its image. Return True if this start is one of a trial, whose watchdog runs then.

    The start of a trial is counted before. A trial without a start left ends, and so does one whose image is not whole,
    or is none. Of what it lacks the modules of slot 0 run, which `start.py` sees.
    """
    loaded = [name for name in sys.modules if name != __name__]
    try:
        return _mount()
    finally:  # the agent in the slot has its own modules
        for name in list(sys.modules):
            if name not in loaded:
                del sys.modules[name]
        gc.collect()


def _mount():
    import machine
    import slot_images

    octets = slot_images.mapped()
    try:
        slot, trial = _chosen(octets)
    except OSError:  # the flash fails; `start.py` tells it
        slot, trial = 0, False
    if trial:
        machine.WDT(timeout=TRIAL_MS)
    if not slot and octets is not None:
        generations = slot_images.state(octets)
        slot = 1 + generations.index(max(generations)) if any(generations) else 0
    if slot:
        try:
            slot_images.mount(octets, slot)
        except Exception as error:  # whole and signed, but no image
            if not trial:
                raise
            sys.print_exception(error)
            _no_agent()
            machine.reset()
    return trial


def _chosen(octets):
    from nvs_store import NvsStore
    from slot_images import FOLDER, whole

    from device_agent.key_store import KeyStore
    from device_agent.update import slot_record

    storage = NvsStore()
    store = KeyStore(storage)
    record = slot_record.load(store, FOLDER)
    if record.refusal(False, 0) == numbers.NO_FLOOR:
        slot_record.save(store, record)  # whoever loads it later knows
    before, trial = record.pack(), record.trial
    by_power = False
    if trial:
        import machine

        cause = machine.reset_cause()
        by_power = cause == machine.PWRON_RESET
        if cause == machine.WDT_RESET:
            record.crashed()
    boot = record.start(_running() if trial == slot_record.FIRMWARE else "", by_power)
    while record.slot() and not whole(octets, record.slot()):
        record.not_whole()
    if record.pack() != before:
        try:
            slot_record.save(store, record)
        except OSError as error:  # a trial whose starts are not counted would have no end
            sys.print_exception(error)
            return (record.good if whole(octets, record.good) else 0), False
    if boot:
        _boot(record.label)
    if record.trial:
        print("keycast: update trial", record.wanted, record.starts)
    elif record.refusal(False, 0) == numbers.NO_FLOOR:
        print("keycast: update refused", 0, numbers.NO_FLOOR)
    elif record.reason and record.pack() != before:
        print("keycast: update fell-back", record.wanted, record.reason)
    if trial and not record.trial:  # the starts that failed were those of the trial
        import strikes

        strikes.over(storage)
    return record.slot(), bool(record.trial)


def _no_agent():
    from nvs_store import NvsStore

    from device_agent.key_store import KeyStore
    from device_agent.update import slot_record

    store = KeyStore(NvsStore())
    record = slot_record.load(store)
    record.fall_back(numbers.NO_AGENT)
    slot_record.save(store, record)


def _running():
    import esp32

    return esp32.Partition(esp32.Partition.RUNNING).info()[4]


def _boot(label):
    import esp32
    import machine

    try:
        esp32.Partition(label).set_boot()
    except OSError as error:  # no image of a firmware; the next start ends the trial
        print("keycast: set_boot", error)
    machine.reset()
