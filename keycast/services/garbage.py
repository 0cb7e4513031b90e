"""Python's search for garbage in cycles, in a process that has just begun, and in one that serves."""

import atexit
import gc

_AFTER = 20_000  # new objects: a few megabytes; by default 700, so that one update would make thousands of searches
_AT_FIRST = 200_000  # what a command imports is less: a gateway about 120,000, and next to nothing of it is garbage


def leave_alone() -> None:
    """Let Python search next to never until `search_rarely`, and not at the end of the process.

    What a command loads is no garbage, and the system takes it back as a whole when the process ends. To search it
    meanwhile and at the end would be a quarter of the work of a short command.
    """
    gc.set_threshold(_AT_FIRST)
    atexit.register(gc.freeze)  # after it, Python's last search finds nothing to look at


def keep_modules() -> None:
    """Let Python never search in what this process has imported: a service calls it before it makes anything.

    `search_rarely` then looks only at what the service has made since: a few thousand objects instead of 120,000. This
    does nothing in a process that did not begin by `leave_alone`, as that has more than modules.
    """
    if gc.get_threshold()[0] == _AT_FIRST:
        gc.freeze()


def search_rarely() -> None:
    """Let Python search rarely from now on, and never in what is there now.

    A gateway or Server has thousands of sessions and states of deliveries, which stay. They would be looked through
    each time, and meanwhile the event loop would stand still.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_AFTER)
