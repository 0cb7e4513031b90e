"""Coded frames that only the members of a Service Group can read (docs/protocol.md section 16).

    body of a sealed frame = SG alias u16 || version of the Group Key u32 || the frame, encrypted (1,024 octets)

The key is HKDF(Group Key, "keycast/update/2" || name of the group || version || id of the update), the cipher AES in
counter mode with the index of the frame in front of the counter: one key encrypts each octet of an update once, and the
same one again if it is broadcast again. There is no tag, as a frame is known by its hash once it is open.
"""

from cpns.crypto import aes
from cpns.crypto.hkdf import hkdf
from cpns.names import lp
from suit import numbers as n

HEAD = 6
_AES_BLOCK = 16


def head(sg_alias, version):
    """Return the first 6 octets of the body: which Group Key it needs."""
    return sg_alias.to_bytes(2, "big") + version.to_bytes(4, "big")


def key_named(body):
    """Return (SG alias, version) of the Group Key that the body of a sealed frame needs."""
    return int.from_bytes(body[:2], "big"), int.from_bytes(body[2:HEAD], "big")


class Seal:
    """Encrypts and decrypts the frames of one update under one Group Key."""

    def __init__(self, group_key, sg_id, version, update_id):
        info = b"keycast/update/2" + lp(sg_id) + version.to_bytes(4, "big") + update_id
        self._encrypt = aes.ecb_encryptor(hkdf(group_key, info, 16))

    def turn(self, index, octets):
        """Return coded frame `index` encrypted, or decrypted if it was: 1,024 octets."""
        stream = bytearray(n.BLOCK)
        for counter in range(n.BLOCK // _AES_BLOCK):
            at = counter * _AES_BLOCK
            stream[at] = index >> 8
            stream[at + 1] = index & 0xFF
            stream[at + 2] = counter
        aes.apply(self._encrypt, stream)
        mixed = int.from_bytes(stream, "big") ^ int.from_bytes(octets, "big")
        return mixed.to_bytes(n.BLOCK, "big")
