"""The error that a peer is told when its request is refused."""

from cpns.errors import CpnsError, TooMany
from gateway_agent.store.errors import StoreFailed


def refusal(error: CpnsError | StoreFailed) -> CpnsError:
    """Return the error to tell a peer. If the store has failed this is TooMany, which asks it to try again later."""
    return error if isinstance(error, CpnsError) else TooMany("nothing can be stored now; try again later")
