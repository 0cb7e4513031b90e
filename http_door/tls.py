"""TLS of a server: its certificate from a pair of files, and a self-signed pair for a lab."""

import datetime
import ipaddress
import os
import re
import ssl
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from http_door import tuning
from http_door.errors import TlsKeyUnusable, TlsUnusable
from private_store import files, folders, plain_file

_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}$)(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return a context for TLS 1.2 or newer with this certificate (PEM) and key (PEM, mode 0600). Raise DoorError."""
    files.check(key, TlsKeyUnusable)
    plain_file.read(certificate, plain_file.PEM_MAX, TlsUnusable)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # a stranger could make the server do the costly half again and again
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ssl.SSLError, ValueError) as error:
        raise TlsUnusable(
            f"TLS cannot use {certificate} and {key} ({type(error).__name__}).", "Check that they are a PEM pair."
        ) from None
    return context


def make_self_signed(certificate: Path, key: Path, names: Sequence[str], now: datetime.datetime) -> None:
    """Make a P-256 key (a new file, mode 0600) and a self-signed certificate for `names` (host names or IP addresses).

    Clients pin the certificate file. Raise DoorError for other names, files that are there already, and a full disk;
    then no file is left.
    """
    _check_new(certificate, key)
    alternatives = alternative_names(names)
    secret = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    usage = x509.KeyUsage(True, False, False, False, False, True, False, False, False)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))  # clients' clocks may be behind
        .not_valid_after(now + datetime.timedelta(days=tuning.TLS_CERTIFICATE_DAYS))
        .add_extension(alternatives, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(secret.public_key()), critical=False)
        .sign(secret, hashes.SHA256())
    )
    key.parent.mkdir(mode=folders.MODE, parents=True, exist_ok=True)
    files.write_new(
        key,
        secret.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        TlsKeyUnusable,
    )
    try:
        with open(certificate, "xb") as file:
            file.write(made.public_bytes(serialization.Encoding.PEM))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        erase(certificate, key)
        raise TlsUnusable(f"Cannot write {certificate}: {error.strerror}.", "Check the space on its disk.") from None


def erase(certificate: Path, key: Path) -> None:
    """Remove a pair that is not needed after all. Raise TlsKeyUnusable."""
    certificate.unlink(missing_ok=True)
    files.erase(key, TlsKeyUnusable)


def alternative_names(names: Sequence[str]) -> x509.SubjectAlternativeName:
    """Return `names` (host names or IP addresses) as a certificate has them. Raise TlsUnusable for any other name."""
    for name in names:
        if not isinstance(_general_name(name), x509.IPAddress) and not _HOST_NAME.fullmatch(name):
            raise TlsUnusable(
                f"{name!a} is neither a host name nor an IP address.", "Write kms.example.org or 192.168.1.10."
            )
    return x509.SubjectAlternativeName([_general_name(name) for name in names])


def _check_new(certificate: Path, key: Path) -> None:
    for path in (certificate, key):
        if os.path.lexists(path):
            raise TlsUnusable(f"{path} exists already.", "Use it, or move it away first.")


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name if name.isascii() else "")


def _no_password() -> str:
    # without this OpenSSL would ask for a password at the terminal, and the server would hang
    raise ValueError("the key is encrypted")
