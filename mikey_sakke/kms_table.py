"""The elements of the KMS protocol's XML (TS 33.180 annex D): one table, for writing and for reading.

A row says what an element or attribute is called, which field of a value of `kms_values` it holds, and how. Written is
in the order of the rows; read is any.
"""

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mikey_sakke.kms_values import (
    ROLE_EXTERNAL,
    ROLE_ROOT,
    Certificate,
    CertificateCache,
    DomainList,
    ErrorReport,
    Init,
    KeyProvision,
    KeySet,
    KmsMessage,
    Request,
    Response,
    Unzoned,
)

NAMESPACE = "urn:3gpp:ns:mcsecKMSInterface:1.0"
REDIRECT_NAMESPACE = "urn:3gpp:ns:mcsecKMSKRR:1.0"

KEY_SETS_MAX = 16
CERTIFICATES_MAX = 256
DOMAINS_MAX = 64
TEXT_MAX = 1024  # characters of a URI or a text

RSK_LEN, SSK_LEN, PVT_LEN, UID_LEN = 257, 32, 65, 32


# Texts of elements and attributes


@dataclass(frozen=True, slots=True)
class Text:
    """How a value stands as text. `read` raises ValueError; `expects` completes "... is expected"."""

    expects: str
    read: Callable[[str], Any]
    write: Callable[[Any], str] = str


def _plain(pattern: str) -> Callable[[str], str]:
    accepted = re.compile(pattern)

    def read(text: str) -> str:
        if len(text) > TEXT_MAX or not accepted.fullmatch(text):
            raise ValueError
        return text

    return read


def _number(most: int, least: int = 0) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,19}", text) or not least <= int(text) <= most:
            raise ValueError
        return int(text)

    return read


# xs:dateTime, and what date libraries make of it: no seconds when they are 0, a zone without colon or minutes.
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d)(:\d\d)?(?:\.\d{1,32})?(?:([Zz])|([+-]\d\d)(?::?(\d\d))?)?", re.ASCII)


def _moment(text: str) -> int:
    found = _MOMENT.fullmatch(text)
    if not found:
        raise ValueError
    minutes, seconds, utc, hours, zone_minutes = found.groups()
    zone = "+00:00" if not hours else f"{hours}:{zone_minutes or '00'}"
    unix = int(datetime.fromisoformat(f"{minutes}{seconds or ':00'}{zone}").timestamp())
    if unix < 0:
        raise ValueError
    return unix if utc or hours else Unzoned(unix)


def _written_moment(unix: int) -> str:
    text = datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return text if isinstance(unix, Unzoned) else f"{text}Z"


def _boolean(text: str) -> bool:
    text = text.lower()
    if text not in ("true", "1", "false", "0"):
        raise ValueError
    return text in ("true", "1")


def _octets(length: int) -> Callable[[str], bytes]:
    def read(text: str) -> bytes:
        text = "".join(text.split())  # in lines, perhaps
        if len(text) != 2 * length or not re.fullmatch(r"[0-9A-Fa-f]*", text):
            raise ValueError
        return bytes.fromhex(text)

    return read


def _uid(text: str) -> bytes:
    text = "".join(text.split())
    if len(text) == 2 * UID_LEN:
        return _octets(UID_LEN)(text)
    try:
        octets = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError from None
    if len(octets) != UID_LEN:
        raise ValueError
    return octets


def _hexadecimal(length: int) -> Text:
    return Text(f"hexadecimal text of {length} octets", _octets(length), bytes.hex)


_NOT_IN_TEXT = r"\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff"
URI = Text("a URI", _plain(rf"[^\s{_NOT_IN_TEXT}]+"))
TEXT = Text(f"a text of at most {TEXT_MAX} characters", _plain(rf"(?!\s)[^{_NOT_IN_TEXT}]*(?<!\s)"))
VERSION = Text("a version such as 1.0.0", _plain(r"[0-9]{1,4}(\.[0-9]{1,4}){0,3}"))
ROLE = Text(f"{ROLE_ROOT} or {ROLE_EXTERNAL}", _plain(f"{ROLE_ROOT}|{ROLE_EXTERNAL}"))
MOMENT = Text("a date and time", _moment, _written_moment)
BOOLEAN = Text("true or false", _boolean, lambda value: "true" if value else "false")
INTEGER = Text("an integer", _number(2**31 - 1, -(2**31)))
COUNT = Text("an integer from 0", _number(2**63 - 1))
UID = Text("a UID in 64 hexadecimal digits or base64", _uid, bytes.hex)


# The table


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute: its name, the field of the value, its text, and whether it must be there."""

    name: str
    field: str
    kind: Text
    required: bool = False


@dataclass(frozen=True, slots=True)
class Element:
    """One child: name, field of the value (None: content is ignored), content; how often it must and may stand.

    `key`: the content may be typed (xsi:type), and only KeyContentType is read and written.
    """

    name: str
    field: str | None
    kind: "Text | Type"
    least: int = 1
    most: int = 1
    key: bool = False
    namespace: str = NAMESPACE

    @property
    def tag(self) -> str:
        """The qualified name."""
        return f"{{{self.namespace}}}{self.name}"


@dataclass(frozen=True, slots=True)
class Type:
    """An element with attributes and children.

    Of the fields in `choice` at most one, and at least `choice_least`, has a value.
    """

    value: type[Any]
    attributes: tuple[Attribute, ...] = ()
    children: tuple[Element, ...] = ()
    choice: tuple[str, ...] = ()
    choice_least: int = 0


_ID = Attribute("Id", "id", TEXT)
_VERSION = Attribute("Version", "version", VERSION)

_ERROR = Type(ErrorReport, (), (Element("ErrorCode", "number", INTEGER), Element("ErrorMsg", "text", TEXT, 0)))

REQUEST = Type(
    Request,
    (_ID, _VERSION),
    (
        Element("UserUri", "user_uri", URI),
        Element("KmsUri", "kms_uri", URI),
        Element("Time", "time", MOMENT),
        Element("ClientId", "client_id", TEXT, 0),
        Element("DeviceId", "device_id", TEXT, 0),
        Element("ClientReqUrl", "client_req_url", URI),
        Element("KrrList", None, TEXT, 0, namespace=REDIRECT_NAMESPACE),
        Element("ClientError", "error", _ERROR, 0),
    ),
)

_DOMAINS = Type(DomainList, (), (Element("KmsDomain", "domains", URI, 1, DOMAINS_MAX),))

CERTIFICATE = Type(
    Certificate,
    (_ID, _VERSION, Attribute("Role", "role", ROLE, True), Attribute("IsSecurityGateway", "security_gateway", BOOLEAN)),
    (
        Element("CertUri", "cert_uri", URI, 0),
        Element("KmsUri", "kms_uri", URI),
        Element("Issuer", "issuer", TEXT, 0),
        Element("ValidFrom", "valid_from", MOMENT, 0),
        Element("ValidTo", "valid_to", MOMENT, 0),
        Element("Revoked", "revoked", BOOLEAN, 0),
        Element("UserIdFormat", "user_id_format", TEXT),
        Element("UserKeyPeriod", "key_period", COUNT),
        Element("UserKeyOffset", "key_offset", COUNT),
        Element("PubEncKey", "pub_enc_key", _hexadecimal(257)),
        Element("PubAuthKey", "pub_auth_key", _hexadecimal(65)),
        Element("ParameterSet", "parameter_set", COUNT, 0),
        Element("KmsDomainList", "domain_list", _DOMAINS, 0),
    ),
)

KEY_SET = Type(
    KeySet,
    (_ID, _VERSION),
    (
        Element("KmsUri", "kms_uri", URI),
        Element("CertUri", "cert_uri", URI, 0),
        Element("Issuer", "issuer", TEXT, 0),
        Element("UserUri", "user_uri", URI),
        Element("UserID", "uid", UID),
        Element("ValidFrom", "valid_from", MOMENT, 0),
        Element("ValidTo", "valid_to", MOMENT, 0),
        Element("KeyPeriodNo", "period_number", COUNT),
        Element("Revoked", "revoked", BOOLEAN, 0),
        Element("UserDecryptKey", "rsk", _hexadecimal(RSK_LEN), key=True),
        Element("UserSigningKeySSK", "ssk", _hexadecimal(SSK_LEN), key=True),
        Element("UserPubTokenPVT", "pvt", _hexadecimal(PVT_LEN), key=True),
    ),
)

_INIT = Type(Init, (_VERSION,), (Element("KmsCertificate", "certificate", CERTIFICATE),))
_KEY_PROVISION = Type(KeyProvision, (_VERSION,), (Element("KmsKeySet", "key_sets", KEY_SET, 0, KEY_SETS_MAX),))
_CACHE = Type(
    CertificateCache,
    (_VERSION, Attribute("CacheNum", "number", COUNT)),
    (Element("KmsCertificate", "certificates", CERTIFICATE, 0, CERTIFICATES_MAX),),
)
_MESSAGE = Type(
    KmsMessage,
    (),
    (
        Element("KmsInit", "init", _INIT, 0),
        Element("KmsKeyProv", "key_provision", _KEY_PROVISION, 0),
        Element("KmsCertCache", "certificate_cache", _CACHE, 0),
    ),
    ("init", "key_provision", "certificate_cache"),
    1,
)
RESPONSE = Type(
    Response,
    (_ID, _VERSION),
    (
        Element("UserUri", "user_uri", URI),
        Element("KmsUri", "kms_uri", URI),
        Element("Time", "time", MOMENT),
        Element("KmsId", "kms_id", TEXT, 0),
        Element("ClientReqUrl", "client_req_url", URI),
        Element("KmsMessage", "message", _MESSAGE, 0),
        Element("KmsError", "error", _ERROR, 0),
    ),
    ("message", "error"),
)
