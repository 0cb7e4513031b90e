"""AES-GCM (NIST SP 800-38D) with any IV length and a 16-octet tag, for the key parameters' 16-octet IV.

`cryptography` where it is there; in Python on MicroPython, whose cryptolib knows only ECB and CBC: texts are short.
"""

from mikey_sakke.errors import BadParameters

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    def seal(key, iv, aad, plaintext):
        """Ciphertext and tag; `key` 16 or 32 octets, `iv` 8 to 128."""
        return AESGCM(key).encrypt(iv, plaintext, aad)

    def open_(key, iv, aad, data):
        """Return the plaintext of ciphertext and tag `data`. Raises BadParameters if the tag does not fit."""
        try:
            return AESGCM(key).decrypt(iv, data, aad)
        except (InvalidTag, ValueError):
            raise BadParameters("the key parameters do not decrypt") from None

except ImportError:
    from mikey_sakke.gcm_portable import open_, seal  # noqa: F401
