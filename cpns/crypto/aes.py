"""AES: the block cipher itself, native on both sides (`cryptolib` on a board, `cryptography` on Linux).

Keys are 16 or 32 octets, because that is what boards have; another length raises ValueError.
"""

import sys

_ZERO = bytes(16)

if sys.implementation.name == "micropython":
    from cryptolib import aes  # which fixes the direction of a cipher at its first use

    def ecb_encryptor(key: bytes):
        """A function that encrypts any multiple of 16 octets, each block alone."""
        return aes(key, 1).encrypt

    def ecb_decryptor(key: bytes):
        """The function that undoes `ecb_encryptor`."""
        return aes(key, 1).decrypt

    def cbc_encryptor(key: bytes):
        """A function that encrypts the next multiple of 16 octets of one AES-CBC with a zero initial vector."""
        return aes(key, 2, _ZERO).encrypt

    def apply(function, octets: bytearray):
        """Overwrite `octets` with what `function`, one of the above, makes of them."""
        function(octets, octets)

else:
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import AES
    from cryptography.hazmat.primitives.ciphers.modes import CBC, ECB

    _ECB = ECB()

    def _checked(key):
        if len(key) not in (16, 32):
            raise ValueError("AES keys are 16 or 32 octets")
        return AES(key)

    def ecb_encryptor(key: bytes):  # as above
        return Cipher(_checked(key), _ECB).encryptor().update

    def ecb_decryptor(key: bytes):  # as above
        return Cipher(_checked(key), _ECB).decryptor().update

    def cbc_encryptor(key: bytes):  # as above
        return Cipher(_checked(key), CBC(_ZERO)).encryptor().update

    def apply(function, octets: bytearray):  # as above
        octets[:] = function(octets)
