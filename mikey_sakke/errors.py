"""What can be wrong with a MIKEY-SAKKE message: one class for each fault, with the code that the sender gets."""


class MikeyError(Exception):
    """Base. `code` names the fault for programs, the text is a sentence for people and never holds key material."""

    code = "error"


class Malformed(MikeyError):
    """Truncated, oversized, repeated, unknown or misplaced octets."""

    code = "malformed"


class OutsideWindow(MikeyError):
    """The time of the message is outside the accepted clock window."""

    code = "outside-window"


class Replayed(MikeyError):
    """The same message was processed before, with other content than a retransmission has."""

    code = "replayed"


class WrongReceiver(MikeyError):
    """The message is not for this identity."""

    code = "wrong-receiver"


class WrongKms(MikeyError):
    """The message names another KMS than the one that provisioned the keys."""

    code = "wrong-kms"


class NoKeyForPeriod(MikeyError):
    """No key material for the key period of the message: expired, or not provisioned yet."""

    code = "no-key-for-period"


class WrongInitiator(MikeyError):
    """The initiator is not the group management server expected."""

    code = "wrong-initiator"


class BadSignature(MikeyError):
    """The ECCSI signature does not verify."""

    code = "bad-signature"


class NotDecapsulated(MikeyError):
    """SAKKE decapsulation failed."""

    code = "not-decapsulated"


class BadParameters(MikeyError):
    """The key parameters are missing where needed, do not decrypt, or do not parse."""

    code = "bad-parameters"


class Revoked(MikeyError):
    """The key parameters say that the key is revoked."""

    code = "revoked"


class Expired(MikeyError):
    """The key parameters say that the key has expired."""

    code = "expired"


class DuplicateKeyId(MikeyError):
    """The key identifier is in use for another key."""

    code = "duplicate-key-id"


class UnauthorisedGroup(MikeyError):
    """The group is not in the user's profile, or names another group management server."""

    code = "unauthorised-group"
