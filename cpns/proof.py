"""The proof in a GroupKeyDeliveryResponse: this slot opened this Group Key (docs/protocol.md section 7, SEC-14)."""

import struct

from cpns.crypto.hkdf import hkdf
from cpns.crypto.hmac import hmac_sha256
from cpns.names import lp


def confirmation(report_key, generation, slot, version, result, pn_id, sg_id, group_key):
    """Return the 8 octets that only the PNE of `slot` and its PN GW can compute.

    `report_key` is `GkdkRecord.report_key()` at the PNE, `TreeKeys.report_key(slot)` at the PN GW; `result` is one of
    `numbers.RESULT_*`. Compare with `cpns.crypto.compare.equal`.
    """
    names = struct.pack(">HIIB", generation, slot, version, int(result)) + lp(pn_id) + lp(sg_id)
    return hmac_sha256(report_key, names, hkdf(group_key, b"keycast/ack/1", 16))[:8]
