"""A small certificate authority for one broker network: certificates for brokers and clients, and a revocation list.

Its key signs nothing else. A client's name (CN) is what the broker takes as its user name.
"""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from http_door.tls import alternative_names
from key_servers.errors import SecretFileUnusable

_AUTHORITY_DAYS = 20 * 365
_CERTIFICATE_DAYS = 10 * 365
_VALID_BEFORE_DAYS = 400  # a gateway without a battery may start with a clock that is a year behind


@dataclass(frozen=True)
class Issued:
    """A new certificate with its chain's root beside it. `certificate` and `key` are PEM, `serial` its number."""

    certificate: bytes
    key: bytes
    serial: int

    def __repr__(self) -> str:
        return f"<Issued {self.serial:x}>"


class CertificateAuthority:
    """A key on P-256 and the self-signed certificate of it."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._key = key
        self._certificate = certificate

    @classmethod
    def make(cls, name: str, now: datetime.datetime) -> Self:
        """Make a new authority, whose certificate says `name` (1..64 characters)."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(name, _name(name), key.public_key(), now, _AUTHORITY_DAYS)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        return cls(key, builder.sign(key, hashes.SHA256()))

    @classmethod
    def load(cls, certificate: bytes, key: bytes) -> Self:
        """Return the authority of this certificate and private key (PEM). Raise SecretFileUnusable if they are none."""
        try:
            secret = serialization.load_pem_private_key(key, None)
            public = x509.load_pem_x509_certificate(certificate)
            if not isinstance(secret, ec.EllipticCurvePrivateKey) or secret.public_key() != public.public_key():
                raise ValueError
        except (ValueError, TypeError):
            raise SecretFileUnusable(
                "The certificate and the key of the authority are no PEM pair.",
                "Put back the ones that belong together.",
            ) from None
        return cls(secret, public)

    @property
    def certificate(self) -> bytes:
        """Its certificate (PEM)."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key(self) -> bytes:
        """Its private key (PEM, PKCS 8)."""
        return _private(self._key)

    def client(self, name: str, now: datetime.datetime) -> Issued:
        """Return a new key and certificate for a client of the broker with this name (CN, 1..64 characters)."""
        return self._issue(name, (), now)

    def broker(self, hosts: Sequence[str], now: datetime.datetime) -> Issued:
        """Return a new key and certificate for the broker that clients reach as `hosts` (host names, IP addresses).

        Raise TlsUnusable for any other name.
        """
        return self._issue(hosts[0][:64], hosts, now)

    def revocations(self, revoked: Mapping[int, int], now: datetime.datetime) -> bytes:
        """Return the list (CRL, PEM) of revoked certificates: serial number -> Unix time of the revocation.

        It is valid as long as the authority: brokers accept nobody by a list that has run out.
        """
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._certificate.subject)
        builder = builder.last_update(now).next_update(self._certificate.not_valid_after_utc)
        for serial, at in revoked.items():
            date = datetime.datetime.fromtimestamp(at, datetime.UTC)
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(date).build()
            )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _issue(self, name: str, hosts: Sequence[str], now: datetime.datetime) -> Issued:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(name, self._certificate.subject, key.public_key(), now, _CERTIFICATE_DAYS)
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(digital_signature=True), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
        )
        if hosts:
            builder = builder.add_extension(alternative_names(hosts), critical=False)
        made = builder.sign(self._key, hashes.SHA256())
        return Issued(made.public_bytes(serialization.Encoding.PEM), _private(key), made.serial_number)


def _builder(
    name: str, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime.datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=_VALID_BEFORE_DAYS))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _usage(**wanted: bool) -> x509.KeyUsage:
    every: dict[str, Any] = dict.fromkeys(
        (
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "key_cert_sign",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    return x509.KeyUsage(**every | wanted)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
