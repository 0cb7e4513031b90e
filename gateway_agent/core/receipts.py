"""Receipts: proofs of what this PN GW's store knew, which PNEs keep for it (SEC-02, SEC-34).

A receipt = version u32 ‖ generation u16 ‖ MAC (8) proves that the store knew this version of a Service Group and this
generation of the tree. It is made for one PNE, which keeps it without reading it and shows it with each pull. Only this
PN GW can make its receipts: a store that is shown one for more than it knows is an old copy. The key of the MAC is in
the database, not in backups of it. A restore draws a new key, so earlier receipts prove nothing afterwards.
"""

import struct

from cpns.crypto.compare import equal
from cpns.crypto.hmac import hmac_sha256
from cpns.names import lp

KEY_LEN = 16
_FORM = ">IH"
_MAC_LEN = 8


def make(key: bytes, pne_id: str, sg_id: str, version: int, generation: int) -> bytes:
    """Return the receipt, 14 octets, that shows a PNE this version and this generation (0: none yet)."""
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
