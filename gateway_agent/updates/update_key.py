"""The public part of the offline key that signs updates: in a file, PEM, that `keycast update key` writes.

The gateway tells it to its boards and verifies with it what it is to offer. It never has the private part.
"""

from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from cpns.errors import NotAuthentic
from message_plane.errors import IdentityError
from message_plane.identity import HasPublicX, require_distinct
from private_store import plain_file
from suit.envelope import Envelope

_FILE_MAX = 4096
_ES256 = ec.ECDSA(hashes.SHA256())


class UpdateKey:
    """A public key that signs updates. `octets` is x || y, 64 octets, as boards keep it."""

    def __init__(self, key: ec.EllipticCurvePublicKey) -> None:
        """`key` is on P-256."""
        self._key = key
        numbers = key.public_numbers()
        self.octets = numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")

    @property
    def x(self) -> bytes:
        return self.octets[:32]

    @property
    def key_id(self) -> bytes:
        """The 8 octets by which boards name the key that they have."""
        return sha256(self.octets).digest()[:8]

    @classmethod
    def load(cls, path: Path, *others: HasPublicX) -> "UpdateKey":
        """Return the key in the file `path`. Raises IdentityError, also if it equals a key of `others` (SEC-17)."""
        octets = plain_file.read(path, _FILE_MAX, IdentityError, missing="Make the key: keycast update key FILE")
        try:
            key = load_pem_public_key(octets)
            if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
                raise ValueError
        except (ValueError, UnsupportedAlgorithm):
            raise IdentityError(
                f"{path} is not the public part of a key for updates.", "Name the file FILE.pub of keycast update key."
            ) from None
        found = cls(key)
        require_distinct(found, *others)
        return found

    def pem(self) -> bytes:
        """Return what is in its file."""
        return self._key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def verify(self, update: Envelope) -> None:
        """Raise NotAuthentic unless this key has signed the update (ES256, RFC 9053 section 2.1)."""
        r, s = (int.from_bytes(update.signature[at : at + 32], "big") for at in (0, 32))
        try:
            self._key.verify(encode_dss_signature(r, s), update.to_be_signed, _ES256)
        except InvalidSignature:
            raise NotAuthentic("the update is signed by another key than that of [update]") from None
