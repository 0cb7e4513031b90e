"""What can go wrong on the message plane: one class for each decision a caller can take.

Errors that a peer is told about are in `cpns.errors`; these are for this end. Their text never holds a secret.
"""

from private_store.errors import Faults


class PlaneError(Exception):
    """The base class of what this package raises. The text says what a person can do next."""

    def __init__(self, what: str, next_step: str = "") -> None:
        super().__init__(f"{what} {next_step}".strip())


class IdentityError(PlaneError):
    """A key file is missing, damaged, readable by others, or holds a key that has another job already (SEC-17)."""


class RegistrationRefused(PlaneError):
    """A credential may not be registered: malformed, or its key is bound to another entity ID already (SEC-16)."""


class NameTaken(RegistrationRefused):
    """A name is bound to another key and nobody said that this one takes its place, or it is not to be had (SEC-31)."""


class StoreError(PlaneError):
    """The session store cannot be used: damaged, of a newer version, or readable by others."""


class LeaseHeld(PlaneError):
    """Another living process holds the lease of the sessions (SEC-23)."""


class LeaseLost(PlaneError):
    """This process's lease of the sessions was taken over or has lapsed: nothing may be sent under them (SEC-23)."""


FAULTS = Faults(StoreError, StoreError, StoreError)


class PortInUse(PlaneError):
    """A UDP address could not be bound because another program listens there."""


class CannotListen(PlaneError):
    """A UDP address could not be bound: it is none, not one of this machine, or its port needs privileges."""


class NoSession(PlaneError):
    """There is no session with this entity and no known address at which to make one."""


class PeerUnreachable(PlaneError):
    """No answer in time, or none that verified."""


class HandshakeFailed(PlaneError):
    """EDHOC with this peer ended without a session: wrong credential, wrong role, or a broken message."""


class PeerRefused(PlaneError):
    """The peer verified the request and answered with an error.

    `code` is the CoAP response code as "4.03", `reason` the peer's text, at most 96 characters.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"the peer answered {code}: {reason}" if reason else f"the peer answered {code}")
        self.code = code
        self.reason = reason
