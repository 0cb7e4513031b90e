"""Receipts: what this PN GW's store knew, in its own hand and given to PNEs to keep (SEC-02, SEC-34).

A receipt = version u32 ‖ generation u16 ‖ MAC (8) says to one PNE that the store knew this version of a Service Group
and this generation of the tree. PNEs keep it unread and show it with each pull. A store that finds its own receipt for
more than it knows is an old copy, whoever shows it: nobody else can make one. The key of the MAC is in the database,
not in backups of it, and a restore draws another, so that receipts of before prove nothing afterwards.
"""

import struct

from cpns.crypto.compare import equal
from cpns.crypto.hmac import hmac_sha256
from cpns.names import lp

KEY_LEN = 16
_FORM = ">IH"
_MAC_LEN = 8


def make(key: bytes, pne_id: str, sg_id: str, version: int, generation: int) -> bytes:
    """Return the receipt, 14 octets, for a PNE: the store knows this version and this generation (0: none yet)."""
    said = struct.pack(_FORM, version, generation)
    return said + _mac(key, pne_id, sg_id, said)


def check(key: bytes, pne_id: str, sg_id: str, receipt: bytes) -> tuple[int, int] | None:
    """Return (version, generation) of a receipt that was made under this key for these names, else None."""
    said, mac = receipt[: struct.calcsize(_FORM)], receipt[struct.calcsize(_FORM) :]
    if not key or len(mac) != _MAC_LEN or not equal(mac, _mac(key, pne_id, sg_id, said)):
        return None
    version, generation = struct.unpack(_FORM, said)
    return version, generation


def _mac(key: bytes, pne_id: str, sg_id: str, said: bytes) -> bytes:
    return hmac_sha256(key, b"keycast/receipt/1" + lp(pne_id) + lp(sg_id), said)[:_MAC_LEN]
