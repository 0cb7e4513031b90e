"""What travels in the KMS protocol (TS 33.180 annex D), as frozen values. Times are Unix seconds."""

from dataclasses import dataclass, field
from enum import IntEnum

ROLE_ROOT = "Root"
ROLE_EXTERNAL = "External"
UID_FORMAT = "2"


class Unzoned(int):
    """Unix seconds of a time that was written without a zone: read as UTC, but perhaps the local time of any zone."""


class ErrorNumber(IntEnum):
    """ErrorCode of a KmsError. Annex D leaves the numbers to the KMS; these are ours."""

    BAD_REQUEST = 1  # the document, or the path
    WRONG_KMS = 2  # KmsUri is another KMS
    WRONG_USER = 3  # UserUri, or the URI in the path, is not whose token it is
    WRONG_TIME = 4  # clocks differ too much
    WRONG_URL = 5  # ClientReqUrl is not where it was posted to
    USER_REVOKED = 6
    PERIOD_NOT_SERVED = 7  # neither the present nor the next key period
    NOT_VALID = 8  # the certificate of the KMS is not valid now
    TOO_MANY_REQUESTS = 9
    FAILED = 10  # a fault of the KMS


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """KmsError or ClientError: a number and, perhaps, a sentence."""

    number: int
    text: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """KmsRequest: which user asks which KMS, when, at which URL. Redirect responses (KrrList) are ignored."""

    user_uri: str
    kms_uri: str
    time: int
    client_req_url: str
    client_id: str | None = None
    device_id: str | None = None
    error: ErrorReport | None = None
    id: str | None = None
    version: str = "1.0.0"


@dataclass(frozen=True, slots=True)
class DomainList:
    """KmsDomainList: the domains whose users a KMS serves."""

    domains: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Certificate:
    """KmsCertificate: unique name and public keys of a KMS, and its key periods in seconds."""

    kms_uri: str
    key_period: int
    key_offset: int
    pub_enc_key: bytes
    pub_auth_key: bytes
    role: str = ROLE_ROOT
    cert_uri: str | None = None
    issuer: str | None = None
    valid_from: int | None = None
    valid_to: int | None = None
    revoked: bool | None = None
    user_id_format: str = UID_FORMAT
    parameter_set: int | None = None
    domain_list: DomainList | None = None
    security_gateway: bool | None = None
    id: str | None = None
    version: str = "1.1.0"


@dataclass(frozen=True, slots=True)
class KeySet:
    """KmsKeySet: one user's keys for one key period; `repr` shows none of the three."""

    kms_uri: str
    user_uri: str
    uid: bytes
    period_number: int
    rsk: bytes = field(repr=False)
    ssk: bytes = field(repr=False)
    pvt: bytes = field(repr=False)
    cert_uri: str | None = None
    issuer: str | None = None
    valid_from: int | None = None
    valid_to: int | None = None
    revoked: bool | None = None
    id: str | None = None
    version: str = "1.1.0"


@dataclass(frozen=True, slots=True)
class Init:
    """KmsInit: the certificate of the KMS asked."""

    certificate: Certificate
    version: str = "1.0.0"


@dataclass(frozen=True, slots=True)
class KeyProvision:
    """KmsKeyProv."""

    key_sets: tuple[KeySet, ...] = ()
    version: str = "1.0.0"


@dataclass(frozen=True, slots=True)
class CertificateCache:
    """KmsCertCache: certificates of other KMSs; `number` is the newest one's cache number."""

    certificates: tuple[Certificate, ...] = ()
    number: int | None = None
    version: str = "1.0.0"


@dataclass(frozen=True, slots=True)
class KmsMessage:
    """KmsMessage: exactly one of the three."""

    init: Init | None = None
    key_provision: KeyProvision | None = None
    certificate_cache: CertificateCache | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """KmsResponse: at most one of `message` and `error`."""

    user_uri: str
    kms_uri: str
    time: int
    client_req_url: str
    kms_id: str | None = None
    message: KmsMessage | None = None
    error: ErrorReport | None = None
    id: str | None = None
    version: str = "1.0.0"
