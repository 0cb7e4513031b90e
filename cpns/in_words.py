"""Numbers of CPNS as text for people, the same in every log, answer and page. CPython only."""

from cpns import numbers

_REASONS = {
    numbers.REASON_CREATE: "the group is new",
    numbers.REASON_JOIN: "a board has joined",
    numbers.REASON_LEAVE: "a board has gone, or may have",
    numbers.REASON_PERIODIC: "its time has come",
    numbers.REASON_BY_HAND: "asked for",
}


def version_text(version: int) -> str:
    """Return the version of a Group Key (u32, the epoch in the upper half) as "epoch.counter", or "-" for 0, no key."""
    return f"{version >> 16}.{version & 0xFFFF}" if version else "-"


def reason_text(reason: int) -> str:
    """Return in words why there is a new Group Key. `reason` is one of `cpns.numbers.REASON_*`, or a later number."""
    return _REASONS.get(reason, f"reason {reason}")
