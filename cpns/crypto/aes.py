"""AES: the block cipher itself, native on both sides (`cryptolib` on a board, `cryptography` on Linux).

Keys are 16 or 32 octets, because that is what boards have; another length raises ValueError.
"""

try:
    from cryptolib import aes as _aes
except ImportError:
    _aes = None
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import AES
    from cryptography.hazmat.primitives.ciphers.modes import CBC, ECB

_ZERO = bytes(16)

if _aes:

    class AesEcb:
        """AES on single blocks; `blocks` is any multiple of 16 octets, each block on its own."""

        def __init__(self, key: bytes) -> None:
            self._key = key
            self._encrypt = None

        def encrypt(self, blocks: bytes) -> bytes:
            """The encrypted blocks."""
            # cryptolib fixes the direction of a cipher object at its first use
            if self._encrypt is None:
                self._encrypt = _aes(self._key, 1)
            return self._encrypt.encrypt(blocks)

        def decrypt(self, blocks: bytes) -> bytes:
            """The decrypted blocks."""
            return _aes(self._key, 1).decrypt(blocks)

    def cbc_encrypt(key: bytes, blocks: bytes) -> bytes:
        """AES-CBC from a zero initial vector over a multiple of 16 octets; the last block is a CBC-MAC."""
        return _aes(key, 2, _ZERO).encrypt(blocks)

else:

    class AesEcb:
        def __init__(self, key: bytes) -> None:
            self._cipher = _cipher(key, ECB())

        def encrypt(self, blocks: bytes) -> bytes:
            return self._cipher.encryptor().update(blocks)

        def decrypt(self, blocks: bytes) -> bytes:
            return self._cipher.decryptor().update(blocks)

    def cbc_encrypt(key: bytes, blocks: bytes) -> bytes:
        return _cipher(key, CBC(_ZERO)).encryptor().update(blocks)

    def _cipher(key, mode):
        if len(key) not in (16, 32):
            raise ValueError("AES keys are 16 or 32 octets")
        return Cipher(AES(key), mode)
