"""Python's search for garbage in cycles, in a process that serves and does nothing else."""

import gc

_AFTER = 20_000  # new objects: a few megabytes; by default 700, so that one update would make thousands of searches


def search_rarely() -> None:
    """Let Python search rarely from now on, and never in what is there now.

    A gateway or Server has thousands of sessions and states of deliveries, which stay. They would be looked through
    each time, and meanwhile the event loop would stand still.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_AFTER)
