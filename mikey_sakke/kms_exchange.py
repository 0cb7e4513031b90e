"""The client's side of the KMS protocol (TS 33.180 annex D) without I/O: what to post, and the checks of answers.

    exchange = Exchange("https://kms.example.org", "kms.example.org", "sip:alice@example.org")
    ask = exchange.init(now)                                    # post ask.body to ask.url
    certificate = exchange.certificate(ask, octets, now)        # checked
    ask = exchange.keys(now)
    key_sets = exchange.key_sets(ask, octets, now, certificate) # checked: UID, SSK and PVT, RSK

Every fault is one KmsFault of `kms_faults`, and then nothing of the response may be used. `now` is Unix seconds. The
checks of keys take some hundred milliseconds of processor time.
"""

from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from mikey_sakke import eccsi, i_message, sakke
from mikey_sakke.curve import Curve, NotOnCurve, run
from mikey_sakke.identifiers import NTP_OFFSET, key_period_bounds, key_period_number, uid
from mikey_sakke.kms_faults import (
    ForeignKms,
    KmsRefused,
    MissingElement,
    NotValid,
    RevokedMaterial,
    WrongCertificate,
    WrongCertificateRole,
    WrongDecryptionKey,
    WrongIdentifierFormat,
    WrongKeyPeriod,
    WrongParameterSet,
    WrongPeriodNumber,
    WrongPublicKey,
    WrongRequest,
    WrongSigningKey,
    WrongTime,
    WrongUid,
    WrongUser,
    WrongValue,
    WrongVersion,
)
from mikey_sakke.kms_values import (
    ROLE_EXTERNAL,
    ROLE_ROOT,
    UID_FORMAT,
    Certificate,
    KeySet,
    KmsMessage,
    Request,
    Response,
    Unzoned,
)
from mikey_sakke.kms_xml import decode, encode

ROOT_PATH = "/keymanagement/identity/v1/"
CLOCKS_DIFFER_MAX_S = 300  # between client and KMS: the same as between the ends of a MIKEY message
ZONE_EAST_MAX_S, ZONE_WEST_MAX_S = 14 * 3600, 12 * 3600  # local time ahead of UTC and behind it, at most
ZONE_STEP_S = 15 * 60  # between one zone and the next
KEY_PERIOD_MIN_S = 60
KEY_PERIOD_MAX_S = 10 * 366 * 86400
_ERA_S = 1 << 32  # 64-bit NTP times count their seconds modulo this


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to post: `body` (application/xml) to `url`. `moment`: the time whose key period is asked for."""

    url: str
    body: bytes
    moment: int


class Exchange:
    """What one user says to one KMS. `base_url` is scheme and authority, `kms_uri` its unique name."""

    def __init__(self, base_url: str, kms_uri: str, user_uri: str) -> None:
        self.base_url = base_url.rstrip("/")
        self.kms_uri = kms_uri
        self.user_uri = user_uri

    def init(self, now: int) -> Ask:
        """Ask for the certificate of the KMS."""
        return self._ask("init", now, now)

    def keys(self, now: int, moment: int | None = None) -> Ask:
        """Ask for the keys of the present key period, or of the one that holds `moment` (Unix seconds)."""
        if moment is None:
            return self._ask("keyprov", now, now)
        return self._ask(f"keyprov/{quote(self.user_uri, safe='')}/{ntp_text(moment)}", now, moment)

    def cache(self, now: int, newer_than: int | None = None) -> Ask:
        """Ask for the certificates of other KMSs, all or those newer than a cache number."""
        return self._ask("certcache" if newer_than is None else f"certcache/{newer_than}", now, now)

    def certificate(self, ask: Ask, octets: bytes, now: int) -> Certificate:
        """Return the certificate in the answer to `init`, checked."""
        init = self.message(ask, octets, now).init
        if init is None:
            raise MissingElement("KmsResponse/KmsMessage/KmsInit is missing.")
        check_version(init.version)
        if init.certificate.kms_uri != self.kms_uri:
            raise ForeignKms(f"The certificate is not that of {self.kms_uri}.")
        if init.certificate.security_gateway:
            raise WrongCertificateRole("The certificate is that of a security gateway.")
        check_certificate(init.certificate, ROLE_ROOT, now)
        return init.certificate

    def key_sets(self, ask: Ask, octets: bytes, now: int, certificate: Certificate) -> tuple[KeySet, ...]:
        """Return the key sets in the answer to `keys`, all checked: of the period asked for, perhaps also the next."""
        provision = self.message(ask, octets, now).key_provision
        if provision is None:
            raise MissingElement("KmsResponse/KmsMessage/KmsKeyProv is missing.")
        check_version(provision.version)
        kms = community(certificate)
        asked = kms.number_at(ask.moment + NTP_OFFSET)
        numbers = [key_set.period_number for key_set in provision.key_sets]
        if asked not in numbers or not {asked, asked + 1}.issuperset(numbers) or len(set(numbers)) < len(numbers):
            raise WrongPeriodNumber(f"Not the keys of key period {asked}.")
        for key_set in provision.key_sets:
            check_key_set(key_set, certificate, kms, self.user_uri, ask.moment)
        return provision.key_sets

    def certificates(self, ask: Ask, octets: bytes, now: int) -> tuple[tuple[Certificate, ...], int | None]:
        """Return the certificates of other KMSs in the answer to `cache`, checked, and the cache number."""
        cache = self.message(ask, octets, now).certificate_cache
        if cache is None:
            raise MissingElement("KmsResponse/KmsMessage/KmsCertCache is missing.")
        check_version(cache.version)
        for certificate in cache.certificates:
            if certificate.kms_uri == self.kms_uri:
                raise ForeignKms("The KMS asked is among the others.")
            check_certificate(certificate, ROLE_EXTERNAL, now)
        return cache.certificates, cache.number

    def message(self, ask: Ask, octets: bytes, now: int) -> KmsMessage:
        """Return the message in the answer to `ask`, unchecked. Raises KmsRefused for a KmsError."""
        response = decode(octets, Response)
        check_version(response.version)
        if response.kms_uri != self.kms_uri:
            raise ForeignKms(f"The answer is not from {self.kms_uri}.")
        if response.error is not None:
            raise KmsRefused(f"The KMS refused: {response.error.text} ({response.error.number})", response.error.number)
        if response.user_uri != self.user_uri:
            raise WrongUser(f"The answer is not for {self.user_uri}.")
        if not same_resource(response.client_req_url, ask.url):
            raise WrongRequest("The answer is to another request.")
        if clocks_differ(response.time, now):
            raise WrongTime(f"The clock of the KMS differs by more than {CLOCKS_DIFFER_MAX_S} s.")
        if response.message is None:
            raise MissingElement("KmsResponse/KmsMessage is missing.")
        return response.message

    def _ask(self, path: str, now: int, moment: int) -> Ask:
        url = f"{self.base_url}{ROOT_PATH}{path}"
        return Ask(url, encode(Request(self.user_uri, self.kms_uri, now, url)), moment)


def community(certificate: Certificate, teeth: int = 8) -> i_message.Kms:
    """Return the KMS of a certificate, with the precomputation for receiving and sending (a few hundred milliseconds).

    `teeth` is that of the combs: one more doubles their memory, some 0.7 MB with 8, and makes sending faster.
    """
    try:
        return i_message.Kms(
            certificate.kms_uri,
            certificate.key_period,
            certificate.key_offset,
            eccsi.Community(certificate.pub_auth_key, teeth),
            sakke.Community(certificate.pub_enc_key, teeth),
        )
    except (NotOnCurve, ZeroDivisionError):
        raise WrongPublicKey("PubEncKey or PubAuthKey is no point of its curve and order.") from None


def check_version(version: str) -> None:
    """Raise WrongVersion unless it is 1 or 1.something."""
    if version.split(".")[0] != "1":
        raise WrongVersion("A version of the KMS protocol other than 1.")


def check_certificate(certificate: Certificate, role: str, now: int) -> None:
    """Raise what is wrong with a certificate that should be of `role` and valid at `now`."""
    check_version(certificate.version)
    if certificate.role != role:
        raise WrongCertificateRole(f"A certificate of the role {role} is expected.")
    if certificate.revoked:
        raise RevokedMaterial(f"The certificate of {certificate.kms_uri} is revoked.")
    _check_valid(certificate.valid_from, certificate.valid_to, now, f"The certificate of {certificate.kms_uri}")
    if certificate.user_id_format != UID_FORMAT:
        raise WrongIdentifierFormat(f"Only UserIdFormat {UID_FORMAT}, the hashed UID, is known.")
    if not KEY_PERIOD_MIN_S <= certificate.key_period <= KEY_PERIOD_MAX_S:
        raise WrongKeyPeriod(f"A key period has {KEY_PERIOD_MIN_S} to {KEY_PERIOD_MAX_S} s.")
    if certificate.key_offset >= certificate.key_period:
        raise WrongKeyPeriod("The offset of key periods is not below the period.")
    if certificate.parameter_set not in (None, 1):
        raise WrongParameterSet("Only SAKKE parameter set 1 is known.")
    _check_point(sakke.CURVE, certificate.pub_enc_key, "PubEncKey")
    _check_point(eccsi.P256, certificate.pub_auth_key, "PubAuthKey")


def check_key_set(key_set: KeySet, certificate: Certificate, kms: i_message.Kms, user_uri: str, moment: int) -> None:
    """Raise what is wrong with a key set of `user_uri`; `kms`: `community(certificate)`.

    It must be valid at `moment` (Unix seconds), or from the start of its key period if that is later.
    """
    check_version(key_set.version)
    if key_set.kms_uri != certificate.kms_uri:
        raise ForeignKms(f"The key set is not of {certificate.kms_uri}.")
    if None not in (key_set.cert_uri, certificate.cert_uri) and key_set.cert_uri != certificate.cert_uri:
        raise WrongCertificate("The key set names another certificate.")
    if None not in (key_set.issuer, certificate.issuer) and key_set.issuer != certificate.issuer:
        raise WrongCertificate("The key set names another issuer than the certificate.")
    if key_set.user_uri != user_uri:
        raise WrongUser(f"The key set is not of {user_uri}.")
    if key_set.revoked:
        raise RevokedMaterial(f"The key set of {user_uri} is revoked.")
    first, last = period_bounds(certificate, key_set.period_number)
    valid_to = key_set.valid_to
    if isinstance(valid_to, Unzoned) and -ZONE_WEST_MAX_S <= valid_to - last <= ZONE_EAST_MAX_S + 1:
        valid_to = last + 1  # the end of the period in some zone
    _check_valid(key_set.valid_from, valid_to, max(moment, first), f"The key set of {user_uri}")
    if valid_to is not None and valid_to > last + 1:
        raise NotValid(f"The key set of {user_uri} claims to be valid beyond its key period.")
    identifier = kms.uid(user_uri, key_set.period_number)
    if key_set.uid != identifier:
        raise WrongUid(f"UserID is not the UID of {user_uri} in key period {key_set.period_number}.")
    signing_key(key_set, kms)
    try:
        decryption_key(key_set, kms).check()
    except sakke.BadKey as error:
        raise WrongDecryptionKey(f"{error}.") from None


def signing_key(key_set: KeySet, kms: i_message.Kms) -> eccsi.SigningKey:
    """Return the signing key of a key set, checked (RFC 6507, 5.1.2). Raises WrongSigningKey."""
    try:
        return eccsi.SigningKey(kms.signatures, key_set.uid, key_set.ssk, key_set.pvt)
    except eccsi.BadKey as error:
        raise WrongSigningKey(f"{error}.") from None


def decryption_key(key_set: KeySet, kms: i_message.Kms) -> sakke.DecryptionKey:
    """Return the decryption key of a key set, not checked against Z. Raises WrongDecryptionKey."""
    try:
        return sakke.DecryptionKey(kms.encryption, key_set.uid, key_set.rsk)
    except sakke.BadKey as error:
        raise WrongDecryptionKey(f"{error}.") from None


def period_number(certificate: Certificate, moment: int) -> int:
    """Number of the key period that holds `moment` (Unix seconds)."""
    return int(key_period_number(moment + NTP_OFFSET, certificate.key_period, certificate.key_offset))


def period_bounds(certificate: Certificate, number: int) -> tuple[int, int]:
    """Return (first, last) Unix second of a key period."""
    first, last = key_period_bounds(number, certificate.key_period, certificate.key_offset)
    return first - NTP_OFFSET, last - NTP_OFFSET


def uid_of(certificate: Certificate, user_uri: str, number: int) -> bytes:
    """Return the UID of a user in a key period."""
    return bytes(uid(user_uri, certificate.kms_uri, certificate.key_period, certificate.key_offset, number))


def ntp_text(moment: int) -> str:
    """Return the 64-bit NTP time of `moment` (Unix seconds) in 16 hexadecimal digits, as it stands in a URL."""
    return f"{(moment + NTP_OFFSET) % _ERA_S:08X}{0:08X}"


def moment_of(text: str, now: int) -> int:
    """`ntp_text` undone, in the NTP era that brings it nearest to `now`. Raises WrongValue."""
    if len(text) != 16 or not set(text) <= set("0123456789abcdefABCDEF"):
        raise WrongValue("An NTP time in 16 hexadecimal digits is expected.")
    behind = (now + NTP_OFFSET - int(text[:8], 16) + _ERA_S // 2) % _ERA_S - _ERA_S // 2
    return now - behind


def clocks_differ(moment: int, now: int) -> bool:
    """Return True if two clocks are too far apart.

    What was written without a zone may be the local time of any zone.
    """
    ahead = moment - now
    if isinstance(moment, Unzoned):
        zones = round(ahead / ZONE_STEP_S) * ZONE_STEP_S
        ahead -= min(max(zones, -ZONE_WEST_MAX_S), ZONE_EAST_MAX_S)
    return abs(ahead) > CLOCKS_DIFFER_MAX_S


def same_resource(url: str, other: str) -> bool:
    """Return True if the paths of two URLs name the same resource, however they are percent-encoded.

    One of them may name it less exactly: without the number or time, or without the user too, as in `keyprov` for
    `keyprov/<URI>`.
    """
    try:
        ours, theirs = _resource(url), _resource(other)
    except ValueError:
        return False
    return all(a == b for a, b in zip(ours, theirs, strict=False))


def _resource(url: str) -> list[str]:
    """Return what comes before ROOT_PATH, and the parts after it: resource, user URI, NTP time. Raises ValueError."""
    before, root, after = urlsplit(url).path.partition(ROOT_PATH)
    parts = [unquote(part, errors="strict") for part in after.strip("/").split("/")]
    if not root or not parts[0]:
        raise ValueError
    return [unquote(before, errors="strict"), *parts[:2], *(part.upper() for part in parts[2:])]


def _check_valid(valid_from: int | None, valid_to: int | None, moment: int, what: str) -> None:
    """A start without a zone may be the local time of any zone; an end is UTC then."""
    if valid_from is not None and moment < valid_from - (ZONE_EAST_MAX_S if isinstance(valid_from, Unzoned) else 0):
        raise NotValid(f"{what} is not valid yet.")
    if valid_to is not None and moment > valid_to:
        raise NotValid(f"{what} is not valid any more.")


def _check_point(curve: Curve, octets: bytes, name: str) -> None:
    """The point must have the order q: encapsulating to another would tell about the secret."""
    try:
        point = curve.decode(octets)
        # a point of small order meets infinity where the multiplication does not expect it
        right = curve.affine(run(curve.multiply(curve.q - 1, point))) == (point[0], curve.p - point[1])
    except (NotOnCurve, ZeroDivisionError, TypeError):
        right = False
    if not right:
        raise WrongPublicKey(f"{name} is no point of its curve and order.")
