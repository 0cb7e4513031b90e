"""The start of a board, before its agent: its button, the count of starts, its identity. It leaves the heap again.

A board that cannot or must not start its agent says why, shows it by its light, and waits without a watchdog until an
octet comes on the serial line: then it goes to the REPL.
"""

import os
import select
import sys
import time

import machine
import status
import strikes
import wifi
from board_record import parts
from light import Light, rhythm
from nvs_store import NvsStore

from cpns import cborlite
from cpns.errors import CpnsError
from device_agent import provisioning
from device_agent.key_store import KeyStore
from suit import numbers

TICK_MS = 50
HELD_MS, STUCK_MS = 200, 6000
_SLOTS = "/agent"  # slot_images.AT
_OWN = (  # what an image with this module must have beside it
    "agent_slots application ble board board_record console describe light nvs_pages nvs_store pairing_window "
    "pne_agent pne_ble pne_end_to_end pne_start radio_memory radio_reserve rom_file slot_heap slot_images start "
    "status status_lines strikes update_slots updates watch wifi cpns/__init__ suit/__init__ device_agent/__init__"
)
_OWN_OF_VAL_CLIENT = " before_agent mikey_sakke/__init__"


def ready(trial=False):
    """Return True if the agent can be started. Otherwise say why, and return False when a tool calls.

    A `trial` of an agent that cannot be started ends: the board restarts with the one before.
    """
    storage = NvsStore()
    store = KeyStore(storage)
    if trial and _lacks():
        _end_trial(storage, store, numbers.NO_AGENT)
    _, light, kind, button, _ = parts(store)
    if button >= 0 and _held(button):
        return False
    try:
        _finish_provisioning(store)
        _install(storage, store)
        hindrance = _hindrance(storage, store)
    except OSError as error:
        hindrance = "no-storage", " (%s)" % error
    if hindrance is None:
        return True
    if hindrance and trial:
        _end_trial(storage, store)
    if hindrance:
        status.tell(*hindrance)
        _wait(Light(light, kind))
    return False


def _finish_provisioning(store):
    # Go on with what a power cut has interrupted; then start anew, with a heap in one piece
    record = store.load(provisioning.PENDING)
    if record is not None and cborlite.decode(record)[1] == provisioning.IN_FORCE:
        from device_agent import pending

        pending.finish(store)
        machine.reset()


def _install(storage, store):
    # Install what was collected of an update, if that waits
    if not _is_there((getattr(os, "getenv", lambda name: None)("BOARD_FILES") or "/") + "update.suit"):
        return
    import update_slots

    if update_slots.install(storage, store):
        machine.reset()
    update_slots.unload()


def _lacks():
    # Return a module that the image in the slot lacks, or None: the one of slot 0 would run in its place
    own, at = _OWN, sys.path[0]
    if at.startswith(_SLOTS):
        if _is_there(at + "/device_agent/val_client/__init__.mpy"):
            own += _OWN_OF_VAL_CLIENT
        for name in own.split():
            if not _is_there(at + "/" + name + ".mpy"):
                print("keycast: this update lacks", name)
                return name
    return None


def _is_there(path):
    try:
        os.stat(path)
        return True
    except OSError:
        return False


def _end_trial(storage, store, reason=numbers.NO_REASON):
    from device_agent.update import slot_record

    strikes.over(storage)
    record = slot_record.load(store)
    if reason:
        record.fall_back(reason)
    else:
        record.end_trial()
    print("keycast: update fell-back", record.wanted, record.reason)
    slot_record.save(store, record)
    machine.reset()


def _held(pin):
    # Return True if the button is pressed, and not for a moment only, and let go then: one that is stuck does nothing
    button = machine.Pin(pin, machine.Pin.IN, machine.Pin.PULL_UP)
    for passed in range(0, STUCK_MS, TICK_MS):
        if button.value():
            return passed >= HELD_MS
        if passed == HELD_MS:
            print("keycast: let go of the button for the REPL")
        time.sleep_ms(TICK_MS)
    return False


def _hindrance(storage, store):
    # Return None, or the arguments of status.tell, or False if the board goes to its REPL without a word
    from pairing_window import prepare

    try:
        has_gateway = prepare(storage, store)
    except CpnsError:
        return ("damaged",)
    finally:
        sys.modules.pop("pairing_window", None)
    if not has_gateway and store.load(provisioning.PENDING):
        return ("half-provisioned",)
    if not has_gateway and not store.load(wifi.RECORD) and not store.load("ble"):
        return ("unprovisioned",)
    if has_gateway is None:
        machine.reset()  # to a heap in one piece
    error = strikes.begin(storage)
    if isinstance(error, str):
        return ("safe-mode", "; the last error: " + (error or "none was seen"))
    return error


def _wait(light):
    line = select.poll()
    line.register(sys.stdin, select.POLLIN)
    while True:
        for on_ms, off_ms in rhythm(*status.blinks):
            for on, wait_ms in ((True, on_ms), (False, off_ms)):
                light.switch(on and wait_ms > 0)
                if line.poll(wait_ms) and sys.stdin.buffer.read(1) != b"\0":
                    light.switch(False)
                    return
