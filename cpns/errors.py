"""The exceptions of the protocol: one class for each decision that a caller can take.

A CPNS answer carries the code of the class (`numbers.ERROR_*`) and the text of the reason. A reason never holds a
secret.
"""

from cpns import numbers


class CpnsError(Exception):
    """Base of all protocol errors. `code` is one of `numbers.ERROR_*`; `reason` is a sentence for people."""

    code = numbers.ERROR_OTHER

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class MalformedMessage(CpnsError):
    """The octets are not what the table or format demands: truncated, oversized, unknown, repeated or missing."""

    code = numbers.ERROR_MALFORMED


class NotAuthentic(CpnsError):
    """A tag, proof, commitment or signature does not fit."""

    code = numbers.ERROR_NOT_AUTHENTIC


class Stale(CpnsError):
    """A version, revision, sequence number or generation is too old or was seen before."""

    code = numbers.ERROR_STALE


class NotAddressed(CpnsError):
    """A broadcast object holds no entry for this slot, or names another PN or Service Group."""

    code = numbers.ERROR_NOT_ADDRESSED


class NotMember(CpnsError):
    """The peer is not a member of the Service Group it names."""

    code = numbers.ERROR_NOT_MEMBER


class NotAllowed(CpnsError):
    """The peer's role, identity or the group's policy forbids this."""

    code = numbers.ERROR_NOT_ALLOWED


class Unknown(CpnsError):
    """No such PNE, Service Group, key or slot."""

    code = numbers.ERROR_UNKNOWN


class TooMany(CpnsError):
    """A rate, a quota or a table is exhausted; try again later or ask a person."""

    code = numbers.ERROR_TOO_MANY


def of_code(code: object) -> "type[CpnsError]":
    """Return the class whose `code` an answer carries, CpnsError for a code that is not known here."""
    for kind in (MalformedMessage, NotAuthentic, Stale, NotAddressed, NotMember, NotAllowed, Unknown, TooMany):
        if kind.code == code:
            return kind
    return CpnsError
