"""Numbers of CPNS as people read them, in every log, answer and page the same. CPython only."""

from cpns import numbers

_REASONS = {
    numbers.REASON_CREATE: "the group is new",
    numbers.REASON_JOIN: "a board has joined",
    numbers.REASON_LEAVE: "a board has gone, or may have",
    numbers.REASON_PERIODIC: "its time has come",
    numbers.REASON_BY_HAND: "asked for",
}


def version_text(version: int) -> str:
    """The version of a Group Key, 32 bits with the epoch above the counter, as "epoch.counter"; "-" for none (0)."""
    return f"{version >> 16}.{version & 0xFFFF}" if version else "-"


def reason_text(reason: int) -> str:
    """Why there is a new version of a Group Key: `reason` is one of `cpns.numbers.REASON_*`, or a later one."""
    return _REASONS.get(reason, f"reason {reason}")
