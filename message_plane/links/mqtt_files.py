"""The files with which a client of an MQTT broker proves itself, and whether a broker can accept them.

A broker knows its clients by the common name (CN) of their certificates, which is the tag of the gateway or Server
(`mqtt_topics.tag_of`); its access list lets each use the topics of its own tag only. A certificate of another name
would connect, and then nothing would arrive. It is told here, before a connection is made.
"""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import NameOID

from message_plane.errors import BrokerFilesRefused, CertificateNotValidNow
from message_plane.links.mqtt_section import BrokerFiles
from message_plane.links.mqtt_socket import ClosingTlsSocket
from private_store import files, plain_file

_PASSWORD_MAX = 4096
_NO_PASSWORD = "Write the password of the user into it, with mode 0600, or name the right file."


def check(own: BrokerFiles, tag: str, now: datetime.datetime, *, is_server: bool = False) -> None:
    """Raise BrokerFilesRefused, which names the file and the next step, unless a client with this `tag` can use `own`.

    A file must be there and hold what it should; key and password must be private to this user. The certificate must be
    valid at `now` (with a time zone; CertificateNotValidNow), belong to the key, and have the tag as its CN. With
    `is_server` the CN may also be the tag, a hyphen and more: each process of one Server has a certificate of its own.
    """
    if own.password is not None:
        files.check(own.password, BrokerFilesRefused, missing=_NO_PASSWORD)
    if own.ca is not None:
        _certificates(own.ca)
    if own.certificate is None:
        return
    certificate = _certificates(own.certificate)[0]
    if own.key is None:
        raise BrokerFilesRefused(f"The certificate {own.certificate} has no key.", "Name the file with its key, too.")
    _check_pair(certificate, own.certificate, own.key)
    _check_name(certificate, own.certificate, tag, is_server)
    _check_dates(certificate, own.certificate, now)


def common_name(own: BrokerFiles) -> str:
    """Return the CN of the certificate of a client, "" if there is none. Raises BrokerFilesRefused."""
    names = [] if own.certificate is None else _names(_certificates(own.certificate)[0])
    return names[0] if len(names) == 1 else ""


def tls_context(own: BrokerFiles) -> ssl.SSLContext:
    """Return the context with which a client verifies a broker and proves itself. Raises BrokerFilesRefused.

    Without `own.ca` the authorities of the system are trusted.
    """
    if own.ca is None:
        context = ssl.create_default_context()
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # it verifies the name of the broker, too
        _load(own.ca, lambda: context.load_verify_locations(own.ca))
    context.sslsocket_class = ClosingTlsSocket
    if own.certificate is not None:
        certificate = own.certificate
        _load(certificate, lambda: context.load_cert_chain(certificate, own.key, password=_no_password))
    return context


def password_of(own: BrokerFiles) -> str | None:
    """Return the password of the user, None if there is none. Raises BrokerFilesRefused."""
    if own.password is None:
        return None
    octets = files.read(own.password, BrokerFilesRefused, missing=_NO_PASSWORD, most=_PASSWORD_MAX)
    return octets.decode("utf-8", "replace").rstrip("\r\n")


def _load(path: Path, load: Callable[[], None]) -> None:
    try:
        load()
    except (OSError, ssl.SSLError, ValueError) as error:
        raise BrokerFilesRefused(f"TLS cannot use {path} ({type(error).__name__}).", "Check that it is PEM.") from None


def _no_password() -> str:
    # without this OpenSSL would ask for a password at the terminal
    raise ValueError("the key is encrypted")


def _certificates(path: Path) -> list[x509.Certificate]:
    octets = plain_file.read(path, plain_file.PEM_MAX, BrokerFilesRefused)
    try:
        return x509.load_pem_x509_certificates(octets)
    except ValueError:
        raise BrokerFilesRefused(f"{path} holds no certificate.", "Name a file in PEM.") from None


def _check_pair(certificate: x509.Certificate, path: Path, key_path: Path) -> None:
    octets = files.read(key_path, BrokerFilesRefused)
    try:
        key = load_pem_private_key(octets, None)
    except TypeError:  # without the password that opens it
        raise BrokerFilesRefused(
            f"The key {key_path} is encrypted, and nobody is there to type its password.",
            f"Decrypt it: openssl pkey -in {key_path} -out FILE",
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise BrokerFilesRefused(f"{key_path} holds no private key.", "Name a file in PEM.") from None
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if key.public_key().public_bytes(*form) != certificate.public_key().public_bytes(*form):
        raise BrokerFilesRefused(f"{key_path} is not the key of {path}.", "Name the two that were made together.")


def _check_dates(certificate: x509.Certificate, path: Path, now: datetime.datetime) -> None:
    if now > certificate.not_valid_after_utc:
        ended = certificate.not_valid_after_utc.date().isoformat()
        raise CertificateNotValidNow(
            f"The certificate {path} was valid until {ended}.", "Ask the operator of the broker for a new one."
        )
    if now < certificate.not_valid_before_utc:
        begins = certificate.not_valid_before_utc.date().isoformat()
        raise CertificateNotValidNow(
            f"The certificate {path} is valid from {begins} on, and this machine has {now.date().isoformat()}.",
            "Set its clock.",
        )


def _names(certificate: x509.Certificate) -> list[str]:
    return [str(each.value) for each in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]


def _check_name(certificate: x509.Certificate, path: Path, tag: str, is_server: bool) -> None:
    names = _names(certificate)
    if names == [tag] or (is_server and len(names) == 1 and names[0].startswith(f"{tag}-")):
        return
    found = f"the CN {names[0]}" if names else "no CN"
    raise BrokerFilesRefused(
        f"The certificate {path} has {found}, and that of this ID must have {tag}.",
        "Use the certificate that was made for this ID, or correct the ID.",
    )
