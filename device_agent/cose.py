"""What of COSE (RFC 9052) and CWT (RFC 8392) a board needs: credentials, Sign1 verification, Encrypt0 AAD."""


class Credential:
    """A CCS: `.ccs` octets, `.entity_id` str, `.kid` octets, `.x` 32 octets (docs/protocol.md section 2)."""

    @staticmethod
    def of(entity_id, x):
        """-> the one credential that this entity ID and public x coordinate have."""
        raise NotImplementedError

    @staticmethod
    def parse(ccs):
        """-> Credential of received octets. Raises MalformedMessage unless they are exactly what `of` gives."""
        raise NotImplementedError


def verify_sign1(key, external_aad, payload, signature):
    """Steps -> None: check an ES256 COSE_Sign1 (protected header a10126) with a p256.VerifyingKey. Raises NotAuthentic."""
    raise NotImplementedError


def encrypt0_aad(protected, external_aad):
    """-> Enc_structure of COSE_Encrypt0 (RFC 9052, 5.3), both arguments octets."""
    raise NotImplementedError
