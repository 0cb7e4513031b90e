"""What the other side is told when its request is refused."""

from cpns.errors import CpnsError, TooMany
from gateway_agent.store.errors import StoreFailed


def refusal(error: CpnsError | StoreFailed) -> CpnsError:
    """Return what a peer is told; of a disk that is full only that it may try again."""
    return error if isinstance(error, CpnsError) else TooMany("nothing can be stored now; try again later")
