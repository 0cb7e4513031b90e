"""The parts of COSE (RFC 9052) and CWT (RFC 8392) that a board needs: credentials, Sign1 verification, Encrypt0 AAD."""

from hashlib import sha256

from cpns.cborlite import decode, encode
from cpns.errors import MalformedMessage
from cpns.tuning import CREDENTIAL_ID_MAX

ES256 = b"\xa1\x01\x26"  # protected header {1: -7}


class Credential:
    """A CCS: `.ccs` octets, `.entity_id` str, `.kid` octets, `.x` 32 octets (docs/protocol.md section 2)."""

    def __init__(self, ccs, entity_id, kid, x):
        self.ccs = ccs
        self.entity_id = entity_id
        self.kid = kid
        self.x = x

    @staticmethod
    def of(entity_id, x):
        """Return the only credential of this entity ID and public x coordinate. Raises MalformedMessage."""
        if len(x) != 32 or not 0 < len(entity_id.encode()) <= CREDENTIAL_ID_MAX:
            raise MalformedMessage("credential out of range")
        kid = sha256(x).digest()[:8]
        return Credential(encode({2: entity_id, 8: {1: {1: 2, 2: kid, -1: 1, -2: x}}}), entity_id, kid, bytes(x))

    @staticmethod
    def parse(ccs):
        """Return the Credential in received octets. Raises MalformedMessage unless they are exactly what `of` makes."""
        try:
            claims = decode(ccs)
            entity_id = claims[2]
            x = claims[8][1][-2]
            if isinstance(entity_id, str) and isinstance(x, bytes):
                credential = Credential.of(entity_id, x)
                if credential.ccs == ccs:
                    return credential
        except (TypeError, KeyError, IndexError):  # the octets are CBOR, but have another shape
            pass
        raise MalformedMessage("not a credential of ours")


def verify_sign1(key, external_aad, payload, signature):
    """Verify, in steps, an ES256 COSE_Sign1 (protected header a10126) with `key`, a p256.VerifyingKey.

    `external_aad` and `payload` are octets, `signature` has 64 octets (RFC 9052, 4.4). Raises NotAuthentic.
    """
    digest = sha256(encode(["Signature1", ES256, external_aad, payload])).digest()
    yield from key.verify(digest, signature)


def encrypt0_aad(protected, external_aad):
    """Return the Enc_structure of COSE_Encrypt0 (RFC 9052, 5.3) as octets; both arguments are octets."""
    return encode(["Encrypt0", protected, external_aad])
