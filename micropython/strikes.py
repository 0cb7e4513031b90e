"""Starts that end within a minute, and the error that ended the agent last: the record `last` of the key store.

CBOR `[1, starts in a row, error]`. A start counts until it has lasted a minute (`watch.py`) or is ended in order. After
MAX of them the board does not start its agent: safe mode. A start with the power, or by Ctrl-D in the REPL, begins a
new row. The record is written once at each start and once after the minute, and for an error.

The error is text without secrets: the places that it went through, its class, and its words if these are of our modules
or of the system.
"""

import sys

import machine

from cpns import cborlite
from cpns.errors import CpnsError
from device_agent.key_store import KeyStore

RECORD = "last"
FORMAT = 1
MAX = 3
TO_REPL = 255  # in place of the number of starts: the next one leads to the REPL
TEXT_MAX = 240  # characters
WATCHDOG = "the watchdog reset the board"
_WORDED = CpnsError, OSError, MemoryError, ImportError


def begin(storage):
    """Count this start, in `storage` (ports.Storage), and return None, or the last error if it must be safe mode.

    Return False if this start leads to the REPL, as the end of the last one has asked for; the next one does not.
    """
    store = KeyStore(storage)
    count, text = _load(store)
    cause = machine.reset_cause()
    if cause == machine.WDT_RESET:
        text = WATCHDOG
    elif cause != machine.HARD_RESET:
        count = 0
    if count == TO_REPL:
        _save(store, 0, text)
        return False
    if count >= MAX:
        return text
    _save(store, count + 1, text)
    return None


def over(storage, to_repl=False):
    """Note that this start does not count: it has lasted long enough, or is ended in order.

    With `to_repl` the next start leads to the REPL (`begin`).
    """
    store = KeyStore(storage)
    _save(store, TO_REPL if to_repl else 0, _load(store)[1])


def note(storage, error, trial=False):
    """Note the error that ends the agent; `storage` is a ports.Storage, or None for the board's own.

    `trial`: this start may be one of a trial, whose end has this reason then.
    """
    if storage is None:
        from nvs_store import NvsStore

        storage = NvsStore()
    store = KeyStore(storage)
    if trial:
        from device_agent.update import slot_record

        record = slot_record.load(store)
        if record.trial:
            record.crashed()
            slot_record.save(store, record)
    _save(store, _load(store)[0], described(error))


def described(error):
    """Return an exception as text for the record."""
    import io

    name = type(error).__name__
    if isinstance(error, _WORDED):
        name += ": " + str(error)[: TEXT_MAX // 2]
    out = io.StringIO()
    sys.print_exception(error, out)
    places = []
    for line in out.getvalue().split("\n"):  # pyright: ignore[reportAttributeAccessIssue] - not in the stubs
        part = line.split('"')  # File "board.py", line 12, in run
        if len(part) == 3 and part[0] == "  File " and part[2].startswith(", line "):
            places.append(part[1] + " " + part[2][7:].split(",")[0])
    while places and len(name) + sum([len(place) + 2 for place in places]) > TEXT_MAX:
        places.pop(0)  # the last ones are nearest to the error
    places.append(name)
    return "; ".join(places)


def _load(store):
    # Return (starts in a row, error)
    record = store.load(RECORD)
    try:
        form, count, text = cborlite.decode(record)
        if form == FORMAT:
            return count, text
    except (CpnsError, TypeError, ValueError):
        pass
    return 0, ""


def _save(store, count, text):
    store.save(RECORD, cborlite.encode([FORMAT, count, text]))
