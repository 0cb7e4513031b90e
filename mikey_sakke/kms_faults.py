"""What can be wrong with what comes from the other end of the KMS protocol: one class for each fault.

`code` names the fault for programs, the text is a sentence for people. It never holds key material, nor octets that the
other end chose.
"""


class KmsFault(Exception):
    """Base of everything that is wrong with a request or response of the KMS protocol."""

    code = "kms-fault"


# The way to the KMS


class Unreachable(KmsFault):
    """No connection, or none in time."""

    code = "unreachable"


class NotTrusted(KmsFault):
    """The peer has no TLS certificate that is trusted, or one for another name."""

    code = "not-trusted"


class NotAuthorised(KmsFault):
    """The token is unknown, replaced or over."""

    code = "not-authorised"


class WrongStatus(KmsFault):
    """An HTTP status that is neither success nor comes with a KmsError: something else answered."""

    code = "wrong-status"


# The XML itself


class TooLarge(KmsFault):
    """More octets than such a document may have."""

    code = "too-large"


class DoctypeRefused(KmsFault):
    """A document type declaration, the only way to entities and to other documents."""

    code = "doctype"


class NotWellFormed(KmsFault):
    """Not well-formed XML 1.0 in UTF-8."""

    code = "not-well-formed"


class WrongRoot(KmsFault):
    """Another document than the one expected."""

    code = "wrong-root"


class WrongNamespace(KmsFault):
    """A known name in a foreign namespace."""

    code = "wrong-namespace"


class UnknownElement(KmsFault):
    """Text or a processing instruction between elements."""

    code = "unknown-element"


class RepeatedElement(KmsFault):
    """An element more often than it may stand there."""

    code = "repeated-element"


class MissingElement(KmsFault):
    """An element or attribute that must be there is not."""

    code = "missing-element"


class WrongValue(KmsFault):
    """A text that does not stand for a value of its type."""

    code = "wrong-value"


class Unsupported(KmsFault):
    """The security extension: signed documents and wrapped keys (TS 33.180 clauses D.2.2 and 5.3.3)."""

    code = "unsupported"


# What a response says


class KmsRefused(KmsFault):
    """The KMS answered with an error. `number` is its ErrorCode."""

    code = "refused"

    def __init__(self, text: str, number: int) -> None:
        super().__init__(text)
        self.number = number


class WrongVersion(KmsFault):
    """A version of the protocol other than 1."""

    code = "wrong-version"


class WrongUser(KmsFault):
    """The document is for another user than the one that asked."""

    code = "wrong-user"


class ForeignKms(KmsFault):
    """From or about another KMS than the one asked."""

    code = "wrong-kms"


class WrongRequest(KmsFault):
    """The answer to another request."""

    code = "wrong-request"


class WrongTime(KmsFault):
    """The document was made too long ago, or in the future."""

    code = "wrong-time"


# A certificate


class WrongCertificateRole(KmsFault):
    """Not the kind of certificate that was asked for."""

    code = "wrong-role"


class NotValid(KmsFault):
    """The time is not between ValidFrom and ValidTo."""

    code = "not-valid"


class RevokedMaterial(KmsFault):
    """The material is marked as revoked."""

    code = "revoked"


class WrongIdentifierFormat(KmsFault):
    """Another UserIdFormat than 2, the hashed UID."""

    code = "wrong-identifier-format"


class WrongKeyPeriod(KmsFault):
    """Key period or offset that cannot be."""

    code = "wrong-key-period"


class WrongParameterSet(KmsFault):
    """Another SAKKE parameter set than 1."""

    code = "wrong-parameter-set"


class WrongPublicKey(KmsFault):
    """PubEncKey or PubAuthKey that is no point of its curve and order."""

    code = "wrong-public-key"


class CertificateChanged(KmsFault):
    """Another certificate than the one known of this KMS."""

    code = "certificate-changed"


# A key set


class WrongCertificate(KmsFault):
    """The key set was made under another certificate."""

    code = "wrong-certificate"


class WrongPeriodNumber(KmsFault):
    """The key set is for another key period than the one asked for, or there are two for one."""

    code = "wrong-period-number"


class WrongUid(KmsFault):
    """UserID is not the UID of user, KMS and key period."""

    code = "wrong-uid"


class WrongSigningKey(KmsFault):
    """SSK and PVT do not fit identifier and KPAK (RFC 6507, 5.1.2)."""

    code = "wrong-signing-key"


class WrongDecryptionKey(KmsFault):
    """RSK does not fit identifier and Z (RFC 6508, 6.1.2)."""

    code = "wrong-decryption-key"
