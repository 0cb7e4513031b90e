"""Versions of Group Keys: epoch u16 ‖ counter u16, counted here and nowhere else (SEC-03).

The counter runs on into the epoch, so a version only ever grows. No number that a peer reports moves it.
"""

import math

from cpns.errors import TooMany

_COUNTER_BITS = 16
_VERSION_MAX = 0xFFFFFFFF
_EPOCH_MAX = 0xFFFF
_SINCE_UNIT_S = 4


def first(epoch: int) -> int:
    """Return the number below the first version of a Service Group made in `epoch`, at which none is issued yet."""
    return epoch << _COUNTER_BITS


def following(version: int) -> int:
    """Return the version, or revision, after `version`. Raises TooMany after the last one."""
    if version >= _VERSION_MAX:
        raise TooMany("the Service Group has used up its versions; create one under another SG ID")
    return version + 1


def restored(number: int, epochs: int, since_s: int = 0) -> int:
    """Return the version or revision at which a restored store goes on: `epochs` epochs later and one more each 4 s.

    `since_s` is the number of seconds since the copy was made, 0 = not known. Everything issued after the copy was made
    lies below, unless the lost Server used that many epochs; so does what was issued since an earlier restore of this
    copy, if that was fewer than one epoch in 4 s. Raise TooMany when the epochs end.
    """
    version = first(epoch_of(number) + epochs) + max(0, since_s) // _SINCE_UNIT_S
    if epoch_of(version) > _EPOCH_MAX:
        raise TooMany("the epochs of a Service Group are used up; create one under another SG ID")
    return version


def restored_base(epoch: int, epochs: int, since_s: int = 0) -> int:
    """Return the epoch of Service Groups that are made in a restored store; groups of their names may have been before.

    It lies above that of `restored`, and of an earlier restore of the same copy, if minutes lie between them. It grows
    with the root of the time, so a copy that is a year old costs less than 3,000 epochs. Raise TooMany.
    """
    base = epoch + epochs + math.isqrt(max(0, since_s) // _SINCE_UNIT_S)
    if base > _EPOCH_MAX:
        raise TooMany("the epochs of this Server are used up")
    return base


def epoch_of(version: int) -> int:
    """Return the epoch of a version."""
    return version >> _COUNTER_BITS
