"""AES: the block cipher itself, native on both sides (`cryptolib` on a board, `cryptography` on Linux).

Keys are 16 or 32 octets, because that is what boards have; another length raises ValueError.
"""

try:
    from cryptolib import aes as _cryptolib_aes
except ImportError:
    _cryptolib_aes = None
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import AES
    from cryptography.hazmat.primitives.ciphers.modes import CBC, ECB

_ZERO = bytes(16)

if _cryptolib_aes:

    class AesEcb:
        """AES on single blocks: arguments are any multiple of 16 octets, each block is worked on alone."""

        def __init__(self, key: bytes) -> None:
            # cryptolib fixes the direction of a cipher at its first use: one object for each direction
            self.encrypt = _cryptolib_aes(key, 1).encrypt
            self.decrypt = _cryptolib_aes(key, 1).decrypt

    def cbc_encryptor(key: bytes):
        """A function that encrypts the next multiple of 16 octets of one AES-CBC with a zero initial vector."""
        return _cryptolib_aes(key, 2, _ZERO).encrypt

else:
    _ECB = ECB()

    def _checked(key):
        if len(key) not in (16, 32):
            raise ValueError("AES keys are 16 or 32 octets")
        return AES(key)

    class AesEcb:  # as above
        def __init__(self, key: bytes) -> None:
            self._cipher = Cipher(_checked(key), _ECB)

        def encrypt(self, blocks: bytes) -> bytes:
            return self._cipher.encryptor().update(blocks)

        def decrypt(self, blocks: bytes) -> bytes:
            return self._cipher.decryptor().update(blocks)

    def cbc_encryptor(key: bytes):  # as above
        return Cipher(_checked(key), CBC(_ZERO)).encryptor().update
