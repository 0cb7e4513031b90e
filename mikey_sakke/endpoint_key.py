"""The end-point-specific key of one user and one service, out of a GMK (SEAL-GMK-16, -28).

The texts name such a key without saying how it is made. Here: the last 16 octets of KDF(GMK, FC, service, user URI,
GUK-ID) with FC FF, which TS 33.220 leaves to private use. With it a user proves to the GMS that the GMK arrived.
"""

from mikey_sakke.kdf import hmac_sha256, kdf

SERVICE_GROUP_MANAGEMENT = "group-management"
PROOF_LEN = 16
_FC_PRIVATE = 0xFF


def endpoint_key(gmk, service, user_uri, guk_id):
    """Return the key, 16 octets. `service` names the service concerned; `guk_id` has 4 octets."""
    return kdf(gmk, _FC_PRIVATE, service.encode(), user_uri.encode(), guk_id)[-16:]


def proof(key, notice_id, gmk_id):
    """Return the 16 octets by which the holder of the end-point-specific key `key` confirms this notice and GMK-ID."""
    return hmac_sha256(key, b"keycast/notify-response/1" + gmk_id + notice_id.encode())[:PROOF_LEN]
