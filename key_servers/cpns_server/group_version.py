"""Versions of Group Keys: epoch u16 ‖ counter u16, counted here and nowhere else (SEC-03).

The counter runs on into the epoch, so a version only ever grows. A number that somebody reports moves nothing.
"""

from cpns.errors import TooMany

_COUNTER_BITS = 16
_VERSION_MAX = 0xFFFFFFFF
_EPOCH_MAX = 0xFFFF


def first(epoch: int) -> int:
    """Give the number below the first version of a Service Group made in `epoch`: nothing issued yet."""
    return epoch << _COUNTER_BITS


def following(version: int) -> int:
    """Give the version, or revision, after `version`. Raises TooMany after the last one."""
    if version >= _VERSION_MAX:
        raise TooMany("the Service Group has used up its versions; create one under another SG ID")
    return version + 1


def restored(number: int, epochs: int) -> int:
    """Give where a version or revision goes on in a restored store, `epochs` epochs later.

    Everything issued after the copy was made lies below, unless the lost Server went through that many
    epochs. Raises TooMany when the epochs end.
    """
    epoch = epoch_of(number) + epochs
    if epoch > _EPOCH_MAX:
        raise TooMany("the epochs of a Service Group are used up; create one under another SG ID")
    return epoch << _COUNTER_BITS


def epoch_of(version: int) -> int:
    """Give the epoch of a version."""
    return version >> _COUNTER_BITS
