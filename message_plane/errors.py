"""The exceptions of the message plane: one class for each decision that a caller can take.

They are for callers at this end and their text never holds a secret. Errors that peers are told are in `cpns.errors`.
"""

from private_store.errors import Faults


class PlaneError(Exception):
    """The base class of the exceptions of this package. The text says what a person can do next."""

    def __init__(self, what: str, next_step: str = "") -> None:
        super().__init__(f"{what} {next_step}".strip())


class IdentityError(PlaneError):
    """A key file is missing, damaged or readable by other users, or its key has another purpose already (SEC-17)."""


class RegistrationRefused(PlaneError):
    """A credential may not be registered: malformed, or its key is bound to another entity ID already (SEC-16)."""


class NameTaken(RegistrationRefused):
    """A name is bound to another key, which no person has asked to replace, or it is reserved (SEC-31)."""


class StoreError(PlaneError):
    """The session store cannot be used: it is damaged, of a newer version, or readable by other users."""


class LeaseHeld(PlaneError):
    """Another running process holds the lease of the sessions (SEC-23)."""


class LeaseLost(PlaneError):
    """This process's lease of the sessions was taken over or has lapsed, so it must not send on them (SEC-23)."""


FAULTS = Faults(StoreError, StoreError, StoreError)


class PortInUse(PlaneError):
    """A UDP address could not be bound because another program listens there."""


class CannotListen(PlaneError):
    """A UDP address could not be bound: it is invalid, not one of this machine, or its port needs privileges."""


class BrokerFilesRefused(PlaneError):
    """The files for an MQTT broker cannot be used: missing, not private, expired, or made for another ID."""


class CertificateNotValidNow(BrokerFilesRefused):
    """The certificate for an MQTT broker has expired or is not valid yet, by the clock of this machine."""


class NoSession(PlaneError):
    """There is no session with this entity, or it has ended, and there is no known address at which to make one."""


class PeerUnreachable(PlaneError):
    """The peer has sent no answer in time, or none that verified."""


class HandshakeFailed(PlaneError):
    """EDHOC with this peer has ended without a session: wrong credential, wrong role, or a malformed message."""


class NotRegistered(HandshakeFailed):
    """This end has no credential of the peer, so no handshake was begun."""


class HandshakeRefused(HandshakeFailed):
    """The peer has ended the handshake: as a rule it does not know this end, or has another credential of it."""


class PeerRefused(PlaneError):
    """The peer has verified the request and has answered with an error.

    `code` is the CoAP response code as "4.03", `reason` the peer's text, at most 96 characters, with U+FFFD for each
    that does not print: it goes to logs and terminals.
    """

    def __init__(self, code: str, reason: str) -> None:
        reason = "".join(each if each.isprintable() else "\ufffd" for each in reason)
        super().__init__(f"the peer answered {code}: {reason}" if reason else f"the peer answered {code}")
        self.code = code
        self.reason = reason
